//! Reconciliation: the gateway's ledger and our payments, compared cent by cent.
//!
//! Money moves while it is compared, so what does not fit is looked at again, on both sides, before it
//! is called a mismatch. The charges of the window are kept in memory, about 200 bytes each; ours are read
//! show by show, in pages. What began before the window and moved in it, such as a late refund, is looked
//! up at the gateway one by one. What the gateway gives no clear answer for is counted, and no more.

mod compare;
mod ledger;
mod looks;
mod report;

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use stampede_shared::store::{
    Database, across_shows, bookings,
    payments::{self, Reckoned},
};
use tracing::warn;
use uuid::Uuid;

use crate::gateway::{Charge, Gateway, GatewayError};
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

/// An id of version 7 is made a little before its row is written. And a payment that moves within an hour
/// is not among those that moved late.
const ID_LEEWAY: TimeDelta = TimeDelta::hours(2);

/// Charges that are looked up at once.
const LOOKS_AT_ONCE: usize = 8;

/// What is compared.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Payments that began or moved at or after it, and charges that began then; `None`: all.
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
        let first_id = first_id(since);
        let mut after = first_id;
        loop {
            let page = payments::list_reckoned(pool, show_id, gateway, since, after, PAGE).await;
            let page = page.context("reading our payments")?;
            self.compare_page(&page).await?;
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.payment_id,
                _ => break,
            }
        }
        let mut after = (since, Uuid::nil());
        loop {
            let page =
                payments::list_moved_late(pool, show_id, gateway, first_id, after, PAGE).await;
            let page = page.context("reading our payments that moved late")?;
            self.compare_page(&page).await?;
            match page.last() {
                Some(last) if page.len() == PAGE as usize => {
                    after = (last.moved_at, last.payment_id);
                }
                _ => break,
            }
        }
        let unpaid = bookings::list_unpaid(pool, show_id, since, first_id, UNPAID_MAX).await;
        for (booking_id, payment_id) in unpaid.context("reading our bookings")? {
            // With a payment, it was seen above.
            if payment_id.is_none() {
                let what = format!("the booking {booking_id} is confirmed without a payment");
                self.report.mismatch(Mismatch::new(None, None, what));
            }
        }
        Ok(())
    }

    async fn compare_page(&mut self, page: &[Reckoned]) -> anyhow::Result<()> {
        let since = self.scope.since();
        for payments in page.chunks(LOOKS_AT_ONCE) {
            let mut told = HashMap::new();
            let mut old = Vec::new();
            for payment in payments {
                let charges = self.ledger.take(payment.payment_id);
                if charges.is_empty() && payment.created_at < since {
                    old.push(payment);
                }
                told.insert(payment.payment_id, Ok(charges));
            }
            let looks = old
                .iter()
                .map(|payment| looks::find_old(self.gateway, payment));
            for (payment, found) in old.iter().zip(join_all(looks).await) {
                if let Ok(Some(charge)) = &found {
                    self.report.add_charge(charge);
                }
                let found = found.map(|charge| charge.into_iter().collect());
                told.insert(payment.payment_id, found);
            }
            for payment in payments {
                match told.remove(&payment.payment_id) {
                    Some(Ok(charges)) => self.compare(payment, charges).await?,
                    Some(Err(error)) => self.unclear(payment, &error),
                    None => {}
                }
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
            if let Err(error) = self.look_again(&mut payment, &mut charges).await? {
                self.unclear(&payment, &error);
                return Ok(());
            }
            finding = compare(&payment, &charges, window_s);
            if payment.moved_at == moved_at {
                break;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        self.report.count(&payment, finding);
        Ok(())
    }

    fn unclear(&mut self, payment: &Reckoned, error: &GatewayError) {
        let (show_id, payment_id) = (payment.show_id, payment.payment_id);
        warn!(show.id = %show_id, payment.id = %payment_id, %error, "a payment cannot be compared");
        self.report.unclear();
    }

    /// Our row and the gateway's charges as they are now, the charges after the row.
    async fn look_again(
        &self,
        payment: &mut Reckoned,
        charges: &mut Vec<Charge>,
    ) -> anyhow::Result<Result<(), GatewayError>> {
        let pool = &self.database.pool;
        let found = payments::find_reckoned(pool, payment.show_id, payment.payment_id).await;
        if let Some(found) = found.context("reading a payment again")? {
            *payment = found;
        }
        if payment.gateway != self.gateway.name() {
            return Ok(Ok(()));
        }
        Ok(looks::renew(self.gateway, payment, charges).await)
    }
}

/// Smaller than every id of version 7 that was made at that time or later.
fn first_id(since: DateTime<Utc>) -> Uuid {
    let millis = (since - ID_LEEWAY).timestamp_millis().max(0) as u128;
    Uuid::from_u128(millis << 80)
}
