//! Place in line, estimates, and the pace to poll at.
//!
//! All of it is said to buyers, so it errs on the honest side: what is not known is `None`, never a
//! guess.

use std::time::Duration;

use super::Position;

/// After so many decided requests, what was measured before them counts half in [`smooth_rate`].
pub const RATE_HALF_LIFE: f64 = 2_000.0;

/// The shortest and the longest wait that [`retry_after`] says.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How much longer than its base a pace can get by jitter.
const JITTER_SHARE: f64 = 0.25;

/// The pace while the estimate is unknown: a second more for so many places.
const PLACES_PER_SECOND_UNKNOWN: f64 = 1_000.0;

/// How many requests are decided until this one is, itself included: 1 at the head, 0 once decided.
pub fn place_in_line(position: Position, decided_through: Position) -> i64 {
    position.saturating_sub(decided_through).max(0)
}

/// Decided requests per second after one more turn.
///
/// `elapsed` is the time that the turn cost the line: from the commit of the turn before, or from
/// this turn's own begin if the line was empty then.
///
/// It is an exponential moving average of the *time per request*, weighted by requests: all turns
/// of the past are `sum(elapsed)` by `sum(decided)`, and each half-life of [`RATE_HALF_LIFE`] requests
/// halves what lies before it. A turn of one request therefore counts for one request, although
/// most of its time is the fixed cost of a turn; and after a quiet hour of such turns a burst is
/// estimated well after a few full turns, however short they are. A turn that decided nothing
/// changes nothing. 0 means not known.
pub fn smooth_rate(previous: Option<f64>, decided: u32, elapsed: Duration) -> f64 {
    let previous = previous.filter(|rate| rate.is_finite() && *rate > 0.0);
    if decided == 0 {
        return previous.unwrap_or(0.0);
    }
    let decided = f64::from(decided);
    let seconds_each = elapsed.max(Duration::from_micros(1)).as_secs_f64() / decided;
    let Some(previous) = previous else {
        return 1.0 / seconds_each;
    };
    let kept = (-decided / RATE_HALF_LIFE).exp2();
    1.0 / (kept / previous + (1.0 - kept) * seconds_each)
}

/// How long until the request at this place is decided. `None` while the sale is paused and while no
/// rate is known; zero for a request that is decided.
pub fn eta(place: i64, decided_per_s: Option<f64>, paused: bool) -> Option<Duration> {
    if place <= 0 {
        return Some(Duration::ZERO);
    }
    if paused {
        return None;
    }
    let rate = decided_per_s.filter(|rate| *rate > 0.0)?;
    Duration::try_from_secs_f64(place as f64 / rate).ok()
}

