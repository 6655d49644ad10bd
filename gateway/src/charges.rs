//! What a charge is and what can become of it. Values in, values out.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    behaviour::{Authorize, Behaviour},
    ids::{ChargeId, MethodId},
};

/// The most minor units of one charge.
const AMOUNT_MAX: i64 = 1_000_000_000_000;

/// What a client asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewCharge {
    /// In minor units.
    pub amount: i64,
    pub currency: Currency,
    pub payment_method: MethodId,
    #[serde(default)]
    pub metadata: Metadata,
}

/// Three capital letters (ISO 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// The client's own ids. Others are not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub show_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<Uuid>,
}

/// A charge as it stood after one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub id: ChargeId,
    pub status: Status,
    pub amount: i64,
    /// Taken so far; refunds are not subtracted.
    pub captured: i64,
    pub refunded: i64,
    pub currency: Currency,
    pub reason: Option<Box<str>>,
    pub payment_method: MethodId,
    pub metadata: Metadata,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Declined,
    Authorized,
    Captured,
    Refunded,
    Voided,
}

/// What can be asked of a charge: the first three by the client, the others by the buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Capture,
    Void,
    Refund,
    Complete,
    Fail,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Changed(Charge),
    /// It was so before.
    AlreadySo,
    /// The charge is not in a state for it.
    Wrong,
}

impl NewCharge {
    pub fn mistake(&self) -> Option<&'static str> {
        let right = (1..=AMOUNT_MAX).contains(&self.amount);
        (!right).then_some("amount is between 1 and 1000000000000")
    }
}

impl Charge {
    /// A new charge, as its card wants it.
    pub fn new(order: &NewCharge, behaviour: &Behaviour, now: DateTime<Utc>) -> Charge {
        let asked = Charge {
            id: ChargeId::generate(),
            status: Status::Pending,
            amount: order.amount,
            captured: 0,
            refunded: 0,
            currency: order.currency,
            reason: None,
            payment_method: order.payment_method,
            metadata: order.metadata,
            created_at: now,
        };
        match behaviour.authorize {
            Authorize::Accept => asked.approved(behaviour),
            Authorize::Decline => asked.declined(&behaviour.reason),
            Authorize::Step => asked,
        }
    }

    /// What a change makes of this charge.
    pub fn change(&self, change: Change, behaviour: &Behaviour) -> Outcome {
        use Status::{Authorized, Captured, Declined, Pending, Refunded, Voided};
        let charge = self.clone();
        match (change, self.status) {
            (Change::Capture, Authorized) => Outcome::Changed(charge.captured()),
            (Change::Void, Pending | Authorized) => Outcome::Changed(Charge {
                status: Voided,
                ..charge
            }),
            (Change::Refund, Captured) => Outcome::Changed(Charge {
                status: Refunded,
                refunded: charge.captured,
                ..charge
            }),
            (Change::Complete, Pending) => Outcome::Changed(charge.approved(behaviour)),
            (Change::Fail, Pending) => Outcome::Changed(charge.declined("authentication_failed")),
            (Change::Capture, Captured)
            | (Change::Void, Voided)
            | (Change::Refund, Refunded)
            | (Change::Complete, Authorized | Captured)
            | (Change::Fail, Declined) => Outcome::AlreadySo,
            _ => Outcome::Wrong,
        }
    }

    fn approved(self, behaviour: &Behaviour) -> Charge {
        if behaviour.captures_at_once {
            return self.captured();
        }
        Charge {
            status: Status::Authorized,
            ..self
        }
    }

    fn captured(self) -> Charge {
        Charge {
            status: Status::Captured,
            captured: self.amount,
            ..self
        }
    }

