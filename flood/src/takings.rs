//! What was paid in a flood, for the reports.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use stampede_payments::reconcile::{Mismatch, Report};

use crate::{
    figures::{Latencies, Payment, Percentiles, Record, Told},
    money::{Rows, is_unended},
};

/// Payments by where they stand at the end, and how fast they were. Without the database, as far as
/// buyers were told.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Takings {
    /// The money is taken, the booking confirmed.
    pub captured: u64,
    /// The money was taken and is given back.
    pub refunded: u64,
    pub declined: u64,
    /// Reserved and let go.
    pub voided: u64,
    /// Nothing was ever reserved.
    pub failed: u64,
    /// The buyer has a further step left that was not taken.
    pub waiting: u64,
    /// On their way although all patience is over. Must be 0.
    pub unresolved: u64,
    /// Between our rows and the gateway's ledger. Must be 0; `None` when they were not compared.
    pub mismatches: Option<u64>,
    pub mismatched: Vec<Mismatch>,
    /// Captured payments by the time from the first to the last confirmation, on the server's clock.
    pub paid_per_s: f64,
    /// From the call until the buyer was told of the booking, without cards that hang.
    pub pay_ms: Percentiles,
    /// Payments with cards that hang whose end was told.
    pub stuck: u64,
    /// The same of these: from the call until the end.
    pub stuck_resolved_ms: Percentiles,
}

impl Takings {
    pub fn new(records: &[Record], rows: Option<&Rows>, report: Option<Report>) -> Takings {
        let payments = || records.iter().flat_map(|record| &record.payments);
        let mut takings = match rows {
            Some(rows) => Takings::of_rows(rows),
            None => Takings::of_stories(payments()),
        };
        if let Some(report) = report {
            takings.mismatches = Some(report.mismatches);
            takings.mismatched = report.mismatched;
        }
        let booked = |payment: &&Payment| matches!(payment.told, Told::Booked(_));
        let took = |payment: &Payment| payment.took;
        let paid = payments().filter(booked).filter(|it| !it.hangs).map(took);
        takings.pay_ms = paid.collect::<Latencies>().percentiles();
        let ended = |payment: &&Payment| payment.hangs && payment.told != Told::Nothing;
        let stuck: Vec<Duration> = payments().filter(ended).map(took).collect();
        takings.stuck = stuck.len() as u64;
        takings.stuck_resolved_ms = stuck.into_iter().collect::<Latencies>().percentiles();
        takings
    }

    fn of_rows(rows: &Rows) -> Takings {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for row in rows.0.values() {
            *counts.entry(&row.state).or_default() += 1;
        }
        let count = |state| counts.get(state).copied().unwrap_or_default();
        let captured = rows.0.values().filter(|row| row.state == "captured");
        let confirmed = || captured.clone().filter_map(|row| row.confirmed_at);
        let time = match (confirmed().min(), confirmed().max()) {
            (Some(first), Some(last)) => (last - first).to_std().unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let paid_per_s = if time.is_zero() {
            0.0
        } else {
            confirmed().count() as f64 / time.as_secs_f64()
        };
        Takings {
            captured: count("captured"),
            refunded: count("refunded"),
            declined: count("declined"),
            voided: count("voided"),
            failed: count("failed"),
            waiting: rows.0.values().filter(|row| row.waits).count() as u64,
            unresolved: rows.0.values().filter(|row| is_unended(row)).count() as u64,
            paid_per_s,
            ..Takings::default()
        }
    }

    fn of_stories<'a>(payments: impl Iterator<Item = &'a Payment>) -> Takings {
        let mut takings = Takings::default();
        for payment in payments {
            let count = match payment.told {
                Told::Booked(_) => &mut takings.captured,
                Told::Refunded => &mut takings.refunded,
                Told::Declined => &mut takings.declined,
                Told::Expired | Told::NotCharged => &mut takings.failed,
                Told::Waits => &mut takings.waiting,
                Told::Nothing => continue,
            };
            *count += 1;
        }
        takings
    }
}
