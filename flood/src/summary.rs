//! What a flood comes to: totals, rates, latencies, and their course over time.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    checker::Violation,
    figures::{Decided, End, Latencies, Percentiles, Record, Submission},
    plan::Plan,
    series::Series,
    takings::Takings,
};

/// All that the reports show.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub target: String,
    pub show_id: Uuid,
    pub began_at: DateTime<Utc>,
    /// From the first arrival to the end of the last buyer.
    pub seconds: f64,
    pub submitted: u64,
    pub accepted: u64,
    /// Accepted requests whose outcome the buyer was told.
    pub decided: u64,
    pub held: u64,
    pub rejected: u64,
    /// Left the line before their turn.
    pub left: u64,
    pub quarantined: u64,
    pub confirmed: u64,
    pub cancelled: u64,
    pub abandoned: u64,
    pub expired: u64,
    /// Requests that the server refused to take, by code.
    pub refused: BTreeMap<String, u64>,
    /// Buyers who never learned whether they were accepted, by their last failure.
    pub gave_up: BTreeMap<String, u64>,
    /// Outcomes by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Calls that were tried again, by what was wrong.
    pub retries: BTreeMap<String, u64>,
    /// Accepted, but not decided. Must be 0.
    pub lost: u64,
    /// Decided, but the buyer's patience ended before they learned it.
    pub untold: u64,
    /// In the log, although the buyer gave up before the 202 came.
    pub unacknowledged: Option<u64>,
    pub violations: Vec<Violation>,
    /// `None` when nobody paid.
    pub payments: Option<Takings>,
    /// Whether the rows were checked, or only the API's answers.
    pub database_checked: bool,
    /// 202s by the time from the first arrival to the last 202.
    pub accepted_per_s: f64,
    /// Outcomes by the time from the first acceptance to the last decision, on the server's clock.
    pub decided_per_s: f64,
    /// From the intended start to the 202.
    pub submit_ms: Percentiles,
    /// From the intended start until the buyer was told the outcome.
    pub outcome_ms: Percentiles,
    /// Of the try that was answered with the 202: from the first byte sent.
    pub service_ms: Percentiles,
    /// From the acceptance to the decision, on the server's clock.
    pub decide_ms: Percentiles,
    pub config: Plan,
    pub series: Series,
}

impl Summary {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.lost == 0 && self.mismatches() == 0
    }

    /// Between our payments and the gateway's ledger.
    pub fn mismatches(&self) -> u64 {
        let payments = self.payments.as_ref();
        payments.and_then(|it| it.mismatches).unwrap_or_default()
    }

    /// Counts what the records say; what only the checker knows is filled in by the caller.
    pub fn new(
        records: &[Record],
        config: Plan,
        target: String,
        show_id: Uuid,
        began_at: DateTime<Utc>,
    ) -> Summary {
        let count =
            |is: fn(&Record) -> bool| records.iter().filter(|record| is(record)).count() as u64;
        let outcome = |state| {
            let is = |record: &&Record| record.outcome.as_ref().is_some_and(|it| it.state == state);
            records.iter().filter(is).count() as u64
        };
        let accepted = count(|record| record.accepted_at().is_some());
        let decided = count(|record| record.outcome.is_some());
        let last_accepted = records
            .iter()
            .filter_map(Record::accepted_at)
            .max()
            .unwrap_or_default();
        let first = records
            .iter()
            .map(|record| record.intended)
            .min()
            .unwrap_or_default();
        let end = records.iter().map(end_of).max().unwrap_or_default();
        Summary {
            target,
            show_id,
            began_at,
            seconds: end.as_secs_f64(),
            submitted: records.len() as u64,
            accepted,
            decided,
            held: outcome(Decided::Held),
            rejected: outcome(Decided::Rejected),
            left: outcome(Decided::Left),
            quarantined: outcome(Decided::Quarantined),
            confirmed: count(|record| matches!(record.end, End::Confirmed(_))),
            cancelled: count(|record| record.end == End::Cancelled),
            abandoned: count(|record| matches!(record.end, End::Abandoned | End::WentAway)),
            expired: count(|record| record.end == End::Expired),
            refused: tally(records, |record| match &record.submission {
                Submission::Refused(code) => Some(code),
                _ => None,
            }),
            gave_up: tally(records, |record| match &record.submission {
                Submission::GaveUp(code) => Some(code),
                _ => None,
            }),
            reasons: tally(records, |record| record.outcome.as_ref()?.reason.as_ref()),
            retries: BTreeMap::new(),
            lost: 0,
            untold: accepted - decided,
            unacknowledged: None,
            violations: Vec::new(),
            payments: None,
            database_checked: false,
            accepted_per_s: per_second(accepted, last_accepted.saturating_sub(first)),
            decided_per_s: per_second(decided, deciding_time(records)),
            submit_ms: latencies(records, |record| {
                Some(record.accepted_at()?.saturating_sub(record.intended))
            }),
            outcome_ms: latencies(records, |record| {
                Some(record.outcome.as_ref()?.at.saturating_sub(record.intended))
            }),
            service_ms: latencies(records, |record| record.service()),
            decide_ms: latencies(records, |record| {
                let outcome = record.outcome.as_ref()?;
                (outcome.decided_at - outcome.accepted_at).to_std().ok()
            }),
            config,
            series: Series::new(records, began_at, end),
        }
    }
}

