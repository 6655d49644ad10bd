//! Beginning a payment: written down, with its seats fenced, before any gateway hears of it.
//!
//! What costs nothing takes the same way and is at its end at once: booked and confirmed.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;
use stampede_shared::{
    domain::{
        Amount,
        payment::{PaymentPolicy, PaymentState},
    },
    events::{self, Event, EventType},
    settle::{self, Pin},
    store::{
        holds, notify,
        payments::{self, Known, NO_GATEWAY, NewPayments, Payable},
        show_inventory::Locked,
    },
};
use uuid::Uuid;

use super::Terms;

/// The most tries to pay for one hold.
const TRIES_MAX: i64 = 10;

/// A buyer's wish to pay for a hold.
#[derive(Debug, Clone)]
pub struct Open {
    /// Of this payment if it is new; a replay has the one that it got first.
    pub payment_id: Uuid,
    pub hold_id: Uuid,
    pub buyer_id: String,
    pub idempotency_key: String,
    /// Of the hold and the body.
    pub body_hash: [u8; 32],
    /// The gateway's token; not needed when there is nothing to pay.
    pub payment_method: Option<String>,
    pub currency: String,
    pub policy: PaymentPolicy,
}

/// A payment that is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    pub payment_id: Uuid,
    /// The key was known: nothing was begun.
    pub replayed: bool,
    /// The gateway is to be asked: [`super::Till::drive_first`].
    pub at_gateway: bool,
}

/// Why no payment was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenRefusal {
    /// There is no such hold, or it is another buyer's.
    NotFound,
    Expired,
    Cancelled,
    ShowCancelled,
    AlreadyBooked,
    /// This payment is in flight for the hold.
    InProgress(Uuid),
    /// The key began a payment for another hold, or with another body.
    KeyReused,
    /// So many tries for one hold look like somebody who tries cards.
    TooManyTries,
    /// The hold ends too soon.
    TooLittleTime {
        expires_at: DateTime<Utc>,
    },
    /// The body names no payment method, and there is something to pay.
    MethodMissing {
        amount: Amount,
    },
    /// No gateway is configured, and there is something to pay.
    NoGateway,
}

/// Begins payments in the order of the calls. The caller has expired what is due.
pub(super) async fn open(
    connection: &mut PgConnection,
    show_id: Uuid,
    calls: &[&Open],
    gateway: Option<&'static str>,
    terms: &Terms,
    locked: &mut Locked,
) -> sqlx::Result<Vec<Result<Opened, OpenRefusal>>> {
    let buyer_ids: Vec<String> = calls.iter().map(|call| call.buyer_id.clone()).collect();
    let keys: Vec<String> = calls
        .iter()
        .map(|call| call.idempotency_key.clone())
        .collect();
    let hold_ids: Vec<Uuid> = calls.iter().map(|call| call.hold_id).collect();
    let known = payments::find_known(connection, show_id, &buyer_ids, &keys).await?;
    let payable = payments::find_payable(connection, show_id, &hold_ids).await?;
    let mut book = Book::new(known, payable, gateway, terms, locked);
    let answers = calls.iter().map(|call| book.apply(call)).collect();

    let Book {
        new,
        given_up,
        superseded,
        fenced,
        pins,
        booked,
        ..
    } = book;
    if new.payment_ids.is_empty() {
        return Ok(answers);
    }
    if !given_up.is_empty() {
        payments::give_up_keys(connection, show_id, &given_up).await?;
    }
    if !superseded.is_empty() {
        payments::supersede(connection, show_id, &superseded, locked.now).await?;
    }
    payments::insert(connection, show_id, &new, locked.now).await?;
    if !fenced.is_empty() {
        holds::keep_until(connection, show_id, &fenced, locked.now + terms.fence).await?;
        let positions: Vec<_> = booked
            .iter()
            .filter(|hold| fenced.contains(&hold.hold_id))
            .map(|hold| hold.position)
            .collect();
        notify::changed(connection, show_id, &positions).await?;
    }
    if !pins.is_empty() {
        settle::book(connection, show_id, &pins, locked).await?;
        let confirmed = pins.iter().filter_map(|pin| {
            let hold = booked.iter().find(|hold| hold.hold_id == pin.hold_id)?;
            Some(Event {
                event_type: EventType::BookingConfirmed,
                position: Some(hold.position),
                booking_id: Some(pin.booking_id),
                data: json!({
                    "hold_id": pin.hold_id,
                    "payment_id": pin.payment_id,
                    "buyer_id": hold.buyer_id,
                    "amount": {"amount": 0, "currency": currency_of(calls, pin)},
                    "state": PaymentState::Captured.as_str(),
                    "reason": null,
                }),
            })
        });
        let confirmed = confirmed.collect();
        events::record(connection, show_id, locked, confirmed).await?;
    }
    Ok(answers)
}

