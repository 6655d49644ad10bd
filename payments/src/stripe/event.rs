//! Reads the events that Stripe sends. What they say of the money is not believed: we look it up.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::gateway::{About, Callback, CallbackError, ChargeStatus};

#[derive(Deserialize)]
struct Event {
    id: String,
    object: String,
    #[serde(rename = "type", default)]
    kind: String,
    data: Data,
}

/// What an event is about, which may be anything.
#[derive(Deserialize)]
struct Data {
    object: Value,
}

/// The event in a body whose signature was checked.
pub(super) fn read(body: &[u8]) -> Result<Callback, CallbackError> {
    let event: Event = serde_json::from_slice(body).map_err(|_| CallbackError::Unreadable)?;
    if event.object != "event" {
        return Err(CallbackError::Unreadable);
    }
    Ok(Callback {
        event_id: event.id,
        about: about(&event.kind, &event.data.object),
    })
}

/// Our ids are on the intent, Stripe copies them to the charge when it makes it, and we put them on the
/// refunds that we ask for.
fn about(kind: &str, subject: &Value) -> Option<About> {
    let gateway_id = match subject["object"].as_str()? {
        "payment_intent" => &subject["id"],
        "charge" => &subject["payment_intent"],
        // Whoever made it has the answer, and the charge tells of it too. What comes later comes here only.
        "refund" if kind != "refund.created" => &subject["payment_intent"],
        _ => return None,
    };
    let our_id = |name: &str| -> Option<Uuid> { subject["metadata"][name].as_str()?.parse().ok() };
    Some(About {
        show_id: our_id("show_id")?,
        payment_id: our_id("payment_id")?,
        gateway_id: gateway_id.as_str()?.to_owned(),
        told: told(kind),
    })
}

/// How the charge stands after an event of that type, of those that come with every payment.
fn told(kind: &str) -> Option<ChargeStatus> {
    match kind {
        "payment_intent.amount_capturable_updated" => Some(ChargeStatus::Authorized),
        "payment_intent.succeeded" => Some(ChargeStatus::Captured),
        "payment_intent.canceled" => Some(ChargeStatus::Voided),
        "payment_intent.payment_failed" => Some(ChargeStatus::Declined),
        _ => None,
    }
}
