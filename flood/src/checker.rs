//! The checker: whether the database kept every promise.
//!
//! [`check`] needs only a show and may run at any time, also under load. [`check_drained`] adds that
//! nobody waits any more. What buyers were told is `comparison`'s.

use std::fmt;

use serde::Serialize;
use sqlx::PgPool;
use stampede_shared::store::{check, check_payments};
use uuid::Uuid;

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

/// What is always true of a show. At most [`check::BREACHES_MAX`] violations of each rule.
pub async fn check(db: &PgPool, show_id: Uuid) -> sqlx::Result<Vec<Violation>> {
    let mut found = Vec::new();
    let mut note = |rule, breaches: Vec<String>| {
        found.extend(
            breaches
                .into_iter()
                .map(|detail| Violation { rule, detail }),
        );
    };
    note(
        "no_seat_twice",
        check::seats_taken_twice(db, show_id).await?,
    );
    note(
        "seats_equal_holds",
        check::seats_unlike_holds(db, show_id).await?,
    );
    note(
        "holds_equal_their_seats",
        check::holds_unlike_their_seats(db, show_id).await?,
    );
    note(
        "section_counters_equal_holds",
        check::sections_unlike_holds(db, show_id).await?,
    );
    note(
        "buyer_totals_equal_holds",
        check::buyers_unlike_holds(db, show_id).await?,
    );
    note(
        "positions_without_gaps",
        check::positions_with_gaps(db, show_id).await?,
    );
    note(
        "one_request_per_key",
        check::keys_accepted_twice(db, show_id).await?,
    );
    note(
        "one_outcome_per_position",
        check::outcomes_not_one_each(db, show_id).await?,
    );
    note(
        "no_outcome_ahead_of_the_line",
        check::outcomes_ahead_of_the_line(db, show_id).await?,
    );
    note(
        "outcomes_in_order",
        check::outcomes_out_of_order(db, show_id).await?,
    );
    note(
        "holds_equal_outcomes",
        check::holds_unlike_outcomes(db, show_id).await?,
    );
    note(
        "totals_equal_prices",
        check::totals_wrong(db, show_id).await?,
    );
    note(
        "bookings_equal_confirmed_holds",
        check::bookings_unlike_holds(db, show_id).await?,
    );
    note(
        "payments_equal_bookings",
        check_payments::payments_unlike_bookings(db, show_id).await?,
    );
    note(
        "payments_equal_prices",
        check_payments::payments_unlike_holds(db, show_id).await?,
    );
    note(
        "no_hold_paid_twice",
        check_payments::holds_paid_twice(db, show_id).await?,
    );
    note(
        "no_payment_forgotten",
        check_payments::payments_forgotten(db, show_id).await?,
    );
    Ok(found)
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
