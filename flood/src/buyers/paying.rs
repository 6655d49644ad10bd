//! Paying for a hold: a card, a call, and asking until there is an end.

use std::time::{Duration, Instant};

use hyper::header::LOCATION;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Buyer, LONG_POLL_SECONDS, POLL_PACE};
use crate::{
    calls::{PaymentAnswer, PaymentMethodAnswer, PaymentState, payment_method_call, refusal_code},
    client::Answer,
    figures::{End, Payment, Told},
    pay::{GOOD_CARD, Paying},
    persist::{Tries, is_passing},
};

/// What an answer says of a payment.
struct Heard {
    id: Option<Uuid>,
    /// `None` while it is on its way.
    told: Option<Told>,
}

impl Buyer<'_> {
    /// Pays for a hold, or tries to.
    pub(super) async fn pay(&self, hold: Uuid, payments: &mut Vec<Payment>) -> End {
        let Some(paying) = self.want.paying else {
            let free = self.pay_once(hold, 1, None).await;
            let end = end_of(free.told, None);
            payments.push(free);
            return end;
        };
        let mut payment = self.pay_once(hold, 1, Some((paying, paying.card()))).await;
        if payment.told == Told::Declined && paying == (Paying::Declined { again: true }) {
            payments.push(payment);
            payment = self.pay_once(hold, 2, Some((paying, GOOD_CARD))).await;
        }
        let end = end_of(payment.told, Some(paying));
        payments.push(payment);
        end
    }

    /// One payment under a key of its own, until its end or what the buyer takes for it.
    async fn pay_once(
        &self,
        hold: Uuid,
        number: u32,
        card: Option<(Paying, &'static str)>,
    ) -> Payment {
        let mut payment = Payment {
            id: None,
            told: Told::NotCharged,
            hangs: matches!(card, Some((Paying::Hangs { .. }, _))),
            took: Duration::ZERO,
        };
        let method = match card {
            Some((_, card)) => match self.payment_method(card).await {
                Some(method) => Some(method),
                // Nothing was asked of anybody yet.
                None => return payment,
            },
            None => None,
        };
        let key = format!("{hold}-payment-{number}");
        let call = self
            .crowd
            .calls
            .pay(&self.who, hold, &key, method.as_deref());
        let Ok(call) = call else { return payment };
        let began = Instant::now();
        let answer = match card {
            Some((Paying::GoesAway { after_ms }, _)) => {
                let call = self.crowd.pays.call(&call);
                let answer = timeout(Duration::from_millis(after_ms), call).await;
                answer.ok().and_then(Result::ok)
            }
            _ => {
                let crowd = self.crowd;
                let tries = Tries::default();
                tries
                    .until_final(crowd.plan.patience, &crowd.counters, &crowd.pays, &call)
                    .await
                    .ok()
            }
        };
        payment.told = Told::Nothing;
        if let Some(heard) = answer.and_then(|answer| self.read_payment(hold, &answer)) {
            payment.id = heard.id;
            payment.told = match (heard.told, heard.id) {
                (Some(told), _) => told,
                (None, Some(id)) => self.wait_for_payment(hold, id).await,
                (None, None) => Told::Nothing,
            };
        }
        payment.took = began.elapsed();
        payment
    }

    /// The gateway's token for a card.
    async fn payment_method(&self, card: &str) -> Option<String> {
        let crowd = self.crowd;
        let gateway = crowd.gateway.as_ref()?;
        let answer = Tries::default()
            .until_final(
                crowd.plan.patience,
                &crowd.counters,
                gateway,
                &payment_method_call(card),
            )
            .await
            .ok()?;
        match serde_json::from_slice::<PaymentMethodAnswer>(&answer.body) {
            Ok(method) if answer.is_success() => Some(method.id),
            _ => {
                let body = String::from_utf8_lossy(&answer.body);
                let detail = format!("the gateway: {} {body}", answer.status);
                crowd.complain("readable_answers", detail);
                None
            }
        }
    }

    /// Asks until the payment has come to its end: by long-poll while a poller is free.
    async fn wait_for_payment(&self, hold: Uuid, id: Uuid) -> Told {
        let crowd = self.crowd;
        let mut tries = Tries::default();
        let began = Instant::now();
        while began.elapsed() < crowd.plan.patience {
            let waiting = crowd.calls.payment_wait(&self.who, id, LONG_POLL_SECONDS);
            let answer = match crowd.pollers.try_call(&waiting).await {
                Some(answer) => answer,
                None => {
                    tokio::time::sleep(POLL_PACE).await;
                    crowd.asks.call(&crowd.calls.payment(&self.who, id)).await
                }
            };
            match answer {
                Ok(answer) if is_passing(answer.status) => {
                    let code = refusal_code(answer.status, &answer.body);
                    crowd.counters.count_retry(&code);
                    tries.back_off(answer.retry_after()).await;
                }
                Ok(answer) => match self.read_payment(hold, &answer) {
                    Some(Heard { told: None, .. }) => tries = Tries::default(),
                    Some(Heard {
                        told: Some(told), ..
                    }) => return told,
                    None => return Told::Nothing,
                },
                Err(error) => {
                    crowd.counters.count_retry(error.code());
                    tries.back_off(None).await;
                }
            }
        }
        Told::Nothing
    }

    fn read_payment(&self, hold: Uuid, answer: &Answer) -> Option<Heard> {
        let heard = match serde_json::from_slice::<PaymentAnswer>(&answer.body) {
            Ok(payment) if answer.is_success() => hear(answer.status, &payment),
            _ => hear_refusal(answer),
        };
        if heard.is_none() {
            let body = String::from_utf8_lossy(&answer.body);
            let detail = format!("payment for hold {hold}: {} {body}", answer.status);
            self.crowd.complain("readable_answers", detail);
        }
        heard
    }
}

