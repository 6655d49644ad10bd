//! Driving: looks at the gateway and steps of it in turn, until a payment rests.
//!
//! Whoever drives, and however often: the rows say what is next, and a step is said again only after a look.

use chrono::Utc;
use stampede_shared::{
    domain::payment::{Step, next_step},
    store::payments::{self, Payment},
};
use tracing::{debug, error, warn};
use uuid::Uuid;

use super::{
    Till, TillError,
    batch::{Answer, Call},
    look::{Look, Looked, Seen, Spare},
};
use crate::{
    crash,
    gateway::{Charge, Gateway, GatewayError, Order},
};

/// The most looks and steps of one drive. A payment needs three; the rest is for races.
const ROUNDS_MAX: usize = 8;

impl Till {
    /// Drives a payment that was just opened: the gateway has surely not heard of it. Returns it as it
    /// then is.
    pub async fn drive_first(&self, payment: Payment) -> Result<Payment, TillError> {
        let Some(gateway) = self.gateway_of(&payment) else {
            return Ok(payment);
        };
        match self.take_step(gateway, &payment, Step::Authorize).await {
            Some(seen) => self.drive_from(gateway, payment, Some(seen)).await,
            None => Ok(payment),
        }
    }

    /// Asks the gateway how the charge of a payment stands, and drives the payment as far as it goes
    /// now. Returns it as it then is; `None` when there is no such payment. Fails with
    /// [`TillError::NotSeen`] when the gateway gives no clear answer to the first question.
    pub async fn drive(
        &self,
        show_id: Uuid,
        payment_id: Uuid,
    ) -> Result<Option<Payment>, TillError> {
        let Some(payment) = self.find(show_id, payment_id).await? else {
            return Ok(None);
        };
        match self.gateway_of(&payment) {
            Some(gateway) => self.drive_from(gateway, payment, None).await.map(Some),
            None => Ok(Some(payment)),
        }
    }

    async fn find(&self, show_id: Uuid, payment_id: Uuid) -> Result<Option<Payment>, TillError> {
        let found = payments::find_one(&self.database.pool, show_id, payment_id).await;
        found.map_err(|error| {
            warn!(show.id = %show_id, payment.id = %payment_id, %error, "cannot read a payment");
            TillError::Unavailable
        })
    }

    fn gateway_of(&self, payment: &Payment) -> Option<&dyn Gateway> {
        let gateway = self
            .gateway
            .as_deref()
            .filter(|gateway| gateway.name() == payment.gateway);
        if gateway.is_none() && payment.gateway != payments::NO_GATEWAY {
            error!(
                show.id = %payment.show_id, payment.id = %payment.payment_id,
                gateway = payment.gateway, "a payment is at a gateway that is not configured"
            );
        }
        gateway
    }

    /// Looks and steps in turn until the payment rests or the gateway gives no clear answer.
    async fn drive_from(
        &self,
        gateway: &dyn Gateway,
        mut payment: Payment,
        mut seen: Option<Seen>,
    ) -> Result<Payment, TillError> {
        for _ in 0..ROUNDS_MAX {
            let now = match seen.take() {
                Some(seen) => seen,
                None => match find_charge(gateway, &payment).await {
                    Some(seen) => seen,
                    None => return Err(TillError::NotSeen),
                },
            };
            let (show_id, payment_id) = (payment.show_id, payment.payment_id);
            let mut looked = self.look(show_id, payment_id, now.clone(), None).await?;
            if matches!(&looked, Some(looked) if looked.needs_map) {
                // Read outside of the transaction: the map of a hall is big, and never changes.
                let spare = self.spare(show_id).await?;
                looked = self.look(show_id, payment_id, now, Some(spare)).await?;
            }
            let Some(looked) = looked else {
                return Ok(payment);
            };
            payment = looked.payment;
            if looked.step == Step::Rest {
                return Ok(payment);
            }
            if looked.step == Step::Authorize && is_forgotten(gateway, &payment) {
                error!(show.id = %show_id, payment.id = %payment_id,
                    "a payment without a charge is older than the gateway's memory of its key");
                return Ok(payment);
            }
            seen = self.take_step(gateway, &payment, looked.step).await;
            if seen.is_none() {
                return Ok(payment);
            }
        }
        warn!(
            show.id = %payment.show_id, payment.id = %payment.payment_id,
            state = payment.state.as_str(), "a payment does not come to rest; leaving it to recovery"
        );
        Ok(payment)
    }

    async fn spare(&self, show_id: Uuid) -> Result<Spare, TillError> {
        Spare::load(&self.database.pool, show_id)
            .await
            .map_err(|error| {
                warn!(show.id = %show_id, %error, "cannot read the map of a show");
                TillError::Unavailable
            })
    }

