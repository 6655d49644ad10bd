//! All charges, in memory, the oldest first.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{cards::Card, charges::Charge, ids::ChargeId};

/// The most charges; more are refused. About 1 KB each with its indexes and keys.
const CHARGES_MAX: usize = 1_000_000;

/// A charge and the card that it is of.
#[derive(Debug, Clone)]
pub struct Entry {
    pub charge: Arc<Charge>,
    pub card: Arc<Card>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    by_id: HashMap<ChargeId, usize>,
    by_payment: HashMap<Uuid, Vec<usize>>,
}

/// Some charges, the oldest first.
#[derive(Debug)]
pub struct Page {
    pub charges: Vec<Arc<Charge>>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<ChargeId>,
}

impl Ledger {
    pub fn full(&self) -> bool {
        self.entries.len() >= CHARGES_MAX
    }

    /// A time for a new charge that is not before that of the last: clocks may step back, pages must not.
    pub fn time_for_new(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let last = self.entries.last().map(|entry| entry.charge.created_at);
        last.map_or(now, |last| last.max(now))
    }

    /// Adds a charge, or says how it stands now.
    pub fn put(&mut self, entry: Entry) {
        if let Some(&index) = self.by_id.get(&entry.charge.id) {
            self.entries[index] = entry;
            return;
        }
        let index = self.entries.len();
        self.by_id.insert(entry.charge.id, index);
        if let Some(payment_id) = entry.charge.metadata.payment_id {
            self.by_payment.entry(payment_id).or_default().push(index);
        }
        self.entries.push(entry);
    }

    pub fn get(&self, id: ChargeId) -> Option<&Entry> {
        self.by_id.get(&id).map(|&index| &self.entries[index])
    }

    /// At most `limit` charges with this in their metadata, the oldest first.
    pub fn of_payment(&self, payment_id: Uuid, limit: usize) -> Vec<Arc<Charge>> {
        let indexes = self.by_payment.get(&payment_id).into_iter().flatten();
        indexes
            .take(limit)
            .map(|&index| Arc::clone(&self.entries[index].charge))
            .collect()
    }

    /// The charges since a time, behind the one with the id `after`. `None` if there is no such charge.
    pub fn page(
        &self,
        since: Option<DateTime<Utc>>,
        after: Option<ChargeId>,
        limit: usize,
    ) -> Option<Page> {
        let mut start = since.map_or(0, |since| {
            self.entries
                .partition_point(|entry| entry.charge.created_at < since)
        });
        if let Some(after) = after {
            start = start.max(self.by_id.get(&after)? + 1);
        }
        let rest = self.entries.get(start..).unwrap_or_default();
        let taken = &rest[..limit.min(rest.len())];
        let more = taken.len() < rest.len();
        Some(Page {
            charges: taken
                .iter()
                .map(|entry| Arc::clone(&entry.charge))
                .collect(),
            next: taken.last().filter(|_| more).map(|entry| entry.charge.id),
        })
    }
}
