//! Whether the money is where buyers were told it is: their stories, our rows and the gateway's ledger.

use std::collections::HashMap;

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use stampede_payments::gateway::{Charge, Gateway};
use stampede_shared::store::check_payments::{self, PaymentAccount};
use uuid::Uuid;

use crate::{
    checker::Violation,
    figures::{Payment, Record, Told},
};

/// The rows that are read at a time.
const PAGE: i64 = 5_000;

/// The most differences that are named.
const DIFFERENCES_MAX: usize = 100;

/// The show's payments at a gateway, by their ids.
pub struct Rows(pub HashMap<Uuid, PaymentAccount>);

impl Rows {
    pub async fn read(db: &PgPool, show_id: Uuid) -> anyhow::Result<Rows> {
        let (mut rows, mut after) = (HashMap::new(), Uuid::nil());
        loop {
            let page = check_payments::payment_accounts(db, show_id, after, PAGE).await;
            let page = page.context("reading the payments")?;
            let Some(last) = page.last() else {
                return Ok(Rows(rows));
            };
            after = last.payment_id;
            rows.extend(page.into_iter().map(|row| (row.payment_id, row)));
        }
    }
}

/// The gateway's charges of the show, by the payments that they are for.
#[derive(Default)]
pub struct Charges(HashMap<Uuid, Vec<Charge>>);

impl Charges {
    pub async fn read(
        gateway: &dyn Gateway,
        since: DateTime<Utc>,
        show_id: Uuid,
    ) -> anyhow::Result<Charges> {
        let (mut charges, mut after) = (Charges::default(), None::<String>);
        loop {
            let page = gateway.ledger(since, after.as_deref()).await;
            let page = page.context("reading the gateway's ledger")?;
            for charge in page.charges {
                if charge.show_id == Some(show_id) {
                    charges.add(charge);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(charges);
            }
        }
    }

    fn add(&mut self, charge: Charge) {
        let payment_id = charge.payment_id.unwrap_or_default();
        self.0.entry(payment_id).or_default().push(charge);
    }

    fn of(&self, payment_id: Uuid) -> &[Charge] {
        self.0.get(&payment_id).map_or(&[], Vec::as_slice)
    }
}

/// What was taken and not given back.
fn net(charges: &[Charge]) -> i64 {
    charges.iter().map(|it| it.captured - it.refunded).sum()
}

/// Compares. Without rows or charges, less is seen.
pub fn compare(
    records: &[Record],
    rows: Option<&Rows>,
    charges: Option<&Charges>,
) -> Vec<Violation> {
    let mut comparison = Comparison {
        rows,
        charges,
        violations: Vec::new(),
    };
    for record in records {
        let total = record.outcome.as_ref().and_then(|it| it.hold.as_deref());
        let total = total.map_or(0, |hold| hold.total.amount);
        for payment in &record.payments {
            comparison.compare_story(payment, total);
        }
    }
    comparison.find_unended();
    comparison.find_stray_charges();
    comparison.violations
}

struct Comparison<'a> {
    rows: Option<&'a Rows>,
    charges: Option<&'a Charges>,
    violations: Vec<Violation>,
}

impl Comparison<'_> {
    fn note(&mut self, rule: &'static str, detail: String) {
        if self.violations.len() < DIFFERENCES_MAX {
            self.violations.push(Violation { rule, detail });
        }
    }

    /// One payment as its buyer saw it; `total` is what the hold costs.
    fn compare_story(&mut self, payment: &Payment, total: i64) {
        let Some(id) = payment.id else { return };
        let row = self.rows.map(|rows| rows.0.get(&id));
        let charges = self.charges.map(|charges| charges.of(id));
        if let Told::Booked(booking) = payment.told {
            if row.is_some_and(|row| !row.is_some_and(|row| is_booked(row, booking))) {
                let detail = format!("told {payment:?}, the rows say {row:?}");
                self.note("paid_is_booked", detail);
            }
            let given_back = row.flatten().is_some_and(|row| row.state != "captured");
            if charges.is_some_and(|charges| !is_charged_once(charges, total, given_back)) {
                let detail = format!("told {payment:?} of {total}, the gateway says {charges:?}");
                self.note("paid_is_charged_once", detail);
            }
            return;
        }
        if !matches!(
            payment.told,
            Told::Declined | Told::Expired | Told::NotCharged | Told::Waits
        ) {
            return;
        }
        let taken = row
            .flatten()
            .is_some_and(|row| matches!(row.state.as_str(), "captured" | "capturing"));
        if taken || charges.is_some_and(|charges| net(charges) > 0) {
            let detail = format!("told {payment:?}, the rows say {row:?}, the gateway {charges:?}");
            self.note("unpaid_is_not_charged", detail);
        }
    }

    /// Payments that are on their way although all patience is over.
    fn find_unended(&mut self) {
        let Some(rows) = self.rows else { return };
        let mut unended: Vec<&PaymentAccount> =
            rows.0.values().filter(|row| is_unended(row)).collect();
        unended.sort_unstable_by_key(|row| row.payment_id);
        for row in unended {
            self.note("payments_come_to_an_end", format!("the rows say {row:?}"));
        }
    }

    /// Money that is at the gateway for no booking of ours.
    fn find_stray_charges(&mut self) {
        let (Some(rows), Some(charges)) = (self.rows, self.charges) else {
            return;
        };
        for (id, charges) in &charges.0 {
            let row = rows.0.get(id);
            let booked = row.is_some_and(|row| {
                matches!(row.state.as_str(), "captured" | "refunding")
                    || row.state == "capturing" && row.booking_id.is_some()
            });
            if net(charges) > 0 && !booked {
                let detail = format!("payment {id}: {charges:?}, the rows say {row:?}");
                self.note("no_charge_without_booking", detail);
            }
        }
    }
}

/// On its way, and not because its buyer has a step left.
pub fn is_unended(row: &PaymentAccount) -> bool {
    let moving = matches!(
        row.state.as_str(),
        "created" | "authorized" | "capturing" | "refunding"
    );
    moving && !row.waits
}

/// Whether it is paid and booked, or was and is given back.
fn is_booked(row: &PaymentAccount, booking: Uuid) -> bool {
    let booked = match row.state.as_str() {
        "captured" => "confirmed",
        "refunding" | "refunded" => "cancelled",
        _ => return false,
    };
    row.booking_id == Some(booking) && row.booking_state.as_deref() == Some(booked)
}

/// Whether the whole amount was taken by one charge, and kept unless it was given back.
fn is_charged_once(charges: &[Charge], total: i64, given_back: bool) -> bool {
    let taken: Vec<&Charge> = charges.iter().filter(|it| it.captured > 0).collect();
    matches!(taken[..], [charge] if charge.captured == total
        && (charge.refunded == 0 || given_back))
}

#[cfg(test)]
mod tests;
