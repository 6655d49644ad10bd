//! What a card can be told to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The longest that an answer may be slow, in milliseconds.
const SLOW_MAX_MS: u64 = 120_000;

/// The longest that a callback may be late, in milliseconds.
const LATE_MAX_MS: u64 = 600_000;

const REASON_MAX_BYTES: usize = 100;

/// A call that can be told to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Authorize,
    Capture,
    Void,
    Refund,
}

/// What a card does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    pub authorize: Authorize,
    /// Why it declines.
    pub reason: Box<str>,
    /// Takes the money with the authorization.
    pub captures_at_once: bool,
    pub answers: BTreeMap<Step, Rule>,
    /// A repeated call is a new one, whatever its key.
    pub forgets_keys: bool,
    pub callbacks: Vec<CallbackOrder>,
    pub late_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authorize {
    Accept,
    Decline,
    /// Waits for the buyer on a page of the gateway.
    Step,
}

/// How a call is answered, for the first `times` calls of one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub how: How,
    pub times: u32,
    /// How slow.
    pub ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Normal,
    /// No effect and no answer.
    HangBefore,
    /// The effect, then no answer.
    HangAfter,
    /// 500 without effect.
    ErrorBefore,
    /// The effect, then 500.
    ErrorAfter,
    /// Effect and answer after a while, whether or not the client still waits.
    Slow,
}

/// How a card's callbacks are sent. Several go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackOrder {
    Once,
    /// The same event two times, at the same time.
    Twice,
    /// `late_ms` after the change.
    Late,
    /// The events of a charge are held back for `late_ms` and sent newest first.
    OutOfOrder,
    /// One with a wrong signature first, then the true one.
    Forged,
    Never,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            authorize: Authorize::Accept,
            reason: "card_declined".into(),
            captures_at_once: false,
            answers: BTreeMap::new(),
            forgets_keys: false,
            callbacks: vec![CallbackOrder::Once],
            late_ms: 3_000,
        }
    }
}

impl Default for Rule {
    fn default() -> Rule {
        Rule {
            how: How::Normal,
            times: 1,
            ms: 2_000,
        }
    }
}

impl Behaviour {
    /// What is wrong with it, if anything.
    pub fn mistake(&self) -> Option<&'static str> {
        if self.answers.values().any(|rule| rule.ms > SLOW_MAX_MS) {
            return Some("ms is at most 120000");
        }
        if self.late_ms > LATE_MAX_MS {
            return Some("late_ms is at most 600000");
        }
        if self.reason.len() > REASON_MAX_BYTES {
            return Some("reason has at most 100 bytes");
        }
        if self.callbacks.len() > 6 {
            return Some("callbacks has at most 6 words");
        }
        None
    }

    pub fn rule(&self, step: Step) -> Option<Rule> {
        let rule = self.answers.get(&step).copied()?;
        (rule.how != How::Normal).then_some(rule)
    }

    pub fn sends(&self, order: CallbackOrder) -> bool {
        self.callbacks.contains(&order)
    }
}
