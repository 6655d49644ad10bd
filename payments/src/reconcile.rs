//! Reconciliation: the gateway's ledger and our payments, compared cent by cent.
//!
//! Money moves while it is compared, so what does not fit is looked at again, on both sides, before it
//! is called a mismatch. The charges of the window are kept in memory, about 200 bytes each; ours are read
//! show by show, in pages.

mod compare;
mod ledger;
mod report;

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use stampede_shared::store::{
    Database, across_shows, bookings,
    payments::{self, Reckoned},
};
use uuid::Uuid;

use crate::gateway::{Charge, Gateway};
use compare::{Finding, compare};
use ledger::Ledger;

pub use report::{Mismatch, Report};

/// Payments and shows of one page.
const PAGE: i64 = 1_000;

/// Unpaid bookings of one show that are told apart.
const UNPAID_MAX: i64 = 1_000;

/// What does not fit is looked at so often before it is called a mismatch.
const LOOKS: usize = 3;

/// The pause between two such looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// An id of version 7 is made a little before its row is written.
const ID_LEEWAY: TimeDelta = TimeDelta::hours(1);

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Payments and charges that began at or after it; `None`: all.
    pub since: Option<DateTime<Utc>>,
    /// Of one show alone; `None`: of all.
    pub show_id: Option<Uuid>,
    /// After so long without a move, a payment is looked up. What is left at the gateway for much longer
    /// is a mismatch.
    pub stuck: Duration,
}

impl Scope {
    fn since(&self) -> DateTime<Utc> {
        self.since.unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// For so long, recovery may still be at it: a look, and a few more after back-offs.
    fn window_s(&self) -> f64 {
        self.stuck.as_secs_f64() * 20.0
    }
}

/// Compares. Fails when either side cannot be read; a mismatch is not an error.
pub async fn reconcile(
    database: &Database,
    gateway: &dyn Gateway,
    scope: &Scope,
) -> anyhow::Result<Report> {
    let mut report = Report::new(gateway.name(), scope.since);
    let ledger = Ledger::read(gateway, scope, &mut report).await?;
    let mut run = Run {
        database,
        gateway,
        scope,
        ledger,
        report,
    };
    match scope.show_id {
        Some(show_id) => run.compare_show(show_id).await?,
        None => run.compare_shows().await?,
    }
    run.compare_rest().await?;
    Ok(run.report)
}

/// One comparison on its way.
struct Run<'a> {
    database: &'a Database,
    gateway: &'a dyn Gateway,
    scope: &'a Scope,
    /// What is left of it: charges that no payment of ours has claimed yet.
    ledger: Ledger,
    report: Report,
}

impl Run<'_> {
    async fn compare_shows(&mut self) -> anyhow::Result<()> {
        let mut before = None;
        loop {
            let shows = across_shows::newest_shows(&self.database.pool, before, PAGE).await;
            let shows = shows.context("listing the shows")?;
            for &show_id in &shows {
                self.compare_show(show_id).await?;
            }
            before = shows.last().copied();
            if shows.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn compare_show(&mut self, show_id: Uuid) -> anyhow::Result<()> {
        let pool = &self.database.pool;
        let (gateway, since) = (self.gateway.name(), self.scope.since());
        let mut after = first_id(since);
        loop {
            let page = payments::list_reckoned(pool, show_id, gateway, since, after, PAGE).await;
            let page = page.context("reading our payments")?;
            for payment in &page {
                let charges = self.ledger.take(payment.payment_id);
                self.compare(payment, charges).await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.payment_id,
                _ => break,
            }
        }
        let unpaid = bookings::list_unpaid(pool, show_id, since, UNPAID_MAX).await;
        for (booking_id, payment_id) in unpaid.context("reading our bookings")? {
            // With a payment, it was seen above.
            if payment_id.is_none() {
                let what = format!("the booking {booking_id} is confirmed without a payment");
                self.report.mismatch(Mismatch::new(None, None, what));
            }
        }
        Ok(())
    }

    /// Charges that no payment of the window has claimed.
    async fn compare_rest(&mut self) -> anyhow::Result<()> {
        for (payment_id, charges) in self.ledger.take_all() {
            let show_id = charges.iter().find_map(|charge| charge.show_id);
            let found = match show_id {
                Some(show_id) => {
                    payments::find_reckoned(&self.database.pool, show_id, payment_id).await
                }
                None => Ok(None),
            };
            match found.context("reading a payment")? {
                // It began before the window, and its charge in it.
                Some(payment) => self.compare(&payment, charges).await?,
                None => {
                    for charge in charges {
                        let what = "the gateway has a charge for a payment that is not ours";
                        self.report.unknown(&charge, what);
                    }
                }
            }
        }
        for charge in self.ledger.take_strangers() {
            let what = "the gateway has a charge that names no payment of ours";
            self.report.unknown(&charge, what);
        }
        Ok(())
    }

    async fn compare(
        &mut self,
        payment: &Reckoned,
        mut charges: Vec<Charge>,
    ) -> anyhow::Result<()> {
        let window_s = self.scope.window_s();
        let mut payment = payment.clone();
        let mut finding = compare(&payment, &charges, window_s);
        for _ in 0..LOOKS {
            if !matches!(finding, Finding::Mismatch(_)) {
                break;
            }
            let moved_at = payment.moved_at;
            self.look_again(&mut payment, &mut charges).await?;
            finding = compare(&payment, &charges, window_s);
            if payment.moved_at == moved_at {
                break;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        self.report.count(&payment, finding);
        Ok(())
    }

    /// Our row and the gateway's charge as they are now, the charge after the row.
    async fn look_again(
        &self,
        payment: &mut Reckoned,
        charges: &mut Vec<Charge>,
    ) -> anyhow::Result<()> {
        let pool = &self.database.pool;
        let found = payments::find_reckoned(pool, payment.show_id, payment.payment_id).await;
        if let Some(found) = found.context("reading a payment again")? {
            *payment = found;
        }
        if payment.gateway != self.gateway.name() {
            return Ok(());
        }
        let charge_id = payment.charge_id.as_deref();
        let found = self.gateway.find(payment.payment_id, charge_id).await;
        if let Some(found) = found.context("looking at a charge again")? {
            charges.retain(|charge| charge.gateway_id != found.gateway_id);
            charges.push(found);
        }
        Ok(())
    }
}

/// Smaller than every id of version 7 that was made at that time or later.
fn first_id(since: DateTime<Utc>) -> Uuid {
    let millis = (since - ID_LEEWAY).timestamp_millis().max(0) as u128;
    Uuid::from_u128(millis << 80)
}
