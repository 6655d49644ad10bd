//! The checker: whether the database kept every promise, and whether buyers were told the truth.
//!
//! [`check`] needs only a show and may run at any time, also under load. [`check_drained`] adds that
//! nobody waits any more. [`compare`] holds what each buyer of a flood was told against the rows.

use std::{collections::HashMap, fmt};

use serde::Serialize;
use sqlx::PgPool;
use stampede_shared::store::check::{self, Account};
use uuid::Uuid;

use crate::{
    figures::{Decided, End, Outcome, Record, Submission},
    hall::Hall,
    wants::Want,
};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The promise, such as `no_seat_twice`.
    pub rule: &'static str,
    /// What was found.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

/// The rows of the log that are read at a time.
const PAGE: i64 = 5_000;

/// The most differences that are named.
const DIFFERENCES_MAX: usize = 100;

/// What is always true of a show. At most [`check::BREACHES_MAX`] violations of each rule.
pub async fn check(db: &PgPool, show_id: Uuid) -> sqlx::Result<Vec<Violation>> {
    let breaches = [
        (
            "no_seat_twice",
            check::seats_taken_twice(db, show_id).await?,
        ),
        (
            "seats_equal_holds",
            check::seats_unlike_holds(db, show_id).await?,
        ),
        (
            "holds_equal_their_seats",
            check::holds_unlike_their_seats(db, show_id).await?,
        ),
        (
            "section_counters_equal_holds",
            check::sections_unlike_holds(db, show_id).await?,
        ),
        (
            "buyer_totals_equal_holds_within_limit",
            check::buyers_unlike_holds(db, show_id).await?,
        ),
        (
            "positions_without_gaps",
            check::positions_with_gaps(db, show_id).await?,
        ),
        (
            "one_request_per_key",
            check::keys_accepted_twice(db, show_id).await?,
        ),
        (
            "one_outcome_per_position",
            check::outcomes_not_one_each(db, show_id).await?,
        ),
        (
            "no_outcome_ahead_of_the_line",
            check::outcomes_ahead_of_the_line(db, show_id).await?,
        ),
        (
            "outcomes_in_order",
            check::outcomes_out_of_order(db, show_id).await?,
        ),
        (
            "holds_equal_outcomes",
            check::holds_unlike_outcomes(db, show_id).await?,
        ),
        (
            "totals_equal_prices",
            check::totals_wrong(db, show_id).await?,
        ),
        (
            "bookings_equal_confirmed_holds",
            check::bookings_unlike_holds(db, show_id).await?,
        ),
    ];
    let violation = |rule, detail| Violation { rule, detail };
    let named = breaches.into_iter().flat_map(|(rule, breaches)| {
        breaches
            .into_iter()
            .map(move |detail| violation(rule, detail))
    });
    Ok(named.collect())
}

/// What is true of a show whose line was let run dry: [`check`], and nobody waits.
pub async fn check_drained(db: &PgPool, show_id: Uuid) -> sqlx::Result<Vec<Violation>> {
    let mut violations = check(db, show_id).await?;
    let (requests, first) = check::undecided(db, show_id).await?;
    if requests > 0 {
        let detail = format!("{requests} requests have no outcome, the first at {first:?}");
        violations.push(Violation {
            rule: "everyone_has_an_outcome",
            detail,
        });
    }
    Ok(violations)
}

/// How the buyers' accounts compare with the rows.
#[derive(Debug, Default)]
pub struct Comparison {
    pub violations: Vec<Violation>,
    /// Accepted, but without a row or without an outcome.
    pub lost: u64,
    /// In the log, although the buyer gave up before the 202 came.
    pub unacknowledged: u64,
}