    async fn look(
        &self,
        show_id: Uuid,
        payment_id: Uuid,
        seen: Seen,
        spare: Option<Spare>,
    ) -> Result<Option<Looked>, TillError> {
        let look = Look {
            payment_id,
            seen,
            spare,
        };
        match self.call(show_id, Call::Look(look)).await? {
            Answer::Looked(looked) => Ok(looked.map(|looked| *looked)),
            _ => Err(TillError::Unavailable),
        }
    }

    /// Lets the gateway do a step. `None` when it gave no clear answer: it may have been done.
    async fn take_step(
        &self,
        gateway: &dyn Gateway,
        payment: &Payment,
        step: Step,
    ) -> Option<Seen> {
        let (id, charge_id) = (payment.payment_id, payment.charge_id.as_deref());
        let (before, after, name) = match step {
            Step::Authorize => ("before_authorize", "after_authorize", "authorize"),
            Step::Capture => ("before_capture", "after_capture", "capture"),
            Step::Void => ("before_void", "after_void", "void"),
            Step::Refund => ("before_refund", "after_refund", "refund"),
            Step::Rest => return None,
        };
        crash::point(before);
        let started = std::time::Instant::now();
        let answer = match (step, charge_id) {
            (Step::Authorize, _) => {
                let order = Order {
                    show_id: payment.show_id,
                    payment_id: id,
                    amount: payment.amount,
                    currency: payment.currency.clone(),
                    payment_method: payment.payment_method.clone(),
                };
                gateway.authorize(&order).await
            }
            (Step::Capture, Some(charge_id)) => gateway.capture(id, charge_id).await,
            (Step::Void, Some(charge_id)) => gateway.void(id, charge_id).await,
            (Step::Refund, Some(charge_id)) => gateway.refund(id, charge_id).await,
            // Every step but the first is about a charge that was seen.
            (_, None) | (Step::Rest, _) => return None,
        };
        crash::point(after);
        metrics::histogram!("stampede_gateway_call_seconds", "step" => name)
            .record(started.elapsed().as_secs_f64());
        let (show_id, payment_id) = (payment.show_id, payment.payment_id);
        match answer {
            Ok(charge) => Some(Seen::Charge(charge)),
            Err(GatewayError::Unclear(detail)) => {
                metrics::counter!("stampede_gateway_unclear_total", "step" => name).increment(1);
                warn!(show.id = %show_id, payment.id = %payment_id, step = name, detail,
                    "the gateway gave no clear answer; looking again later");
                None
            }
            Err(GatewayError::Refused { code, detail }) => {
                warn!(show.id = %show_id, payment.id = %payment_id, step = name, code, detail,
                    "the gateway refused a step");
                // A refused authorization made no charge. Any other step: only a look tells.
                match step {
                    Step::Authorize => Some(Seen::Refused(code)),
                    _ => find_charge(gateway, payment).await.filter(|seen| {
                        !matches!(seen, Seen::Charge(charge)
                            if next_would_be(payment, charge) == Some(step))
                    }),
                }
            }
        }
    }
}

/// The step that a charge as it stands would ask for again: saying it in a circle helps nobody.
fn next_would_be(payment: &Payment, charge: &Charge) -> Option<Step> {
    let seats = payment.seats(false);
    let step = next_step(payment.state, seats, Some(charge.status));
    (step != Step::Rest).then_some(step)
}

/// Whether the gateway may have forgotten the key of the first step: saying it again could make a second
/// charge. The hold is over long before, so this is never met while the fence is shorter.
fn is_forgotten(gateway: &dyn Gateway, payment: &Payment) -> bool {
    let age = (Utc::now() - payment.created_at).to_std();
    age.is_ok_and(|age| age >= gateway.keys_last())
}

/// How the charge of a payment stands. `None` when the gateway gave no clear answer.
async fn find_charge(gateway: &dyn Gateway, payment: &Payment) -> Option<Seen> {
    let (show_id, payment_id) = (payment.show_id, payment.payment_id);
    match gateway.find(payment_id, payment.charge_id.as_deref()).await {
        Ok(Some(charge)) => Some(Seen::Charge(charge)),
        Ok(None) => {
            debug!(show.id = %show_id, payment.id = %payment_id, "the gateway has no charge");
            Some(Seen::Absent)
        }
        Err(error) => {
            warn!(show.id = %show_id, payment.id = %payment_id, %error,
                "the gateway cannot be asked; looking again later");
            None
        }
    }
}
