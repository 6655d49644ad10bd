//! How much one buyer, one address and one show may ask, told as draft-ietf-httpapi-ratelimit-headers
//! has it.
//!
//! A submission counts for its address, its buyer and its show, a repeated idempotency key too. All
//! else (reads, polls, paying, cancelling) counts for address and buyer in an allowance of its own
//! that is ten times as large: a buyer who polls at the pace of `Retry-After` never meets it, and a
//! buyer who met it can still submit.
//!
//! Memory is bounded: beyond [`KEYS_MAX`] keys, new ones share [`SHARED_SLOTS`] allowances.

use std::{
    fmt::Write,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponseParts, ResponseParts},
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use uuid::Uuid;

use crate::{
    buyer_tokens::BuyerId,
    error::{Code, Problem},
    settings::{Rate, Settings},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How many times more reads than submissions.
const READS: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// The most keys of a limit that have an allowance of their own: about 50 MB for all limits.
const KEYS_MAX: usize = 250_000;

/// How many allowances are shared by those that come when the keys are full.
const SHARED_SLOTS: u64 = 4_096;

/// How often the number of keys is looked at; counting them visits every shard.
const CHECKS_PER_COUNT: u32 = 1_024;

/// All limits of one process. Each replica counts for itself.
pub struct RateLimits {
    submissions_by_address: Option<Limit>,
    submissions_by_buyer: Option<Limit>,
    submissions_by_show: Option<Limit>,
    reads_by_address: Option<Limit>,
    reads_by_buyer: Option<Limit>,
}

impl RateLimits {
    pub fn new(settings: &Settings) -> RateLimits {
        let limit = |name, rate| Limit::new(name, rate, KEYS_MAX);
        RateLimits {
            submissions_by_address: limit("address", settings.rate_address),
            submissions_by_buyer: limit("buyer", settings.rate_buyer),
            submissions_by_show: limit("show", settings.rate_show),
            reads_by_address: limit("address-reads", settings.rate_address.times(READS)),
            reads_by_buyer: limit("buyer-reads", settings.rate_buyer.times(READS)),
        }
    }

    /// Counts a submission.
    pub fn submission(
        &self,
        address: IpAddr,
        buyer_id: &BuyerId,
        show_id: Uuid,
    ) -> Result<Allowance, Problem> {
        let mut allowance = Allowance::default();
        allowance.take(&self.submissions_by_address, address)?;
        allowance.take(&self.submissions_by_buyer, buyer_id.as_str())?;
        allowance.take(&self.submissions_by_show, show_id)?;
        Ok(allowance)
    }

    /// Counts a new anonymous buyer, as a submission from the address.
    pub fn new_buyer(&self, address: IpAddr) -> Result<Allowance, Problem> {
        let mut allowance = Allowance::default();
        allowance.take(&self.submissions_by_address, address)?;
        Ok(allowance)
    }

    /// Counts anything else that a buyer does.
    pub fn read(&self, address: IpAddr, buyer_id: &BuyerId) -> Result<Allowance, Problem> {
        let mut allowance = Allowance::default();
        allowance.take(&self.reads_by_address, address)?;
        allowance.take(&self.reads_by_buyer, buyer_id.as_str())?;
        Ok(allowance)
    }

    /// Counts what anyone may read, and what operators do.
    pub fn public_read(&self, address: IpAddr) -> Result<Allowance, Problem> {
        let mut allowance = Allowance::default();
        allowance.take(&self.reads_by_address, address)?;
        Ok(allowance)
    }
}

/// What is left after a request was counted: its headers, from the limit that is nearest.
#[derive(Debug, Default)]
pub struct Allowance {
    nearest: Option<Left>,
}

#[derive(Debug)]
struct Left {
    policy: HeaderValue,
    name: &'static str,
    count: u32,
    remaining: u32,
    /// Until all is there again.
    reset_s: u64,
}

impl Allowance {
    fn take(&mut self, limit: &Option<Limit>, key: impl Hash) -> Result<(), Problem> {
        let Some(limit) = limit else { return Ok(()) };
        let left = limit.take(key)?;
        let nearer = |nearest: &Left| {
            u64::from(left.remaining) * u64::from(nearest.count)
                < u64::from(nearest.remaining) * u64::from(left.count)
        };
        if self.nearest.as_ref().is_none_or(nearer) {
            self.nearest = Some(left);
        }
        Ok(())
    }
}

impl IntoResponseParts for Allowance {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        if let Some(left) = self.nearest {
            let (name, value) = left.header();
            parts.headers_mut().insert(name, value);
            parts.headers_mut().insert(RATE_LIMIT_POLICY, left.policy);
        }
        Ok(parts)
    }
}

impl Left {
    fn header(&self) -> (HeaderName, HeaderValue) {
        let mut text = String::with_capacity(32);
        write!(
            text,
            "\"{}\";r={};t={}",
            self.name, self.remaining, self.reset_s
        )
        .expect("a string takes all");
        let value = HeaderValue::try_from(text).expect("names and numbers are visible ASCII");
        (RATE_LIMIT, value)
    }
}

type Allowances =
    RateLimiter<u64, DashMapStateStore<u64>, DefaultClock, StateInformationMiddleware>;

/// One limit, with an allowance for each key.
struct Limit {
    name: &'static str,
    policy: HeaderValue,
    allowances: Allowances,
    /// Keys are kept as a hash with a secret seed: small, and nobody can choose to share.
    hasher: RandomState,
    keys_max: usize,
    checks: AtomicU32,
    full: AtomicBool,
}

