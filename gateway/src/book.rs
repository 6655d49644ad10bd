//! Everything that the gateway knows of payments: methods, charges, keys and how often it was called.
//!
//! Every function is short and whole: it checks, writes the journal, then changes what is in memory. One
//! lock around the book makes each of them happen at once; nobody holds it while waiting for a client.

use std::{path::Path, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    behaviour::{How, Rule, Step},
    bounded::Bounded,
    cards::Card,
    charges::{Change, Charge, NewCharge, Outcome},
    error::Refusal,
    ids::{ChargeId, MethodId},
    journal::{Journal, Line},
    keys::{Key, Keys, Seen},
    ledger::{Entry, Ledger, Page},
};

/// The most payment methods; the oldest are forgotten.
const METHODS_MAX: usize = 1_000_000;

/// The most payments whose calls are counted; the oldest start anew.
const COUNTS_MAX: usize = 100_000;

#[derive(Debug)]
pub struct Book {
    methods: Bounded<MethodId, Arc<Card>>,
    ledger: Ledger,
    keys: Keys,
    /// Calls of a step of a payment that has a rule for it. Not in the journal.
    counts: Bounded<(Uuid, Step), u32>,
    journal: Option<Journal>,
}

/// A call that was answered.
#[derive(Debug)]
pub struct Done {
    /// The answer.
    pub charge: Arc<Charge>,
    /// The charge and its card if it changed, for the callbacks.
    pub changed: Option<Entry>,
}

impl Book {
    /// A book in memory, or in a file that continues where it ended.
    pub fn open(journal: Option<&Path>, key_memory: TimeDelta) -> anyhow::Result<Book> {
        let mut book = Book {
            methods: Bounded::new(METHODS_MAX),
            ledger: Ledger::default(),
            keys: Keys::new(key_memory),
            counts: Bounded::new(COUNTS_MAX),
            journal: None,
        };
        if let Some(path) = journal {
            book.journal = Some(Journal::open(path, |line| book.replay(line))?);
        }
        Ok(book)
    }

    /// Makes a payment method of a card.
    pub fn add_method(&mut self, card: Card) -> Result<MethodId, Refusal> {
        let (id, card) = (MethodId::generate(), Arc::new(card));
        self.write(|| Line::Method {
            id,
            card: Arc::clone(&card),
        })?;
        self.methods.insert(id, card);
        Ok(id)
    }

    /// How this call is to be answered. Counts it.
    pub fn rule_for_new(&mut self, order: &NewCharge) -> Option<Rule> {
        let card = self.methods.get(&order.payment_method)?;
        let rule = card.behaviour.rule(Step::Authorize)?;
        let id = order.metadata.payment_id;
        self.count(
            id.unwrap_or(order.payment_method.uuid()),
            Step::Authorize,
            rule,
        )
    }

    /// As [`Book::rule_for_new`], for a later step.
    pub fn rule_for(&mut self, id: ChargeId, step: Step) -> Option<Rule> {
        let entry = self.ledger.get(id)?;
        let rule = entry.card.behaviour.rule(step)?;
        let payment_id = entry.charge.metadata.payment_id;
        self.count(payment_id.unwrap_or(id.uuid()), step, rule)
    }

    /// Makes a charge, once for a key.
    pub fn authorize(
        &mut self,
        order: &NewCharge,
        key: Key,
        now: DateTime<Utc>,
    ) -> Result<Done, Refusal> {
        if let Some(done) = self.done_before(&key, now)? {
            return Ok(done);
        }
        let card = self.methods.get(&order.payment_method);
        let card = Arc::clone(card.ok_or(Refusal::UnknownMethod)?);
        if self.ledger.full() {
            return Err(Refusal::Full);
        }
        let created_at = self.ledger.time_for_new(now);
        let charge = Charge::new(order, &card.behaviour, created_at);
        self.record(charge, card, Some(key), now)
    }

    /// Changes a charge, once for a key. Saying what is already so changes nothing.
    pub fn change(
        &mut self,
        id: ChargeId,
        change: Change,
        key: Option<Key>,
        now: DateTime<Utc>,
    ) -> Result<Done, Refusal> {
        if let Some(key) = &key
            && let Some(done) = self.done_before(key, now)?
        {
            return Ok(done);
        }
        let entry = self.ledger.get(id).ok_or(Refusal::UnknownCharge)?;
        let Entry { charge, card } = entry.clone();
        match charge.change(change, &card.behaviour) {
            Outcome::Changed(charge) => self.record(charge, card, key, now),
            Outcome::AlreadySo => Ok(Done {
                charge,
                changed: None,
            }),
            Outcome::Wrong => Err(Refusal::WrongState(charge.status)),
        }
    }

    pub fn charge(&self, id: ChargeId) -> Result<Arc<Charge>, Refusal> {
        let entry = self.ledger.get(id).ok_or(Refusal::UnknownCharge)?;
        Ok(Arc::clone(&entry.charge))
    }

    pub fn of_payment(&self, payment_id: Uuid, limit: usize) -> Vec<Arc<Charge>> {
        self.ledger.of_payment(payment_id, limit)
    }

    pub fn page(
        &self,
        since: Option<DateTime<Utc>>,
        after: Option<ChargeId>,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let page = self.ledger.page(since, after, limit);
        page.ok_or(Refusal::UnknownCharge)
    }

    fn count(&mut self, payment: Uuid, step: Step, rule: Rule) -> Option<Rule> {
        let before = self.counts.get(&(payment, step)).copied().unwrap_or(0);
        self.counts
            .insert((payment, step), before.saturating_add(1));
        (rule.how != How::Normal && before < rule.times).then_some(rule)
    }

    fn done_before(&mut self, key: &Key, now: DateTime<Utc>) -> Result<Option<Done>, Refusal> {
        match self.keys.look(key, now) {
            Seen::New => Ok(None),
            Seen::Before(charge) => Ok(Some(Done {
                charge,
                changed: None,
            })),
            Seen::Otherwise => Err(Refusal::KeyReused),
        }
    }

    fn record(
        &mut self,
        charge: Charge,
        card: Arc<Card>,
        key: Option<Key>,
        now: DateTime<Utc>,
    ) -> Result<Done, Refusal> {
        let charge = Arc::new(charge);
        let key = key.filter(|_| !card.behaviour.forgets_keys);
        self.write(|| Line::Charge {
            charge: Arc::clone(&charge),
            key: key.clone(),
            at: now,
        })?;
        let entry = Entry { charge, card };
        self.put(entry.clone(), key, now);
        Ok(Done {
            charge: Arc::clone(&entry.charge),
            changed: Some(entry),
        })
    }

    fn put(&mut self, entry: Entry, key: Option<Key>, at: DateTime<Utc>) {
        if let Some(key) = key {
            self.keys.remember(key, Arc::clone(&entry.charge), at);
        }
        self.ledger.put(entry);
    }

    fn write(&mut self, line: impl FnOnce() -> Line) -> Result<(), Refusal> {
        if let Some(journal) = &mut self.journal {
            journal.append(&line())?;
        }
        Ok(())
    }

    fn replay(&mut self, line: Line) {
        match line {
            Line::Method { id, card } => self.methods.insert(id, card),
            Line::Charge { charge, key, at } => {
                // A later line of a charge finds the card in the ledger, should the method be forgotten.
                let known = self.ledger.get(charge.id).map(|entry| &entry.card);
                let card = known.or_else(|| self.methods.get(&charge.payment_method));
                let card = card.map(Arc::clone).unwrap_or_default();
                self.put(Entry { charge, card }, key, at);
            }
        }
    }
}
