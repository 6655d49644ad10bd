//! What a comparison has found, for machines and for people.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use serde::Serialize;
use stampede_shared::{domain::Amount, store::payments::Reckoned};
use uuid::Uuid;

use super::compare::Finding;
use crate::gateway::Charge;

/// The most mismatches that are told one by one; all are counted.
const MISMATCHED_MAX: usize = 1_000;

/// What a comparison has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub gateway: &'static str,
    /// `None`: from the beginning.
    pub since: Option<DateTime<Utc>>,
    /// Ours that were compared.
    pub payments: u64,
    /// The gateway's.
    pub charges: u64,
    /// What the gateway took, in minor units by currency.
    pub captured: BTreeMap<String, Amount>,
    /// What it gave back.
    pub refunded: BTreeMap<String, Amount>,
    /// Ours that were declined.
    pub declined: u64,
    /// Ours that are on their way.
    pub in_flight: u64,
    /// Over here, still reserved there, and young enough for recovery to come.
    pub open_authorizations: u64,
    /// Ours that could not be compared: the gateway gave no clear answer.
    pub unclear: u64,
    pub mismatches: u64,
    /// The first thousand of them.
    pub mismatched: Vec<Mismatch>,
}

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    pub payment_id: Option<Uuid>,
    pub charge_id: Option<String>,
    pub what: String,
}

impl Mismatch {
    pub(super) fn new(
        payment_id: Option<Uuid>,
        charge_id: Option<String>,
        what: impl Into<String>,
    ) -> Mismatch {
        Mismatch {
            payment_id,
            charge_id,
            what: what.into(),
        }
    }
}

impl Report {
    pub(super) fn new(gateway: &'static str, since: Option<DateTime<Utc>>) -> Report {
        Report {
            gateway,
            since,
            payments: 0,
            charges: 0,
            captured: BTreeMap::new(),
            refunded: BTreeMap::new(),
            declined: 0,
            in_flight: 0,
            open_authorizations: 0,
            unclear: 0,
            mismatches: 0,
            mismatched: Vec::new(),
        }
    }

    pub fn is_clean(&self) -> bool {
        self.mismatches == 0
    }

    pub(super) fn add_charge(&mut self, charge: &Charge) {
        self.charges += 1;
        for (sums, amount) in [
            (&mut self.captured, charge.captured),
            (&mut self.refunded, charge.refunded),
        ] {
            if amount > 0 {
                *sums.entry(charge.currency.clone()).or_default() += amount;
            }
        }
    }

    pub(super) fn count(&mut self, payment: &Reckoned, finding: Finding) {
        self.payments += 1;
        if payment.state == "declined" {
            self.declined += 1;
        }
        match finding {
            Finding::Clean => {}
            Finding::InFlight => self.in_flight += 1,
            Finding::OpenAuthorization => self.open_authorizations += 1,
            Finding::Mismatch(wrong) => {
                for (charge_id, what) in wrong {
                    self.mismatch(Mismatch::new(Some(payment.payment_id), charge_id, what));
                }
            }
        }
    }

    /// A payment of which the gateway gave no clear answer. Only the next run will tell.
    pub(super) fn unclear(&mut self) {
        self.payments += 1;
        self.unclear += 1;
    }

    /// A charge that is for nothing of ours: harmless as long as no money is in it.
    pub(super) fn unknown(&mut self, charge: &Charge, what: &str) {
        if charge.captured > charge.refunded {
            let charge_id = Some(charge.gateway_id.clone());
            self.mismatch(Mismatch::new(charge.payment_id, charge_id, what));
        }
    }

    pub(super) fn mismatch(&mut self, mismatch: Mismatch) {
        self.mismatches += 1;
        if self.mismatched.len() < MISMATCHED_MAX {
            self.mismatched.push(mismatch);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.since {
            Some(since) => writeln!(f, "Payments at {} since {since:.0}", self.gateway)?,
            None => writeln!(f, "All payments at {}", self.gateway)?,
        }
        writeln!(f, "  our payments          {}", self.payments)?;
        writeln!(f, "  the gateway's charges {}", self.charges)?;
        writeln!(f, "  captured              {}", Sums(&self.captured))?;
        writeln!(f, "  refunded              {}", Sums(&self.refunded))?;
        writeln!(f, "  declined              {}", self.declined)?;
        writeln!(f, "  in flight             {}", self.in_flight)?;
        writeln!(f, "  open authorizations   {}", self.open_authorizations)?;
        writeln!(f, "  unclear               {}", self.unclear)?;
        writeln!(f, "  mismatches            {}", self.mismatches)?;
        for mismatch in &self.mismatched {
            writeln!(f, "    {mismatch}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(payment_id) = self.payment_id {
            write!(f, "payment {payment_id}: ")?;
        }
        if let Some(charge_id) = &self.charge_id {
            write!(f, "charge {charge_id}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Sums of money, or `nothing`.
struct Sums<'a>(&'a BTreeMap<String, Amount>);

impl fmt::Display for Sums<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (index, (currency, amount)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{amount} {currency} minor units")?;
        }
        Ok(())
    }
}