/// What a payment says of itself; `None` when it contradicts itself.
fn hear(status: u16, payment: &PaymentAnswer) -> Option<Heard> {
    use PaymentState::{
        Authorized, Captured, Capturing, Created, Declined, Failed, Refunded, Refunding, Voided,
    };
    let told = match (payment.state, &payment.booking) {
        (Created, None) if payment.next_action.is_some() => Some(Told::Waits),
        (Created | Authorized, None) | (Capturing, Some(_)) => None,
        (Captured, Some(booking)) => Some(Told::Booked(booking.id)),
        (Declined, None) => Some(Told::Declined),
        (Voided | Failed, _) if payment.reason.as_deref() == Some("hold_expired") => {
            Some(Told::Expired)
        }
        (Voided | Failed, _) => Some(Told::NotCharged),
        (Refunding | Refunded, _) => Some(Told::Refunded),
        _ => return None,
    };
    // 201 is for what is paid, 202 for what is not at its end.
    let fits = match status {
        201 => matches!(told, Some(Told::Booked(_) | Told::Refunded)),
        202 => matches!(told, None | Some(Told::Waits | Told::Refunded)),
        _ => status == 200,
    };
    fits.then_some(Heard {
        id: Some(payment.id),
        told,
    })
}

/// What a refusal says; `None` for one that no buyer here should ever get.
fn hear_refusal(answer: &Answer) -> Option<Heard> {
    let told = match (
        answer.status,
        refusal_code(answer.status, &answer.body).as_str(),
    ) {
        (402, "payment-declined") => Told::Declined,
        (402, "payment-failed") | (409, "payment-voided" | "too-little-time") => Told::NotCharged,
        (409, "payment-refunded") => Told::Refunded,
        (410, "hold-expired") => Told::Expired,
        _ => return None,
    };
    let location = answer.headers.get(LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let id = location.and_then(|location| location.rsplit('/').next()?.parse().ok());
    Some(Heard {
        id,
        told: Some(told),
    })
}

/// What then becomes of the hold.
fn end_of(told: Told, paying: Option<Paying>) -> End {
    match (told, paying) {
        (Told::Booked(booking), _) => End::Confirmed(booking),
        (Told::Refunded, _) => End::Refunded,
        (Told::Nothing, Some(Paying::GoesAway { .. })) => End::WentAway,
        (Told::Nothing, _) => End::Unknown,
        (Told::Expired, _) => End::Expired,
        // The time that is left is let go by.
        (Told::Declined | Told::NotCharged | Told::Waits, _) => End::Abandoned,
    }
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, body::Bytes};
    use serde_json::{Value, json};

    use super::*;

    const ID: Uuid = Uuid::from_u128(1);
    const BOOKING: Uuid = Uuid::from_u128(2);

    fn heard(status: u16, state: &str, next_action: Value, booked: bool) -> Option<Option<Told>> {
        let booking = booked.then(|| json!({ "id": BOOKING }));
        let payment = json!({
            "id": ID, "state": state, "next_action": next_action, "reason": null,
            "booking": booking,
        });
        let payment = serde_json::from_value(payment).unwrap();
        hear(status, &payment).map(|heard| heard.told)
    }

    #[test]
    fn a_payment_tells_how_it_stands() {
        let null = || Value::Null;
        let booked = Some(Some(Told::Booked(BOOKING)));
        assert_eq!(heard(201, "captured", null(), true), booked);
        assert_eq!(heard(200, "captured", null(), true), booked);
        assert_eq!(heard(202, "created", null(), false), Some(None));
        assert_eq!(heard(202, "capturing", null(), true), Some(None));
        let step = json!("http://127.0.0.1:1/steps/ch_1");
        assert_eq!(heard(202, "created", step, false), Some(Some(Told::Waits)));
        let declined = Some(Some(Told::Declined));
        assert_eq!(heard(200, "declined", null(), false), declined);
    }

    #[test]
    fn a_payment_that_contradicts_itself_is_not_believed() {
        for (status, state, booked) in [
            (201, "captured", false),
            (202, "captured", true),
            (201, "created", false),
            (201, "declined", false),
            (200, "declined", true),
            (200, "capturing", false),
        ] {
            let told = heard(status, state, Value::Null, booked);
            assert_eq!(told, None, "{status} {state}");
        }
    }

    #[test]
    fn a_refusal_tells_which_payment_it_is_about() {
        let refusal = |status, code: &str| {
            let mut headers = HeaderMap::new();
            let location = format!("/v1/shows/x/payments/{ID}");
            headers.insert(LOCATION, location.parse().unwrap());
            let body = Bytes::from(json!({ "code": code }).to_string());
            let took = Duration::ZERO;
            let answer = Answer {
                status,
                headers,
                body,
                took,
            };
            hear_refusal(&answer).map(|heard| (heard.id, heard.told))
        };
        let declined = Some((Some(ID), Some(Told::Declined)));
        assert_eq!(refusal(402, "payment-declined"), declined);
        let expired = Some((Some(ID), Some(Told::Expired)));
        assert_eq!(refusal(410, "hold-expired"), expired);
        for (status, code) in [
            (409, "already-confirmed"),
            (409, "payment-in-progress"),
            (422, "idempotency-key-reused"),
            (500, "payment-declined"),
        ] {
            assert_eq!(refusal(status, code), None, "{code}");
        }
    }
}