impl Limit {
    /// `None` when there is no limit.
    fn new(name: &'static str, rate: Rate, keys_max: usize) -> Option<Limit> {
        let Rate::Per { count, seconds } = rate else {
            return None;
        };
        let one_per = Duration::from_secs(u64::from(seconds.get())) / count.get();
        let quota = Quota::with_period(one_per.max(Duration::from_nanos(1)))?.allow_burst(count);
        let policy = HeaderValue::try_from(format!("\"{name}\";q={count};w={seconds}"))
            .expect("names and numbers are visible ASCII");
        let allowances = RateLimiter::dashmap(quota).with_middleware();
        Some(Limit {
            name,
            policy,
            allowances,
            hasher: RandomState::new(),
            keys_max,
            checks: AtomicU32::new(0),
            full: AtomicBool::new(false),
        })
    }

    fn take(&self, key: impl Hash) -> Result<Left, Problem> {
        let checks = self.checks.fetch_add(1, Ordering::Relaxed);
        if checks.is_multiple_of(CHECKS_PER_COUNT) {
            self.count_keys();
        }
        let mut key = self.hasher.hash_one(key);
        if self.full.load(Ordering::Relaxed) {
            key %= SHARED_SLOTS;
        }
        match self.allowances.check_key(&key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let count = state.quota().burst_size().get();
                let used = count.saturating_sub(remaining);
                let reset = state.quota().replenish_interval() * used;
                Ok(self.left(count, remaining, reset))
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                let count = not_until.quota().burst_size().get();
                let reset = not_until.quota().replenish_interval() * count;
                Err(self.refuse(wait, self.left(count, 0, reset)))
            }
        }
    }

    /// Forgets the keys whose allowance is whole again, and sees whether too many remain.
    fn count_keys(&self) {
        if self.allowances.len() >= self.keys_max {
            self.allowances.retain_recent();
        }
        self.full
            .store(self.allowances.len() >= self.keys_max, Ordering::Relaxed);
    }

    fn left(&self, count: u32, remaining: u32, reset: Duration) -> Left {
        Left {
            policy: self.policy.clone(),
            name: self.name,
            count,
            remaining,
            reset_s: whole_seconds(reset),
        }
    }

    fn refuse(&self, wait: Duration, left: Left) -> Problem {
        let (name, value) = left.header();
        Problem::new(
            Code::RateLimited,
            format!("the limit `{}` is reached", self.name),
        )
        .header(
            header::RETRY_AFTER,
            HeaderValue::from(whole_seconds(wait).max(1)),
        )
        .header(RATE_LIMIT_POLICY, left.policy)
        .header(name, value)
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1_000) as u64
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::error::write_problem;

    fn limit(rate: &str, keys_max: usize) -> Limit {
        Limit::new("buyer", rate.parse().unwrap(), keys_max).unwrap()
    }

    #[test]
    fn a_burst_is_allowed_and_one_more_is_not() {
        let limit = limit("5/3600", 100);
        let remaining: Vec<u32> = (0..5)
            .map(|_| limit.take("ada").unwrap().remaining)
            .collect();
        assert_eq!(remaining, [4, 3, 2, 1, 0]);
        assert!(limit.take("ada").is_err());
        assert!(limit.take("bob").is_ok());
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let limit = limit("2/60", 100);
        limit.take("ada").unwrap();
        limit.take("ada").unwrap();
        let refused = limit.take("ada").unwrap_err();
        assert_eq!(refused.code(), Code::RateLimited);
        let response = write_problem(refused.into_response(), Uuid::nil());
        assert_eq!(response.status(), 429);
        let headers = response.headers();
        assert_eq!(headers["ratelimit-policy"], "\"buyer\";q=2;w=60");
        assert_eq!(headers["ratelimit"], "\"buyer\";r=0;t=60");
        let wait: u32 = headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((29..=30).contains(&wait), "{wait}");
    }

    #[test]
    fn the_headers_tell_of_the_nearest_limit() {
        let (wide, narrow) = (Some(limit("100/60", 100)), Some(limit("2/60", 100)));
        let mut allowance = Allowance::default();
        allowance.take(&wide, 1).unwrap();
        allowance.take(&narrow, 1).unwrap();
        allowance.take(&wide, 1).unwrap();
        let response = (allowance, "").into_response();
        assert_eq!(response.headers()["ratelimit"], "\"buyer\";r=1;t=30");
    }

    #[test]
    fn memory_is_bounded_and_newcomers_are_still_limited() {
        let limit = limit("2/3600", 10_000);
        for key in 0..200_000_u32 {
            limit.take(key).ok();
        }
        let bound = 10_000 + CHECKS_PER_COUNT as usize + SHARED_SLOTS as usize;
        assert!(
            limit.allowances.len() <= bound,
            "{}",
            limit.allowances.len()
        );
        assert!((0..10).any(|_| limit.take("newcomer").is_err()));
    }

    #[test]
    fn keys_whose_allowance_is_whole_again_are_forgotten() {
        let limit = limit("1000/1", 1_000);
        for key in 0..5_000_u32 {
            limit.take(key).ok();
        }
        std::thread::sleep(Duration::from_millis(20));
        limit.count_keys();
        assert!(!limit.full.load(Ordering::Relaxed));
        assert_eq!(limit.allowances.len(), 0);
    }

    #[test]
    fn off_means_no_limit_and_no_headers() {
        assert!(Limit::new("buyer", Rate::Off, 100).is_none());
        let mut allowance = Allowance::default();
        allowance.take(&None, 1).unwrap();
        assert!(
            (allowance, "")
                .into_response()
                .headers()
                .get("ratelimit")
                .is_none()
        );
    }
}
