//! The gateway's charges of the window, by the payment that they are for.

use std::{collections::HashMap, time::Duration};

use anyhow::Context;
use uuid::Uuid;

use super::{Report, Scope};
use crate::gateway::{Charge, Gateway, GatewayError, LedgerPage};

/// How often a page is asked for before we give up.
const TRIES: u32 = 4;

/// The pause before the second try; it doubles.
const TRY_PAUSE: Duration = Duration::from_millis(500);

#[derive(Default)]
pub struct Ledger {
    by_payment: HashMap<Uuid, Vec<Charge>>,
    /// Charges without an id of ours.
    strangers: Vec<Charge>,
}

impl Ledger {
    /// Reads it page by page, and counts in the report what is in it.
    pub async fn read(
        gateway: &dyn Gateway,
        scope: &Scope,
        report: &mut Report,
    ) -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        let mut after: Option<String> = None;
        loop {
            let page = read_page(gateway, scope, after.as_deref()).await;
            let page = page.context("reading the gateway's ledger")?;
            for charge in page.charges {
                if scope.show_id.is_none() || scope.show_id == charge.show_id {
                    report.add_charge(&charge);
                    ledger.add(charge);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(ledger);
            }
        }
    }

    fn add(&mut self, charge: Charge) {
        match charge.payment_id {
            Some(payment_id) => self.by_payment.entry(payment_id).or_default().push(charge),
            None => self.strangers.push(charge),
        }
    }

    /// The charges for a payment, which are then not in it any more.
    pub fn take(&mut self, payment_id: Uuid) -> Vec<Charge> {
        self.by_payment.remove(&payment_id).unwrap_or_default()
    }

    pub fn take_all(&mut self) -> HashMap<Uuid, Vec<Charge>> {
        std::mem::take(&mut self.by_payment)
    }

    pub fn take_strangers(&mut self) -> Vec<Charge> {
        std::mem::take(&mut self.strangers)
    }
}

async fn read_page(
    gateway: &dyn Gateway,
    scope: &Scope,
    after: Option<&str>,
) -> Result<LedgerPage, GatewayError> {
    let mut pause = TRY_PAUSE;
    for _ in 1..TRIES {
        match gateway.ledger(scope.since(), after).await {
            Err(GatewayError::Unclear(_)) => tokio::time::sleep(pause).await,
            answer => return answer,
        }
        pause *= 2;
    }
    gateway.ledger(scope.since(), after).await
}
