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
        let charge = self.look(id).await?;
        if charge.status == ChargeStatus::Refunded {
            return Ok(charge);
        }
        let reply = self.ask_refund(payment_id, charge.show_id, id).await;
        let wanted = [ChargeStatus::Refunded];
        if let Some(charge) = self.already(&reply.said, id, &wanted).await? {
            return Ok(charge);
        }
        reply.said?.not_failed()?;
        // Pending or not, what counts is how much of the charge Stripe says is given back.
        self.look(id).await
    }

    /// Asks for a refund that carries our ids: Stripe copies none to it, and when it fails days later, its
    /// events are all that tells.
    async fn ask_refund(&self, payment_id: Uuid, show_id: Option<Uuid>, id: &str) -> Reply<Refund> {
        let our_id = payment_id.to_string();
        let show_id = show_id.map(|show_id| show_id.to_string());
        let mut form = vec![("payment_intent", id), ("metadata[payment_id]", &our_id)];
        form.extend(show_id.as_deref().map(|id| ("metadata[show_id]", id)));
        let path = ["v1", "refunds"];
        let reply: Reply<Refund> = self.step(&path, &form, payment_id, "refund").await;
        let (true, Ok(recorded)) = (reply.replayed, &reply.said) else {
            return reply;
        };
        // A refund that fails usually began as succeeded, so the recorded answer does not tell.
        let said = self.calls.get(&["v1", "refunds", &recorded.id], &[]).await;
        if said.as_ref().is_ok_and(Refund::has_failed) {
            return self.calls.post(&path, &form, None).await;
        }
        Reply {
            said,
            replayed: false,
        }
    }
}
