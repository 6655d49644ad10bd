//! Whether buyers were told the truth: what each was told, held against the rows.

use std::collections::HashMap;

use sqlx::PgPool;
use stampede_shared::store::check::{self, Account};
use uuid::Uuid;

use crate::{
    checker::Violation,
    figures::{Decided, End, Outcome, Record, Submission},
    hall::Hall,
    wants::Want,
};

/// The rows of the log that are read at a time.
const PAGE: i64 = 5_000;

/// How long after its time a hold may live: sweeps come every half second.
const OVERDUE_MAX_S: f64 = 5.0;

/// The most differences that are named.
const DIFFERENCES_MAX: usize = 100;

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
        let held = account.hold_state.as_deref() == Some("held");
        if held && account.overdue_s.is_some_and(|over| over > OVERDUE_MAX_S) {
            let detail = format!("its time is over, the rows say {account:?}");
            self.note("abandoned_holds_are_free_again", detail);
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
            account.hold_id == Some(told.id)
                && account.total == Some(told.total.amount)
                && (account.replaced
                    || account.fees == Some(told.fees.amount)
                        && account.quantity == Some(told.quantity)
                        && account.section == told.section
                        && is_same_set(&account.seats, &told.seats))
        }
    };
    account.state.as_deref() == Some(state) && account.reason == outcome.reason && hold
}

fn is_same_set(one: &[String], other: &[String]) -> bool {
    let (mut one, mut other) = (one.to_vec(), other.to_vec());
    one.sort_unstable();
    other.sort_unstable();
    one == other
}

/// Whether what the buyer was told about the end of the hold still holds.
fn is_kept_to(account: &Account, outcome: &Outcome, end: End) -> bool {
    let hold_state = account.hold_state.as_deref();
    match end {
        End::None => outcome.hold.is_none() && hold_state.is_none(),
        End::Confirmed(booking) => {
            let confirmed = hold_state == Some("confirmed")
                && account.booking_state.as_deref() == Some("confirmed");
            let cancelled = hold_state == Some("cancelled")
                && account.booking_state.as_deref() == Some("cancelled")
                && account.cancel_reason.is_some();
            account.booking_id == Some(booking) && (confirmed || cancelled)
        }
        End::Cancelled => hold_state == Some("cancelled"),
        End::Abandoned => matches!(hold_state, Some("held" | "expired")),
        // The payment may have come to its end without them.
        End::WentAway => matches!(hold_state, Some("held" | "expired" | "confirmed")),
        End::Refunded => matches!(hold_state, Some("expired" | "cancelled")),
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
        wants::Then,
        wish::Wish,
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
            paying: None,
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
            overdue_s: Some(-1.0),
            replaced: false,
            quantity: Some(2),
            total: Some(25_000),
            fees: Some(2_500),
            section: None,
            seats: vec!["A1-3".to_owned(), "A1-4".to_owned()],
            booking_id: Some(Uuid::from_u128(3)),
            booking_state: Some("confirmed".to_owned()),
            cancel_reason: None,
        }
    }

    fn record() -> Record {
        let hold = HoldAnswer {
            id: Uuid::from_u128(2),
            seats: vec!["A1-4".to_owned(), "A1-3".to_owned()],
            section: None,
            quantity: 2,
            total: Money { amount: 25_000 },
            fees: Money { amount: 2_500 },
        };
        Record {
            index: 0,
            intended: Duration::ZERO,
            submission: Submission::Accepted {
                id: Uuid::from_u128(1),
                position: 1,
                at: Duration::ZERO,
                service: Duration::ZERO,
            },
            outcome: Some(Outcome {
                state: Decided::Held,
                reason: None,
                hold: Some(Box::new(hold)),
                accepted_at: DateTime::UNIX_EPOCH,
                decided_at: DateTime::UNIX_EPOCH,
                at: Duration::ZERO,
            }),
            payments: Vec::new(),
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
        let lies: [(&str, Lie); 12] = [
            ("position_never_changes", |account| account.position = 2),
            ("request_belongs_to_its_buyer", |account| {
                account.buyer_id = "another".to_owned()
            }),
            ("answers_equal_rows", |account| account.total = Some(1)),
            ("answers_equal_rows", |account| account.fees = Some(1)),
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
            ("ends_equal_rows", |account| {
                account.booking_state = Some("pending".to_owned())
            }),
            ("abandoned_holds_are_free_again", |account| {
                account.hold_state = Some("held".to_owned());
                account.overdue_s = Some(10.0);
            }),
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
    fn a_booking_may_be_cancelled_later_with_a_reason() {
        let mut account = Account {
            hold_state: Some("cancelled".to_owned()),
            booking_state: Some("cancelled".to_owned()),
            cancel_reason: Some("refunded_at_gateway".to_owned()),
            ..account()
        };
        assert_eq!(compared(&account, &record()), (vec![], 0));
        account.cancel_reason = None;
        assert_eq!(compared(&account, &record()).0, ["ends_equal_rows"]);
    }

    #[test]
    fn seats_that_were_paid_too_late_may_be_replaced_by_equal_ones() {
        let mut account = Account {
            seats: vec!["A1-7".to_owned(), "A1-8".to_owned()],
            ..account()
        };
        let (rules, _) = compared(&account, &record());
        assert!(rules.contains(&"answers_equal_rows"), "{rules:?}");
        account.replaced = true;
        let (rules, _) = compared(&account, &record());
        assert!(!rules.contains(&"answers_equal_rows"), "{rules:?}");
    }

    #[test]
    fn what_has_no_outcome_is_lost() {
        let account = Account {
            state: None,
            hold_id: None,
            hold_state: None,
            quantity: None,
            total: None,
            fees: None,
            seats: vec![],
            booking_id: None,
            booking_state: None,
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