/// When a buyer was through, as far as it was measured.
fn end_of(record: &Record) -> Duration {
    let told = record.outcome.as_ref().map(|outcome| outcome.at);
    told.or(record.accepted_at()).unwrap_or(record.intended)
}

fn tally<'a>(
    records: &'a [Record],
    word: impl Fn(&'a Record) -> Option<&'a String>,
) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for word in records.iter().filter_map(word) {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.clone(), 1)),
        }
    }
    counts
}

fn latencies(records: &[Record], of: impl Fn(&Record) -> Option<Duration>) -> Percentiles {
    records
        .iter()
        .filter_map(of)
        .collect::<Latencies>()
        .percentiles()
}

/// From the first acceptance to the last decision.
fn deciding_time(records: &[Record]) -> Duration {
    let outcomes = || records.iter().filter_map(|record| record.outcome.as_ref());
    let first = outcomes().map(|outcome| outcome.accepted_at).min();
    let last = outcomes().map(|outcome| outcome.decided_at).max();
    match (first, last) {
        (Some(first), Some(last)) => (last - first).to_std().unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// 0 when there was no time to measure.
fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        arrivals::{Arrivals, Shape},
        figures::Outcome,
        hall::HallPlan,
        plan::Model,
        wants::{Ask, Habits, Mix},
    };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    pub fn plan() -> Plan {
        Plan {
            seed: 1,
            model: Model::Open(Arrivals {
                shape: Shape::Constant,
                rate: 100.0,
                requests: 1000,
            }),
            habits: Habits {
                mix: Mix {
                    seats: 1,
                    best: 1,
                    general: 1,
                },
                fallback: 0.0,
                heat: 0.0,
                stingy: 0.0,
                returning: 0.0,
                replay: 0.0,
                ask: Ask::AtOnce,
                leave: 0.0,
                confirm: 1.0,
                cancel: 0.0,
                pay: None,
            },
            hall: HallPlan {
                seats: 100,
                sections: 1,
                floor: 0,
                buyer_limit: 8,
                hold_seconds: 600,
                queue_limit: 1000,
            },
            connections: 8,
            pollers: 8,
            patience: Duration::from_secs(1),
            server: None,
        }
    }

    /// A thousand requests, one each 10 ms: accepted 5 ms, decided 20 ms and told 25 ms later.
    pub fn records() -> Vec<Record> {
        let began_at = DateTime::UNIX_EPOCH;
        (0..1000)
            .map(|index| {
                let intended = ms(10 * index);
                Record {
                    index,
                    intended,
                    submission: Submission::Accepted {
                        id: Uuid::from_u128(index.into()),
                        position: index as i64 + 1,
                        at: intended + ms(5),
                        service: ms(4),
                    },
                    outcome: Some(Outcome {
                        state: Decided::Rejected,
                        reason: Some("seats_taken".to_owned()),
                        hold: None,
                        accepted_at: began_at + intended + ms(5),
                        decided_at: began_at + intended + ms(20),
                        at: intended + ms(25),
                    }),
                    payments: Vec::new(),
                    end: End::None,
                }
            })
            .collect()
    }

    pub fn takings() -> Takings {
        Takings {
            captured: 90,
            declined: 8,
            voided: 2,
            mismatches: Some(0),
            paid_per_s: 12.5,
            pay_ms: Percentiles {
                p50: 5.0,
                p90: 6.0,
                p99: 7.0,
                max: 8.0,
            },
            ..Takings::default()
        }
    }

    pub fn summary() -> Summary {
        let target = "http://127.0.0.1:1".to_owned();
        Summary::new(
            &records(),
            plan(),
            target,
            Uuid::nil(),
            DateTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn totals_and_rates_are_those_of_the_records() {
        let summary = summary();
        assert_eq!(
            (summary.submitted, summary.accepted, summary.decided),
            (1000, 1000, 1000)
        );
        assert_eq!(
            (summary.held, summary.rejected, summary.untold),
            (0, 1000, 0)
        );
        assert_eq!(summary.reasons["seats_taken"], 1000);
        assert!(
            (summary.accepted_per_s - 100.0).abs() < 1.0,
            "{}",
            summary.accepted_per_s
        );
        assert!(
            (summary.decided_per_s - 100.0).abs() < 1.0,
            "{}",
            summary.decided_per_s
        );
    }

    #[test]
    fn latencies_count_from_the_intended_start() {
        let summary = summary();
        for (percentiles, expected) in [
            (summary.submit_ms, 5.0),
            (summary.service_ms, 4.0),
            (summary.outcome_ms, 25.0),
            (summary.decide_ms, 15.0),
        ] {
            assert!(
                (percentiles.p50 - expected).abs() < 0.05,
                "{percentiles:?}, not {expected}"
            );
        }
    }

    #[test]
    fn no_records_give_a_summary_of_nothing() {
        let summary = Summary::new(
            &[],
            plan(),
            String::new(),
            Uuid::nil(),
            DateTime::UNIX_EPOCH,
        );
        assert_eq!((summary.submitted, summary.accepted_per_s), (0, 0.0));
        assert!(summary.is_clean());
    }
}