/// Compares what the buyers of a flood were told with the rows. `buyer_id` gives a buyer's id by
/// number, `want` what a request asked for.
pub async fn compare(
    db: &PgPool,
    show_id: Uuid,
    hall: &Hall,
    records: &[Record],
    buyer_id: impl Fn(u64) -> String,
    want: impl Fn(u64) -> Want,
) -> sqlx::Result<Comparison> {
    let mut told: HashMap<Uuid, &Record> = HashMap::with_capacity(records.len());
    let mut comparison = Comparison::default();
    for record in records {
        if let Some((id, position)) = record.request()
            && told.insert(id, record).is_some()
        {
            let detail = format!("request {id} at {position} was given to two buyers");
            comparison.note("one_request_per_key", detail);
        }
    }
    let mut after = 0;
    loop {
        let page = check::accounts(db, show_id, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for account in &page {
            match told.remove(&account.request_id) {
                Some(record) => {
                    let want = want(record.index);
                    let buyer_id = buyer_id(want.buyer);
                    comparison.compare_one(account, record, &buyer_id, hall, &want);
                }
                None => comparison.unacknowledged += 1,
            }
        }
    }
    for record in told.into_values() {
        comparison.lost += 1;
        comparison.note(
            "accepted_is_kept",
            format!("{:?} is not in the log", record.submission),
        );
    }
    let gave_up = |record: &&Record| matches!(record.submission, Submission::GaveUp(_));
    let gave_up = records.iter().filter(gave_up).count() as u64;
    if comparison.unacknowledged > gave_up {
        let unknown = comparison.unacknowledged;
        let detail = format!("{unknown} requests in the log, but only {gave_up} may be unknown");
        comparison.note("one_request_per_key", detail);
    }
    Ok(comparison)
}

impl Comparison {
    fn note(&mut self, rule: &'static str, detail: String) {
        if self.violations.len() < DIFFERENCES_MAX {
            self.violations.push(Violation { rule, detail });
        }
    }

    fn compare_one(
        &mut self,
        account: &Account,
        record: &Record,
        buyer_id: &str,
        hall: &Hall,
        want: &Want,
    ) {
        if record.request() != Some((account.request_id, account.position)) {
            let detail = format!(
                "{:?} is at {} in the log",
                record.submission, account.position
            );
            self.note("position_never_changes", detail);
        }
        if account.buyer_id != buyer_id {
            let detail = format!(
                "{} is {}'s, not {buyer_id}'s",
                account.position, account.buyer_id
            );
            self.note("request_belongs_to_its_buyer", detail);
        }
        if account.state.is_none() {
            self.lost += 1;
        }
        if let Some(outcome) = &record.outcome {
            if !is_told_truly(account, outcome) {
                let detail = format!("told {outcome:?}, the rows say {account:?}");
                self.note("answers_equal_rows", detail);
            }
            if !is_kept_to(account, outcome, record.end) {
                let detail = format!(
                    "the buyer's hold is {:?}, the rows say {account:?}",
                    record.end
                );
                self.note("ends_equal_rows", detail);
            }
        }
        if let (Some(_), Some(quantity)) = (account.hold_id, account.quantity) {
            let section = account.section.as_deref();
            if !want.is_met_by(hall, section, &account.seats, quantity as usize) {
                self.note(
                    "holds_meet_wishes",
                    format!("asked {want:?}, the rows say {account:?}"),
                );
            }
        }
    }
}

/// Whether the outcome that the buyer was told is that of the rows.
fn is_told_truly(account: &Account, outcome: &Outcome) -> bool {
    let state = match outcome.state {
        Decided::Held => "held",
        Decided::Rejected => "rejected",
        Decided::Left => "cancelled",
        Decided::Quarantined => "quarantined",
    };
    let hold = match &outcome.hold {
        None => account.hold_id.is_none(),
        Some(told) => {
            let mut seats = told.seats.clone();
            seats.sort_unstable();
            account.hold_id == Some(told.id)
                && account.total == Some(told.total.amount)
                && account.quantity == Some(told.quantity)
                && account.section == told.section
                && account.seats == seats
        }
    };
    account.state.as_deref() == Some(state) && account.reason == outcome.reason && hold
}

/// Whether what the buyer was told about the end of the hold still holds.
fn is_kept_to(account: &Account, outcome: &Outcome, end: End) -> bool {
    let hold_state = account.hold_state.as_deref();
    match end {
        End::None => outcome.hold.is_none() && hold_state.is_none(),
        End::Confirmed(booking) => {
            hold_state == Some("confirmed") && account.booking_id == Some(booking)
        }
        End::Cancelled => hold_state == Some("cancelled"),
        End::Abandoned => matches!(hold_state, Some("held" | "expired")),
        End::Expired => hold_state == Some("expired"),
        End::Unknown => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::{
        calls::{HoldAnswer, Money},
        hall::HallPlan,
        wants::{Then, Wish},
    };

    fn hall() -> Hall {
        let plan = HallPlan {
            seats: 40,
            sections: 1,
            floor: 10,
            buyer_limit: 8,
            hold_seconds: 600,
            queue_limit: 1000,
        };
        Hall::new(&plan).unwrap()
    }

    fn want() -> Want {
        Want {
            buyer: 7,
            wishes: vec![Wish::Seats {
                section: 0,
                row: 0,
                first: 2,
                quantity: 2,
            }],
            max_total: None,
            replay: false,
            leave: false,
            then: Then::Confirm,
        }
    }

    fn account() -> Account {
        Account {
            position: 1,
            request_id: Uuid::from_u128(1),
            buyer_id: "buyer-7".to_owned(),
            accepted_at: DateTime::UNIX_EPOCH,
            state: Some("held".to_owned()),
            reason: None,
            decided_at: Some(DateTime::UNIX_EPOCH),
            hold_id: Some(Uuid::from_u128(2)),
            hold_state: Some("confirmed".to_owned()),
            quantity: Some(2),
            total: Some(19_000),
            section: None,
            seats: vec!["A1-3".to_owned(), "A1-4".to_owned()],
            booking_id: Some(Uuid::from_u128(3)),
        }
    }

    fn record() -> Record {
        let hold = HoldAnswer {
            id: Uuid::from_u128(2),
            seats: vec!["A1-4".to_owned(), "A1-3".to_owned()],
            section: None,
            quantity: 2,
            total: Money { amount: 19_000 },
        };
        Record {
            index: 0,
            intended: Duration::ZERO,
            sent: Duration::ZERO,
            submission: Submission::Accepted {
                id: Uuid::from_u128(1),
                position: 1,
                at: Duration::ZERO,
            },
            outcome: Some(Outcome {
                state: Decided::Held,
                reason: None,
                hold: Some(Box::new(hold)),
                accepted_at: DateTime::UNIX_EPOCH,
                decided_at: DateTime::UNIX_EPOCH,
                at: Duration::ZERO,
            }),
            end: End::Confirmed(Uuid::from_u128(3)),
        }
    }

    fn compared(account: &Account, record: &Record) -> (Vec<&'static str>, u64) {
        let mut comparison = Comparison::default();
        comparison.compare_one(account, record, "buyer-7", &hall(), &want());
        let rules = comparison
            .violations
            .iter()
            .map(|violation| violation.rule)
            .collect();
        (rules, comparison.lost)
    }

    #[test]
    fn an_account_that_is_true_is_found_true() {
        assert_eq!(compared(&account(), &record()), (vec![], 0));
    }

    #[test]
    fn every_lie_is_found() {
        type Lie = fn(&mut Account);
        let lies: [(&str, Lie); 9] = [
            ("position_never_changes", |account| account.position = 2),
            ("request_belongs_to_its_buyer", |account| {
                account.buyer_id = "another".to_owned()
            }),
            ("answers_equal_rows", |account| account.total = Some(1)),
            ("answers_equal_rows", |account| {
                account.state = Some("quarantined".to_owned())
            }),
            ("answers_equal_rows", |account| {
                account.reason = Some("sold_out".to_owned())
            }),
            ("answers_equal_rows", |account| {
                account.hold_id = Some(Uuid::from_u128(9))
            }),
            ("ends_equal_rows", |account| {
                account.hold_state = Some("expired".to_owned())
            }),
            ("ends_equal_rows", |account| account.booking_id = None),
            ("holds_meet_wishes", |account| {
                account.seats[0] = "A1-9".to_owned()
            }),
        ];
        for (rule, lie) in lies {
            let mut account = account();
            lie(&mut account);
            let (rules, _) = compared(&account, &record());
            assert!(rules.contains(&rule), "{rule} is not among {rules:?}");
        }
    }

    #[test]
    fn what_has_no_outcome_is_lost() {
        let account = Account {
            state: None,
            hold_id: None,
            hold_state: None,
            quantity: None,
            total: None,
            seats: vec![],
            booking_id: None,
            ..account()
        };
        let record = Record {
            outcome: None,
            end: End::Unknown,
            ..record()
        };
        assert_eq!(compared(&account, &record), (vec![], 1));
    }
}
