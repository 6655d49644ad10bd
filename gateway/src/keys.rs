//! Idempotency keys: the same key with the same call gives the answer that it gave before.
//!
//! A key is remembered with the change that it made, so there are at most a few for every charge of
//! the ledger, which is bounded.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::charges::Charge;

/// What a call said, apart from its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(u64);

/// A key and what it was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub key: Arc<str>,
    pub fingerprint: Fingerprint,
}

#[derive(Debug)]
pub enum Seen {
    New,
    /// The charge as it was answered then, as real gateways do it: it may have changed since.
    Before(Arc<Charge>),
    /// It was used for something else.
    Otherwise,
}

#[derive(Debug)]
pub struct Keys {
    memory: TimeDelta,
    entries: HashMap<Arc<str>, (Fingerprint, Arc<Charge>)>,
    /// The oldest first.
    order: VecDeque<(DateTime<Utc>, Arc<str>)>,
}

impl Fingerprint {
    pub fn of(call: &[u8]) -> Fingerprint {
        let digest = Sha256::digest(call);
        let first = digest.iter().take(8);
        Fingerprint(first.fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

impl Keys {
    /// Remembers a key for so long.
    pub fn new(memory: TimeDelta) -> Keys {
        Keys {
            memory,
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    pub fn look(&mut self, key: &Key, now: DateTime<Utc>) -> Seen {
        self.forget_old(now);
        match self.entries.get(&key.key) {
            None => Seen::New,
            Some((fingerprint, charge)) if *fingerprint == key.fingerprint => {
                Seen::Before(Arc::clone(charge))
            }
            Some(_) => Seen::Otherwise,
        }
    }

    pub fn remember(&mut self, key: Key, charge: Arc<Charge>, now: DateTime<Utc>) {
        self.forget_old(now);
        let before = self
            .entries
            .insert(Arc::clone(&key.key), (key.fingerprint, charge));
        if before.is_none() {
            self.order.push_back((now, key.key));
        }
    }

    fn forget_old(&mut self, now: DateTime<Utc>) {
        while let Some((at, key)) = self.order.front() {
            if now - at < self.memory {
                break;
            }
            self.entries.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        behaviour::Behaviour,
        charges::{Metadata, NewCharge},
        ids::MethodId,
    };

    fn key(name: &str, call: &str) -> Key {
        Key {
            key: name.into(),
            fingerprint: Fingerprint::of(call.as_bytes()),
        }
    }

    fn charge() -> Arc<Charge> {
        let order = NewCharge {
            amount: 1,
            currency: "EUR".to_owned().try_into().unwrap(),
            payment_method: MethodId::generate(),
            metadata: Metadata::default(),
        };
        Arc::new(Charge::new(&order, &Behaviour::default(), Utc::now()))
    }

    #[test]
    fn a_key_is_bound_to_its_call() {
        let mut keys = Keys::new(TimeDelta::hours(1));
        let now = Utc::now();
        assert!(matches!(keys.look(&key("a", "x"), now), Seen::New));
        keys.remember(key("a", "x"), charge(), now);
        assert!(matches!(keys.look(&key("a", "x"), now), Seen::Before(_)));
        assert!(matches!(keys.look(&key("a", "y"), now), Seen::Otherwise));
        assert!(matches!(keys.look(&key("b", "x"), now), Seen::New));
    }

    #[test]
    fn a_key_is_forgotten_after_its_time_and_can_be_used_again() {
        let mut keys = Keys::new(TimeDelta::seconds(10));
        let start = Utc::now();
        keys.remember(key("a", "x"), charge(), start);
        let before = start + TimeDelta::milliseconds(9_999);
        assert!(matches!(keys.look(&key("a", "x"), before), Seen::Before(_)));
        let after = start + TimeDelta::seconds(10);
        assert!(matches!(keys.look(&key("a", "y"), after), Seen::New));
        keys.remember(key("a", "y"), charge(), after);
        assert!(matches!(keys.look(&key("a", "y"), after), Seen::Before(_)));
        assert_eq!((keys.entries.len(), keys.order.len()), (1, 1));
    }
}