fn currency_of<'a>(calls: &[&'a Open], pin: &Pin) -> Option<&'a str> {
    let mut calls = calls.iter();
    let call = calls.find(|call| call.payment_id == pin.payment_id)?;
    Some(&call.currency)
}

/// The keys and holds of a batch as they stand while its calls are applied. No SQL.
struct Book<'a> {
    known: HashMap<(String, String), Known>,
    holds: HashMap<Uuid, Payable>,
    gateway: Option<&'static str>,
    terms: &'a Terms,
    now: DateTime<Utc>,
    show_cancelled: bool,
    new: NewPayments,
    /// Payments that are over and whose keys begin others.
    given_up: Vec<Uuid>,
    /// Payments that wait for a step that their buyers no longer want to take.
    superseded: Vec<Uuid>,
    /// Holds that are kept while they are being paid.
    fenced: Vec<Uuid>,
    /// Holds that cost nothing.
    pins: Vec<Pin>,
    /// The holds of both.
    booked: Vec<Payable>,
    taken: HashSet<Uuid>,
}

impl<'a> Book<'a> {
    fn new(
        known: Vec<Known>,
        payable: Vec<Payable>,
        gateway: Option<&'static str>,
        terms: &'a Terms,
        locked: &Locked,
    ) -> Book<'a> {
        let known = known.into_iter().map(|known| {
            let key = (known.buyer_id.clone(), known.idempotency_key.clone());
            (key, known)
        });
        Book {
            known: known.collect(),
            holds: payable
                .into_iter()
                .map(|hold| (hold.hold_id, hold))
                .collect(),
            gateway,
            terms,
            now: locked.now,
            show_cancelled: locked.cancelled_at.is_some(),
            new: NewPayments::default(),
            given_up: Vec::new(),
            superseded: Vec::new(),
            fenced: Vec::new(),
            pins: Vec::new(),
            booked: Vec::new(),
            taken: HashSet::new(),
        }
    }

    fn apply(&mut self, call: &Open) -> Result<Opened, OpenRefusal> {
        let key = (call.buyer_id.clone(), call.idempotency_key.clone());
        let known = self.known.get(&key);
        // Who was declined may pay for the same hold in another way, with the same key.
        let again = known.filter(|known| {
            known.hold_id == call.hold_id
                && known.body_hash != call.body_hash
                && matches!(known.state.as_str(), "declined" | "failed")
        });
        let again = again.map(|known| known.payment_id);
        if let Some(known) = known.filter(|_| again.is_none()) {
            if known.body_hash != call.body_hash {
                return Err(OpenRefusal::KeyReused);
            }
            // Our own id: the commit of an earlier try of this batch was unknown, and has succeeded.
            let own = known.payment_id == call.payment_id;
            return Ok(Opened {
                payment_id: known.payment_id,
                replayed: !own,
                at_gateway: own && !self.new.payment_ids.contains(&known.payment_id),
            });
        }
        let amount = self.check(call)?;
        self.given_up.extend(again);
        let hold = self.holds[&call.hold_id].clone();
        self.superseded.extend(hold.paying);
        let at_gateway = amount > 0;
        self.add(call, &hold, amount);
        let known = Known {
            buyer_id: call.buyer_id.clone(),
            idempotency_key: call.idempotency_key.clone(),
            payment_id: call.payment_id,
            hold_id: call.hold_id,
            state: PaymentState::Created.as_str().to_owned(),
            body_hash: call.body_hash.to_vec(),
        };
        self.known.insert(key, known);
        Ok(Opened {
            payment_id: call.payment_id,
            replayed: false,
            at_gateway,
        })
    }

    /// What is to be paid, if it may be.
    fn check(&self, call: &Open) -> Result<Amount, OpenRefusal> {
        let hold = self
            .holds
            .get(&call.hold_id)
            .filter(|hold| hold.buyer_id == call.buyer_id)
            .ok_or(OpenRefusal::NotFound)?;
        if let Some(payment_id) = hold.paying.filter(|_| !hold.waits) {
            return Err(OpenRefusal::InProgress(payment_id));
        }
        match hold.state.as_str() {
            "held" if hold.expires_at > self.now => {}
            "held" | "expired" => return Err(OpenRefusal::Expired),
            "confirmed" => return Err(OpenRefusal::AlreadyBooked),
            _ if self.show_cancelled => return Err(OpenRefusal::ShowCancelled),
            _ => return Err(OpenRefusal::Cancelled),
        }
        if self.show_cancelled {
            return Err(OpenRefusal::ShowCancelled);
        }
        if self.taken.contains(&call.hold_id) {
            return Err(OpenRefusal::AlreadyBooked);
        }
        let amount = call.policy.to_pay(hold.total);
        if amount == 0 {
            return Ok(0);
        }
        if self.gateway.is_none() {
            return Err(OpenRefusal::NoGateway);
        }
        if hold.tries >= TRIES_MAX {
            return Err(OpenRefusal::TooManyTries);
        }
        if call.payment_method.is_none() {
            return Err(OpenRefusal::MethodMissing { amount });
        }
        if hold.expires_at - self.now
            < chrono::TimeDelta::from_std(self.terms.time_min).unwrap_or_default()
        {
            return Err(OpenRefusal::TooLittleTime {
                expires_at: hold.expires_at,
            });
        }
        Ok(amount)
    }

    fn add(&mut self, call: &Open, hold: &Payable, amount: Amount) {
        let free = amount == 0;
        let state = if free {
            self.taken.insert(hold.hold_id);
            self.pins.push(Pin {
                hold_id: hold.hold_id,
                payment_id: call.payment_id,
                booking_id: Uuid::now_v7(),
                paid: true,
            });
            PaymentState::Captured
        } else {
            self.fenced.push(hold.hold_id);
            if let Some(hold) = self.holds.get_mut(&hold.hold_id) {
                hold.paying = Some(call.payment_id);
                hold.waits = false;
                hold.tries += 1;
            }
            PaymentState::Created
        };
        self.booked.push(hold.clone());
        let new = &mut self.new;
        new.payment_ids.push(call.payment_id);
        new.hold_ids.push(call.hold_id);
        new.buyer_ids.push(call.buyer_id.clone());
        new.idempotency_keys.push(call.idempotency_key.clone());
        new.body_hashes.push(call.body_hash.to_vec());
        let gateway = self.gateway.filter(|_| !free).unwrap_or(NO_GATEWAY);
        new.gateways.push(gateway.to_owned());
        let method = call.payment_method.clone().filter(|_| !free);
        new.payment_methods.push(method.unwrap_or_default());
        new.amounts.push(amount);
        new.currencies.push(call.currency.clone());
        new.states.push(state.as_str().to_owned());
        new.recover_ats
            .push((!free).then(|| self.now + self.terms.stuck));
    }
}
