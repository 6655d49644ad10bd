//! What the gateway says, in its words.

use serde::Deserialize;
use stampede_shared::domain::Amount;
use uuid::Uuid;

use crate::gateway::{About, Callback, Charge, ChargeStatus};

/// A charge in the gateway's words.
#[derive(Debug, Deserialize)]
pub(super) struct ChargeBody {
    id: String,
    status: Status,
    captured: Amount,
    refunded: Amount,
    currency: String,
    next_action: Option<String>,
    reason: Option<String>,
    metadata: MetadataBody,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    Declined,
    Authorized,
    Captured,
    Refunded,
    Voided,
}

#[derive(Debug, Deserialize)]
struct MetadataBody {
    show_id: Option<Uuid>,
    payment_id: Option<Uuid>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PageBody {
    pub charges: Vec<ChargeBody>,
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct EventBody {
    id: String,
    /// Absent in events of other things.
    charge: Option<ChargeReference>,
}

/// All that we take from an event: how the charge stands now, we ask.
#[derive(Debug, Deserialize)]
struct ChargeReference {
    id: String,
    status: Option<Status>,
    metadata: MetadataBody,
}

impl From<Status> for ChargeStatus {
    fn from(status: Status) -> ChargeStatus {
        match status {
            Status::Pending => ChargeStatus::Pending,
            Status::Declined => ChargeStatus::Declined,
            Status::Authorized => ChargeStatus::Authorized,
            Status::Captured => ChargeStatus::Captured,
            Status::Refunded => ChargeStatus::Refunded,
            Status::Voided => ChargeStatus::Voided,
        }
    }
}

impl From<ChargeBody> for Charge {
    fn from(body: ChargeBody) -> Charge {
        Charge {
            gateway_id: body.id,
            status: body.status.into(),
            captured: body.captured,
            refunded: body.refunded,
            currency: body.currency,
            next_action: body.next_action,
            reason: body.reason,
            payment_id: body.metadata.payment_id,
            show_id: body.metadata.show_id,
        }
    }
}

impl From<EventBody> for Callback {
    fn from(event: EventBody) -> Callback {
        let about = event.charge.and_then(|charge| {
            Some(About {
                show_id: charge.metadata.show_id?,
                payment_id: charge.metadata.payment_id?,
                gateway_id: charge.id,
                told: charge.status.map(ChargeStatus::from),
            })
        });
        Callback {
            event_id: event.id,
            about,
        }
    }
}