/// How long a waiting buyer should leave until the next poll: between [`RETRY_AFTER_MIN`] and
/// [`RETRY_AFTER_MAX`], never shorter for a request further from the head.
///
/// Half of the estimated wait, so that the polls get closer together as the turn comes closer; where
/// the estimate is unknown, by the place alone. `jitter` (0 to 1, random for each answer) adds up
/// to a quarter, so that those who were accepted together do not come back together.
pub fn retry_after(place: i64, eta: Option<Duration>, jitter: f64) -> Duration {
    let seconds = match eta {
        Some(eta) => eta.as_secs_f64() / 2.0,
        None => place as f64 / PLACES_PER_SECOND_UNKNOWN,
    };
    let longest = RETRY_AFTER_MAX.as_secs_f64() / (1.0 + JITTER_SHARE);
    let base = seconds.clamp(RETRY_AFTER_MIN.as_secs_f64(), longest);
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.0
    };
    Duration::from_secs_f64(base * (1.0 + JITTER_SHARE * jitter))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(mut rate: Option<f64>, count: u32, decided: u32, each: Duration) -> f64 {
        for _ in 0..count {
            rate = Some(smooth_rate(rate, decided, each));
        }
        rate.expect("at least one turn")
    }

    fn about(rate: f64, expected: f64) -> bool {
        (rate / expected - 1.0).abs() < 0.05
    }

    #[test]
    fn the_next_request_to_be_decided_has_place_1_and_a_decided_one_0() {
        assert_eq!(place_in_line(8, 7), 1);
        assert_eq!(place_in_line(1_000_000, 0), 1_000_000);
        assert_eq!(place_in_line(7, 7), 0);
        assert_eq!(place_in_line(3, 7), 0);
        assert_eq!(place_in_line(1, i64::MAX), 0);
    }

    #[test]
    fn the_first_turn_is_the_first_estimate() {
        assert!(about(
            smooth_rate(None, 500, Duration::from_millis(10)),
            50_000.0
        ));
        for unusable in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(about(
                smooth_rate(Some(unusable), 500, Duration::from_millis(10)),
                50_000.0
            ));
        }
    }

    #[test]
    fn a_half_life_of_requests_halves_the_past() {
        // 1 ms each before, 3 ms each now: 2 ms each is half and half.
        let after = smooth_rate(Some(1_000.0), RATE_HALF_LIFE as u32, Duration::from_secs(6));
        assert!(about(after, 500.0));
    }

    #[test]
    fn one_turn_and_the_same_turn_in_parts_count_the_same() {
        let whole = smooth_rate(Some(10_000.0), 1_000, Duration::from_millis(500));
        let parts = turns(Some(10_000.0), 10, 100, Duration::from_millis(50));
        assert!(about(parts, whole));
    }

    #[test]
    fn a_tiny_turn_hardly_moves_the_rate() {
        let after = smooth_rate(Some(50_000.0), 1, Duration::from_millis(2));
        assert!(after > 45_000.0 && after < 50_000.0);
        assert!(smooth_rate(Some(50_000.0), 1, Duration::ZERO) < 52_000.0);
    }

    #[test]
    fn a_burst_after_a_quiet_hour_is_estimated_well_within_a_quarter_second() {
        let quiet = turns(None, 10_000, 1, Duration::from_millis(2));
        assert!(about(quiet, 500.0));
        let burst = turns(Some(quiet), 50, 500, Duration::from_millis(5));
        assert!(burst > 80_000.0 && burst < 100_000.0, "{burst}");
    }

    #[test]
    fn a_turn_that_decided_nothing_changes_nothing() {
        assert_eq!(smooth_rate(Some(123.0), 0, Duration::from_secs(9)), 123.0);
        assert_eq!(smooth_rate(None, 0, Duration::from_secs(9)), 0.0);
    }

    #[test]
    fn an_estimate_is_place_by_rate() {
        assert_eq!(
            eta(500, Some(1_000.0), false),
            Some(Duration::from_millis(500))
        );
        assert_eq!(eta(0, None, true), Some(Duration::ZERO));
    }

    #[test]
    fn an_estimate_is_unknown_when_paused_or_without_a_rate() {
        assert_eq!(eta(5, Some(1_000.0), true), None);
        for rate in [
            None,
            Some(0.0),
            Some(-1.0),
            Some(f64::NAN),
            Some(f64::MIN_POSITIVE),
        ] {
            assert_eq!(eta(5, rate, false), None);
        }
    }

    #[test]
    fn the_head_polls_each_second_and_the_far_end_each_half_minute() {
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(retry_after(1, Some(Duration::ZERO), 0.0), RETRY_AFTER_MIN);
        assert_eq!(retry_after(1, None, 0.0), RETRY_AFTER_MIN);
        assert_eq!(retry_after(1_000_000, hour, 1.0), RETRY_AFTER_MAX);
        assert_eq!(retry_after(1_000_000, None, 1.0), RETRY_AFTER_MAX);
        assert_eq!(
            retry_after(1, Some(Duration::from_secs(20)), 0.0),
            Duration::from_secs(10)
        );
    }

    #[test]
    fn jitter_spreads_the_far_end_too() {
        let hour = Some(Duration::from_secs(3600));
        assert!(retry_after(9, hour, 0.9) - retry_after(9, hour, 0.1) > Duration::from_secs(4));
        assert_eq!(retry_after(9, hour, f64::NAN), retry_after(9, hour, 0.0));
        assert_eq!(retry_after(9, hour, 7.0), retry_after(9, hour, 1.0));
    }

    proptest! {
        #[test]
        fn a_rate_stays_between_what_was_and_what_is(
            previous in 0.1..1e6, decided in 1..100_000_u32, ms in 1..100_000_u64,
        ) {
            let elapsed = Duration::from_millis(ms);
            let now = f64::from(decided) / elapsed.as_secs_f64();
            let after = smooth_rate(Some(previous), decided, elapsed);
            prop_assert!(after >= previous.min(now) * 0.999 && after <= previous.max(now) * 1.001);
        }

        #[test]
        fn a_request_further_back_never_polls_more_often(
            near in 0..2_000_000_i64, far in 0..2_000_000_i64,
            rate in proptest::option::of(0.1..1e6), paused: bool, jitter in 0.0..1.0,
        ) {
            let pace = |place| retry_after(place, eta(place, rate, paused), jitter);
            let (near, far) = (near.min(far), near.max(far));
            prop_assume!(near > 0);
            prop_assert!(pace(near) <= pace(far));
            prop_assert!(pace(near) >= RETRY_AFTER_MIN && pace(far) <= RETRY_AFTER_MAX);
        }
    }
}
