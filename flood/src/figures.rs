//! What a flood counts while it runs, and what it keeps of each request for the accounts afterwards.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use serde::Serialize;
use uuid::Uuid;

use crate::calls::HoldAnswer;

/// Live counters, for the progress bar.
#[derive(Debug, Default)]
pub struct Counters {
    pub submitted: AtomicU64,
    pub accepted: AtomicU64,
    pub answered: AtomicU64,
    pub ended: AtomicU64,
    retries: Mutex<BTreeMap<String, u64>>,
}

impl Counters {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_retry(&self, code: &str) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        match retries.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(retries.insert(code.to_owned(), 1)),
        }
    }

    /// How often calls were tried again, by what was wrong.
    pub fn retries(&self) -> BTreeMap<String, u64> {
        self.retries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// One request from the arrival of its buyer to the end. Times count from the flood's beginning.
#[derive(Debug)]
pub struct Record {
    pub index: u64,
    pub intended: Duration,
    pub submission: Submission,
    pub outcome: Option<Outcome>,
    /// Tries to pay for the hold, in their order.
    pub payments: Vec<Payment>,
    pub end: End,
}

#[derive(Debug)]
pub enum Submission {
    Accepted {
        id: Uuid,
        position: i64,
        /// When the 202 came.
        at: Duration,
        /// How long the server took for it.
        service: Duration,
    },
    /// The server said no, by the code of its problem.
    Refused(String),
    /// Out of patience; it may or may not have been accepted.
    GaveUp(String),
}

/// What the buyer was told.
#[derive(Debug)]
pub struct Outcome {
    pub state: Decided,
    pub reason: Option<String>,
    pub hold: Option<Box<HoldAnswer>>,
    pub accepted_at: DateTime<Utc>,
    pub decided_at: DateTime<Utc>,
    /// When it was told.
    pub at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    Held,
    Rejected,
    /// The buyer left the line before their turn.
    Left,
    Quarantined,
}

/// What the buyer then did with a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There was none.
    None,
    Confirmed(Uuid),
    Cancelled,
    Abandoned,
    /// The buyer went away in the middle of a payment.
    WentAway,
    /// The money was taken and given back.
    Refunded,
    /// Expired before the buyer confirmed or cancelled.
    Expired,
    /// Out of patience.
    Unknown,
}

/// A try to pay, as its buyer saw it.
#[derive(Debug, Clone)]
pub struct Payment {
    /// `None` when its buyer did not learn it.
    pub id: Option<Uuid>,
    pub told: Told,
    /// The card is one at which the gateway hangs.
    pub hangs: bool,
    /// From the first try of the call until the end was told.
    pub took: Duration,
}

/// What the buyer was told of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Paid, with this booking.
    Booked(Uuid),
    Declined,
    /// Nothing was charged, and the hold is over.
    Expired,
    /// Nothing was charged, for another reason.
    NotCharged,
    /// The money was taken and goes back.
    Refunded,
    /// The buyer has a further step left.
    Waits,
    /// The end was not told: the buyer went away, or ran out of patience.
    Nothing,
}

impl Record {
    pub fn accepted_at(&self) -> Option<Duration> {
        match self.submission {
            Submission::Accepted { at, .. } => Some(at),
            _ => None,
        }
    }

    pub fn service(&self) -> Option<Duration> {
        match self.submission {
            Submission::Accepted { service, .. } => Some(service),
            _ => None,
        }
    }

    pub fn request(&self) -> Option<(Uuid, i64)> {
        match self.submission {
            Submission::Accepted { id, position, .. } => Some((id, position)),
            _ => None,
        }
    }
}

/// Percentiles in milliseconds, to a microsecond and three digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// Latencies, recorded in microseconds.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new(3).expect("three digits are allowed"))
    }
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) {
        // It grows with the values; an hour is enough for what has a patience of minutes.
        let micros = latency.min(LATENCY_MAX).as_micros() as u64;
        self.0.record(micros).expect("the histogram resizes itself");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All 0 when nothing was recorded.
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: self.0.max() as f64 / 1000.0,
        }
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<T: IntoIterator<Item = Duration>>(durations: T) -> Latencies {
        let mut latencies = Latencies::default();
        for duration in durations {
            latencies.record(duration);
        }
        latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let latencies: Latencies = (1..=1000).map(Duration::from_millis).collect();
        let Percentiles { p50, p90, p99, max } = latencies.percentiles();
        for (value, expected) in [(p50, 500.0), (p90, 900.0), (p99, 990.0), (max, 1000.0)] {
            assert!(
                (value / expected - 1.0_f64).abs() < 0.002,
                "{value} is not {expected}"
            );
        }
    }

    #[test]
    fn nothing_recorded_is_all_zero() {
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }
}
