//! The steps on an intent: capture, cancel, refund. Each is done once, however often it is said.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    Stripe,
    calls::{Problem, Reply},
    intent::{Intent, Refund},
};
use crate::gateway::{Charge, ChargeStatus, GatewayError};

/// The answers that only tell what an intent already is.
const STATE_CODES: [&str; 3] = [
    "payment_intent_unexpected_state",
    "charge_already_captured",
    "charge_already_refunded",
];

impl Stripe {
    /// The charge that an answer tells of, as it is now.
    pub(super) async fn fresh(&self, reply: Reply<Intent>) -> Result<Charge, GatewayError> {
        let intent = reply.said?;
        if reply.replayed {
            return self.look(&intent.id).await;
        }
        Ok(intent.charge()?)
    }

    /// Says a step on an intent.
    pub(super) async fn step<T: DeserializeOwned>(
        &self,
        path: &[&str],
        form: &[(&str, &str)],
        payment_id: Uuid,
        name: &str,
    ) -> Reply<T> {
        let key = format!("{payment_id}:{name}");
        let reply = self.calls.post(path, form, Some(&key)).await;
        match reply.said {
            // The failure of an earlier try. Without a key it is tried anew, and nothing is done twice:
            // an intent is captured, canceled and refunded whole once only.
            Err(_) if reply.replayed => self.calls.post(path, form, None).await,
            _ => reply,
        }
    }

    /// The charge after a step. When Stripe only says that the intent is past it, that may be just what
    /// was wanted.
    pub(super) async fn after_step(
        &self,
        reply: Reply<Intent>,
        id: &str,
        wanted: &[ChargeStatus],
    ) -> Result<Charge, GatewayError> {
        match self.already(&reply.said, id, wanted).await? {
            Some(charge) => Ok(charge),
            None => self.fresh(reply).await,
        }
    }

    /// The charge, when the answer is that it is past the step, and it stands where it was wanted.
    async fn already<T>(
        &self,
        said: &Result<T, Problem>,
        id: &str,
        wanted: &[ChargeStatus],
    ) -> Result<Option<Charge>, GatewayError> {
        let Err(Problem::Refused(refusal)) = said else {
            return Ok(None);
        };
        if !STATE_CODES.contains(&refusal.code()) {
            return Ok(None);
        }
        let charge = self.look(id).await?;
        Ok(wanted.contains(&charge.status).then_some(charge))
    }

    /// Refunds all that was taken.
    pub(super) async fn give_back(
        &self,
        payment_id: Uuid,
        id: &str,
    ) -> Result<Charge, GatewayError> {
        let form = [("payment_intent", id)];
        let path = ["v1", "refunds"];
        let reply: Reply<Refund> = self.step(&path, &form, payment_id, "refund").await;
        let wanted = [ChargeStatus::Refunded];
        if let Some(charge) = self.already(&reply.said, id, &wanted).await? {
            return Ok(charge);
        }
        reply.said?.not_failed()?;
        // Pending or not, what counts is how much of the charge Stripe says is given back.
        self.look(id).await
    }
}
