//! The objects of Stripe that we read, as far as we read them, and the charge that an intent is.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use stampede_shared::domain::Amount;
use uuid::Uuid;

use super::calls::{Problem, Refusal};
use crate::gateway::{Charge, ChargeStatus};

/// A PaymentIntent.
#[derive(Debug, Deserialize)]
pub(super) struct Intent {
    pub id: String,
    status: String,
    #[serde(default)]
    amount_received: Amount,
    currency: String,
    #[serde(default)]
    metadata: HashMap<String, String>,
    next_action: Option<Value>,
    pub last_payment_error: Option<LastError>,
    latest_charge: Option<Expandable>,
}

/// Why the last try to pay failed.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LastError {
    code: Option<String>,
    decline_code: Option<String>,
}

/// An id, or, when we asked for it, what it is the id of.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Expandable {
    Id(String),
    Whole(Taken),
}

/// A Charge of Stripe's: what happened to the money of an intent.
#[derive(Debug, Deserialize)]
struct Taken {
    amount_captured: Amount,
    amount_refunded: Amount,
}

/// A page of a list or a search.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub data: Vec<Intent>,
    has_more: bool,
}

/// A Refund.
#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    pub id: String,
    status: Option<String>,
    failure_reason: Option<String>,
}

impl Intent {
    /// Our id of it, when it is one of ours.
    pub fn payment_id(&self) -> Option<Uuid> {
        id_in(&self.metadata, "payment_id")
    }

    /// Of several intents of one payment, which one counts: the one that has the money, or may yet.
    pub fn weight(&self) -> u8 {
        match self.status.as_str() {
            "succeeded" => 4,
            "requires_capture" => 3,
            "requires_payment_method" => 1,
            "canceled" => 0,
            _ => 2,
        }
    }

    /// The charge that it is.
    pub fn charge(self) -> Result<Charge, Problem> {
        let (captured, refunded) = self.money()?;
        let status = match self.status.as_str() {
            "requires_payment_method" if self.was_tried() => ChargeStatus::Declined,
            "requires_payment_method"
            | "requires_confirmation"
            | "requires_action"
            | "processing" => ChargeStatus::Pending,
            "requires_capture" => ChargeStatus::Authorized,
            "succeeded" if refunded > 0 && refunded >= captured => ChargeStatus::Refunded,
            "succeeded" => ChargeStatus::Captured,
            "canceled" => ChargeStatus::Voided,
            other => {
                let what = format!("the intent {} has the unknown status {other:?}", self.id);
                return Err(Problem::Unclear(what));
            }
        };
        let declined = status == ChargeStatus::Declined;
        let reason = self.last_payment_error.as_ref().and_then(LastError::word);
        let reason = reason.filter(|_| declined).map(str::to_owned);
        let pending = status == ChargeStatus::Pending;
        Ok(Charge {
            status,
            captured,
            refunded,
            currency: self.currency.to_uppercase(),
            next_action: self.next_action.as_ref().filter(|_| pending).and_then(step),
            reason,
            payment_id: id_in(&self.metadata, "payment_id"),
            show_id: id_in(&self.metadata, "show_id"),
            gateway_id: self.id,
        })
    }

    /// What was taken and what was given back. A reservation that was let go is a refund to Stripe, of
    /// money that nobody took, so only an intent that succeeded has any.
    fn money(&self) -> Result<(Amount, Amount), Problem> {
        if self.status != "succeeded" {
            return Ok((0, 0));
        }
        match &self.latest_charge {
            Some(Expandable::Whole(taken)) => Ok((taken.amount_captured, taken.amount_refunded)),
            None => Ok((self.amount_received, 0)),
            Some(Expandable::Id(id)) => {
                let what = format!("the charge {id} of {} was not expanded", self.id);
                Err(Problem::Unclear(what))
            }
        }
    }

    /// Whether somebody tried to pay. We never make an intent without; others of the account may.
    fn was_tried(&self) -> bool {
        self.last_payment_error.is_some() || self.latest_charge.is_some()
    }
}

impl LastError {
    /// The bank's word for it, or else Stripe's.
    pub fn word(&self) -> Option<&str> {
        self.decline_code.as_deref().or(self.code.as_deref())
    }
}

impl Page {
    /// After which the next page begins.
    pub fn next(&self) -> Option<String> {
        let last = self.data.last().filter(|_| self.has_more);
        last.map(|intent| intent.id.clone())
    }
}

impl Refund {
    /// Whether it gave nothing back, and never will.
    pub fn has_failed(&self) -> bool {
        matches!(self.status.as_deref(), Some("failed" | "canceled"))
    }

    /// A refund that failed gave nothing back, though the call that asked for it went well.
    pub fn not_failed(self) -> Result<(), Problem> {
        if !self.has_failed() {
            return Ok(());
        }
        let status = self.status.unwrap_or_default();
        let why = self.failure_reason.unwrap_or_else(|| "unknown".to_owned());
        let refusal = Refusal::new(format!("refund_{status}"), why);
        Err(Problem::Refused(Box::new(refusal)))
    }
}

/// Our id of that name, when the object is one of ours.
fn id_in(metadata: &HashMap<String, String>, name: &str) -> Option<Uuid> {
    metadata.get(name)?.parse().ok()
}

/// The URL of a further step. It is in the object that is named by the type of the step. A step that only
/// Stripe's own script can take (`use_stripe_sdk`) has none.
fn step(next_action: &Value) -> Option<String> {
    let details = next_action.get(next_action.get("type")?.as_str()?)?;
    let url = details
        .get("url")
        .or(details.get("hosted_instructions_url"));
    url?.as_str().map(str::to_owned)
}
