//! Cards and what they do: the well-known ones, those that were told, and all others, which are accepted.
//!
//! Whole numbers are in the memory of this table only; a payment method keeps the last four digits.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    behaviour::{Authorize, Behaviour, CallbackOrder, How, Rule, Step},
    error::Refusal,
};

/// The most cards that can be told what to do.
const TOLD_MAX: usize = 1_000;

/// What is kept of a card once it is a payment method.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Card {
    pub last_four: Box<str>,
    pub behaviour: Arc<Behaviour>,
}

/// A card of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Known {
    pub number: String,
    pub what: String,
    pub behaviour: Arc<Behaviour>,
}

#[derive(Debug)]
pub struct Cards {
    known: BTreeMap<String, Known>,
    others: Arc<Behaviour>,
}

impl Cards {
    pub fn well_known() -> Cards {
        let cards = table().into_iter();
        Cards {
            known: cards.map(|card| (card.number.clone(), card)).collect(),
            others: Arc::new(Behaviour::default()),
        }
    }

    /// The card of a number of 12 to 19 digits.
    pub fn card(&self, number: &str) -> Result<Card, Refusal> {
        check_number(number)?;
        let known = self.known.get(number).map(|known| &known.behaviour);
        Ok(Card {
            last_four: number[number.len() - 4..].into(),
            behaviour: Arc::clone(known.unwrap_or(&self.others)),
        })
    }

    /// Tells a card what to do. Payment methods that were made before keep doing what they did.
    pub fn tell(&mut self, number: String, behaviour: Behaviour) -> Result<Known, Refusal> {
        check_number(&number)?;
        if let Some(mistake) = behaviour.mistake() {
            return Err(Refusal::Invalid(mistake.to_owned()));
        }
        if !self.known.contains_key(&number) && self.known.len() >= TOLD_MAX {
            return Err(Refusal::Full);
        }
        let card = Known {
            number: number.clone(),
            what: "as told".to_owned(),
            behaviour: Arc::new(behaviour),
        };
        self.known.insert(number, card.clone());
        Ok(card)
    }

    pub fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }
}

fn check_number(number: &str) -> Result<(), Refusal> {
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (12..=19).contains(&number.len()) {
        return Ok(());
    }
    Err(Refusal::Invalid(
        "a card number has 12 to 19 digits".to_owned(),
    ))
}

/// The well-known cards. The first four are those of Stripe's test mode.
fn table() -> Vec<Known> {
    let mut table = vec![
        known("4242424242424242", "accepted", Behaviour::default()),
        known(
            "4000000000000002",
            "declined: card_declined",
            Behaviour {
                authorize: Authorize::Decline,
                ..Behaviour::default()
            },
        ),
        known(
            "4000000000009995",
            "declined: insufficient_funds",
            Behaviour {
                authorize: Authorize::Decline,
                reason: "insufficient_funds".into(),
                ..Behaviour::default()
            },
        ),
        known(
            "4000002500003155",
            "a further step",
            Behaviour {
                authorize: Authorize::Step,
                ..Behaviour::default()
            },
        ),
    ];
    table.extend(troubled_steps());
    table.extend(odd_habits());
    table.extend(odd_callbacks());
    table
}

/// Every step with every trouble: 4000 0000 0001, then the step (01-04) and the trouble (01-05).
fn troubled_steps() -> impl Iterator<Item = Known> {
    let steps = [
        (1, Step::Authorize, "authorize"),
        (2, Step::Capture, "capture"),
        (3, Step::Void, "void"),
        (4, Step::Refund, "refund"),
    ];
    steps.into_iter().flat_map(|(step_no, step, name)| {
        let troubles = [
            (1, How::HangBefore, "hangs without effect"),
            (2, How::HangAfter, "hangs after the effect"),
            (3, How::ErrorBefore, "says 500 without effect"),
            (4, How::ErrorAfter, "says 500 after the effect"),
            (5, How::Slow, "takes 2 s"),
        ];
        troubles.map(|(how_no, how, what)| {
            known(
                &format!("400000000001{step_no:02}{how_no:02}"),
                &format!("{name} {what}, the first time"),
                troubled(step, how),
            )
        })
    })
}

fn odd_habits() -> [Known; 3] {
    let at_once = Behaviour {
        captures_at_once: true,
        ..Behaviour::default()
    };
    [
        known(
            "4000000000010501",
            "forgets keys, and authorize says 500 after the effect, the first time",
            Behaviour {
                forgets_keys: true,
                ..troubled(Step::Authorize, How::ErrorAfter)
            },
        ),
        known("4000000000010601", "captures at once", at_once.clone()),
        known(
            "4000000000010602",
            "captures at once, and hangs after it, the first time",
            Behaviour {
                captures_at_once: true,
                ..troubled(Step::Authorize, How::HangAfter)
            },
        ),
    ]
}

fn odd_callbacks() -> [Known; 6] {
    use CallbackOrder::{Forged, Late, Never, OutOfOrder, Twice};
    let sends = |number, what, callbacks: &[CallbackOrder]| {
        let behaviour = Behaviour {
            callbacks: callbacks.to_vec(),
            ..Behaviour::default()
        };
        known(number, what, behaviour)
    };
    [
        sends("4000000000010701", "callbacks twice", &[Twice]),
        sends("4000000000010702", "callbacks 3 s late", &[Late]),
        sends(
            "4000000000010703",
            "callbacks newest first, after 3 s",
            &[OutOfOrder],
        ),
        sends(
            "4000000000010704",
            "a forged callback before each true one",
            &[Forged],
        ),
        sends("4000000000010705", "no callbacks", &[Never]),
        sends(
            "4000000000010706",
            "callbacks twice, newest first, with forged ones",
            &[Twice, OutOfOrder, Forged],
        ),
    ]
}

fn troubled(step: Step, how: How) -> Behaviour {
    let rule = Rule {
        how,
        ..Rule::default()
    };
    Behaviour {
        answers: BTreeMap::from([(step, rule)]),
        ..Behaviour::default()
    }
}

fn known(number: &str, what: &str, behaviour: Behaviour) -> Known {
    Known {
        number: number.to_owned(),
        what: what.to_owned(),
        behaviour: Arc::new(behaviour),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_12_to_19_digits() {
        let cards = Cards::well_known();
        for number in [
            "42424242424",
            "42424242424242424242",
            "4242 4242 4242 4242",
            "",
            "４２４２",
        ] {
            assert!(cards.card(number).is_err(), "{number}");
        }
        assert_eq!(&*cards.card("424242424242").unwrap().last_four, "4242");
    }

    #[test]
    fn every_well_known_card_has_its_own_number_and_a_right_behaviour() {
        let table = table();
        assert_eq!(Cards::well_known().all().count(), table.len());
        for card in table {
            assert_eq!(card.behaviour.mistake(), None, "{}", card.number);
            check_number(&card.number).unwrap();
        }
    }

    #[test]
    fn a_method_keeps_doing_what_its_card_did_when_it_was_made() {
        let mut cards = Cards::well_known();
        let before = cards.card("4242424242424242").unwrap();
        let declines = Behaviour {
            authorize: Authorize::Decline,
            ..Behaviour::default()
        };
        cards.tell("4242424242424242".to_owned(), declines).unwrap();
        let after = cards.card("4242424242424242").unwrap();
        assert_eq!(before.behaviour.authorize, Authorize::Accept);
        assert_eq!(after.behaviour.authorize, Authorize::Decline);
    }
}