    fn declined(self, reason: &str) -> Charge {
        Charge {
            status: Status::Declined,
            reason: Some(reason.into()),
            ..self
        }
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Declined => "declined",
            Status::Authorized => "authorized",
            Status::Captured => "captured",
            Status::Refunded => "refunded",
            Status::Voided => "voided",
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Currency, &'static str> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(letters) if letters.iter().all(u8::is_ascii_uppercase) => Ok(Currency(letters)),
            _ => Err("a currency is three capital letters"),
        }
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.0.into_iter().map(char::from).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [Change; 5] = [
        Change::Capture,
        Change::Void,
        Change::Refund,
        Change::Complete,
        Change::Fail,
    ];

    fn charge(behaviour: &Behaviour) -> Charge {
        let order = NewCharge {
            amount: 8_500,
            currency: Currency(*b"EUR"),
            payment_method: MethodId::generate(),
            metadata: Metadata::default(),
        };
        Charge::new(&order, behaviour, Utc::now())
    }

    fn with(authorize: Authorize) -> Charge {
        charge(&Behaviour {
            authorize,
            ..Behaviour::default()
        })
    }

    fn changed(charge: &Charge, change: Change) -> Charge {
        match charge.change(change, &Behaviour::default()) {
            Outcome::Changed(charge) => charge,
            outcome => panic!("{change:?} of {charge:?}: {outcome:?}"),
        }
    }

    #[test]
    fn a_charge_is_authorized_captured_and_refunded_whole() {
        let charge = with(Authorize::Accept);
        assert_eq!((charge.status, charge.captured), (Status::Authorized, 0));
        let charge = changed(&charge, Change::Capture);
        assert_eq!((charge.status, charge.captured), (Status::Captured, 8_500));
        let charge = changed(&charge, Change::Refund);
        assert_eq!(charge.status, Status::Refunded);
        assert_eq!((charge.captured, charge.refunded), (8_500, 8_500));
    }

    #[test]
    fn a_decline_has_its_reason_and_takes_nothing() {
        let charge = with(Authorize::Decline);
        assert_eq!(charge.status, Status::Declined);
        assert_eq!(charge.reason.as_deref(), Some("card_declined"));
        assert_eq!(charge.captured, 0);
    }

    #[test]
    fn the_buyer_completes_or_fails_a_step() {
        let pending = with(Authorize::Step);
        assert_eq!(pending.status, Status::Pending);
        let completed = changed(&pending, Change::Complete);
        assert_eq!(completed.status, Status::Authorized);
        let failed = changed(&pending, Change::Fail);
        assert_eq!(failed.reason.as_deref(), Some("authentication_failed"));
    }

    #[test]
    fn a_card_that_captures_at_once_is_never_only_authorized() {
        let at_once = Behaviour {
            captures_at_once: true,
            ..Behaviour::default()
        };
        assert_eq!(charge(&at_once).status, Status::Captured);
        let pending = with(Authorize::Step);
        let Outcome::Changed(completed) = pending.change(Change::Complete, &at_once) else {
            panic!("not changed");
        };
        assert_eq!(
            (completed.status, completed.captured),
            (Status::Captured, 8_500)
        );
    }

    #[test]
    fn only_what_the_table_says_can_be_done() {
        use Status::{Authorized, Captured, Declined, Pending, Refunded, Voided};
        let rows = [
            (Pending, "-c-cc"),
            (Declined, "----s"),
            (Authorized, "cc-s-"),
            (Captured, "s-cs-"),
            (Refunded, "--s--"),
            (Voided, "-s---"),
        ];
        for (status, row) in rows {
            let charge = Charge {
                status,
                ..with(Authorize::Accept)
            };
            let told: String = CHANGES
                .iter()
                .map(
                    |&change| match charge.change(change, &Behaviour::default()) {
                        Outcome::Changed(_) => 'c',
                        Outcome::AlreadySo => 's',
                        Outcome::Wrong => '-',
                    },
                )
                .collect();
            assert_eq!(
                told, row,
                "{status:?}: capture, void, refund, complete, fail"
            );
        }
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert!(Currency::try_from("EUR".to_owned()).is_ok());
        for wrong in ["eur", "EU", "EURO", "E1R", ""] {
            assert!(Currency::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
