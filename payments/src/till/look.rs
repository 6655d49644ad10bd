//! Taking how a charge stands into our rows: one transaction, whatever the gateway said before.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;
use stampede_shared::{
    domain::{
        Position,
        payment::{ChargeStatus, Follow, PaymentState, Seats, Step, follow, next_step},
    },
    events::{self, Event, EventType},
    settle::{self, Pin},
    store::{
        bookings::{self, Cancellation},
        holds, notify,
        payments::{self, Moves, Payment},
        show_inventory::Locked,
    },
};
use tracing::error;
use uuid::Uuid;

use super::Terms;
use crate::gateway::Charge;

mod replace;

pub use replace::Spare;

/// A payment that failed because the gateway had no charge is looked at for so long: a call that we gave
/// up may take effect late, and no callback may tell. Looks come the rarer the longer it lasts.
const WATCHED_FOR: TimeDelta = TimeDelta::hours(1);

/// A refund that was given must have stood so long before a charge that is captured again means that it has
/// failed.
const REFUND_RESTS: TimeDelta = TimeDelta::minutes(10);

/// What the gateway said.
#[derive(Debug, Clone)]
pub enum Seen {
    Charge(Charge),
    /// It has no charge for the payment.
    Absent,
    /// It will not make one, and says why in a word.
    Refused(String),
}

impl Seen {
    fn charge(&self) -> Option<&Charge> {
        match self {
            Seen::Charge(charge) => Some(charge),
            Seen::Absent | Seen::Refused(_) => None,
        }
    }
}

/// A look at the charge of a payment.
#[derive(Debug, Clone)]
pub struct Look {
    pub payment_id: Uuid,
    pub seen: Seen,
    /// For when equal seats are to be found.
    pub spare: Option<Spare>,
}

/// A payment after a look.
#[derive(Debug, Clone)]
pub struct Looked {
    pub payment: Payment,
    /// What the gateway is to do next.
    pub step: Step,
    /// Its state is another than before.
    pub moved: bool,
    /// Nothing was done: look again with the map.
    pub needs_map: bool,
}

/// Takes looks into the rows, in their order. `None` for payments that do not exist.
pub(super) async fn look(
    connection: &mut PgConnection,
    show_id: Uuid,
    looks: &[&Look],
    terms: &Terms,
    locked: &mut Locked,
) -> sqlx::Result<Vec<Option<Looked>>> {
    let ids: BTreeSet<Uuid> = looks.iter().map(|look| look.payment_id).collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let found = payments::find(connection, show_id, &ids).await?;
    let mut round = Round {
        payments: found.into_iter().map(|it| (it.payment_id, it)).collect(),
        show_cancelled: locked.cancelled_at.is_some(),
        now: locked.now,
        look_again_at: locked.now + terms.stuck,
        ..Round::default()
    };
    let mut answers: Vec<Option<Looked>> = looks.iter().map(|look| round.apply(look)).collect();
    round.write(connection, show_id, locked).await?;
    for (look, answer) in looks.iter().zip(&mut answers) {
        if let Some(answer) = answer
            && round.replaces.remove(&look.payment_id)
        {
            round
                .replace(connection, show_id, look, answer, locked)
                .await?;
        }
    }
    round.write_moves(connection, show_id, locked).await?;
    let told = std::mem::take(&mut round.events);
    events::record(connection, show_id, locked, told).await?;
    Ok(answers)
}

/// Whether it is a second charge of a payment: of a gateway that forgot a key. Following it would take the
/// money twice; it is for reconciliation to show.
fn is_stray(payment: &Payment, seen: &Seen) -> bool {
    let (Some(known), Some(charge)) = (&payment.charge_id, seen.charge()) else {
        return false;
    };
    let stray = *known != charge.gateway_id;
    if stray {
        error!(
            show.id = %payment.show_id, payment.id = %payment.payment_id,
            charge.id = charge.gateway_id, "the gateway made a second charge for a payment"
        );
    }
    stray
}

/// What is written of a payment.
struct Touch {
    recover_at: Option<DateTime<Utc>>,
    /// All of it; else only when it is looked at again.
    changed: bool,
}

/// A batch of looks: the payments as they stand, and what is to be written.
#[derive(Default)]
struct Round {
    payments: HashMap<Uuid, Payment>,
    show_cancelled: bool,
    now: DateTime<Utc>,
    look_again_at: DateTime<Utc>,
    pins: Vec<Pin>,
    pinned: HashSet<Uuid>,
    confirms: Vec<Uuid>,
    /// (hold, booking, reason)
    undone: Vec<(Uuid, Uuid, &'static str)>,
    /// Payments whose money was taken for seats that are gone.
    replaces: HashSet<Uuid>,
    /// Holds whose payment is over without a booking.
    unfenced: Vec<Uuid>,
    /// Payments whose rows change.
    touched: HashMap<Uuid, Touch>,
    positions: BTreeSet<Position>,
    events: Vec<Event>,
}

impl Round {
    fn apply(&mut self, look: &Look) -> Option<Looked> {
        let mut payment = self.payments.get(&look.payment_id)?.clone();
        // Another payment of the same batch has booked the hold.
        let rivalled = self.pinned.contains(&payment.hold_id) && payment.booking_id.is_none();
        payment.rivalled |= rivalled;
        let before = payment.clone();
        if is_stray(&payment, &look.seen) {
            return Some(Looked {
                payment,
                step: Step::Rest,
                moved: false,
                needs_map: false,
            });
        }
        let status = look.seen.charge().map(|charge| charge.status);
        let seats = payment.seats(self.show_cancelled);
        // A refund can come back long after the gateway had sent it off; a look that is merely older than
        // the refund does not count.
        let refund_failed = payment.state == PaymentState::Refunded
            && status == Some(ChargeStatus::Captured)
            && self.now - payment.moved_at >= REFUND_RESTS;
        if let Some(charge) = look.seen.charge() {
            payment.charge_id = Some(charge.gateway_id.clone());
            payment.next_action.clone_from(&charge.next_action);
        }
        let follows = match &look.seen {
            Seen::Refused(code) if payment.state == PaymentState::Created => {
                payment.reason = Some(code.clone());
                Follow::Become(PaymentState::Failed)
            }
            _ if refund_failed => Follow::Become(PaymentState::Refunding),
            _ => follow(payment.state, seats, status),
        };
        if follows == Follow::Replace && look.spare.is_none() {
            return Some(Looked {
                payment: before,
                step: Step::Rest,
                moved: false,
                needs_map: true,
            });
        }
        self.follow(&mut payment, follows, seats, &look.seen);
        let moved = payment.state != before.state;
        let step = next_step(payment.state, payment.seats(self.show_cancelled), status);
        self.touch(&before, &payment, step, matches!(look.seen, Seen::Absent));
        if payment != before {
            self.positions.insert(payment.position);
        }
        let over = !payment.state.is_in_flight() && payment.booking_id.is_none();
        if moved && over && !payment.rivalled {
            self.unfenced.push(payment.hold_id);
        }
        self.payments.insert(payment.payment_id, payment.clone());
        Some(Looked {
            payment,
            step,
            moved,
            needs_map: false,
        })
    }

    /// Notes what is to be written of a payment: all of it when it has changed, else only whether it is
    /// to be looked at again. How soon that is grows by itself, as long as nothing changes.
    fn touch(&mut self, before: &Payment, payment: &Payment, step: Step, absent: bool) {
        let changed = payment != before;
        let failed = payment.state == PaymentState::Failed && absent;
        let watched = failed && (changed || self.now - payment.moved_at < WATCHED_FOR);
        let left = payment.state.is_moving() || step != Step::Rest || watched;
        if changed || left != payment.recover_at.is_some() {
            let recover_at = left.then_some(self.look_again_at);
            let touch = Touch {
                recover_at,
                changed,
            };
            self.touched.insert(payment.payment_id, touch);
        }
    }

    fn follow(&mut self, payment: &mut Payment, follows: Follow, seats: Seats, seen: &Seen) {
        match follows {
            Follow::Stay => {}
            Follow::Become(state) => {
                if let Some(reason) = self.reason(payment, state, seats, seen) {
                    payment.reason = Some(reason);
                }
                payment.state = state;
                self.tell_end(payment);
            }
            Follow::Pin | Follow::PinPaid => {
                let paid = follows == Follow::PinPaid;
                let booking_id = Uuid::now_v7();
                self.pins.push(Pin {
                    hold_id: payment.hold_id,
                    payment_id: payment.payment_id,
                    booking_id,
                    paid,
                });
                self.pinned.insert(payment.hold_id);
                payment.hold_state = "confirmed".to_owned();
                payment.booking_id = Some(booking_id);
                payment.reason = None;
                if paid {
                    self.confirmed(payment);
                } else {
                    payment.booking_state = Some("pending".to_owned());
                    payment.state = PaymentState::Capturing;
                }
            }
            Follow::Confirm => {
                self.confirms.extend(payment.booking_id);
                self.confirmed(payment);
            }
            Follow::Replace => {
                self.replaces.insert(payment.payment_id);
            }
            Follow::Undo(state) => {
                let reason = if state == PaymentState::Refunded {
                    "refunded_at_gateway"
                } else {
                    "capture_failed"
                };
                let was_confirmed = payment.booking_state.as_deref() == Some("confirmed");
                if let Some(booking_id) = payment.booking_id {
                    self.undone.push((payment.hold_id, booking_id, reason));
                }
                payment.hold_state = "cancelled".to_owned();
                payment.booking_state = Some("cancelled".to_owned());
                payment.reason = Some(reason.to_owned());
                payment.state = state;
                if was_confirmed {
                    self.tell_cancelled(payment, reason);
                }
                self.tell_end(payment);
            }
        }
    }

    fn confirmed(&mut self, payment: &mut Payment) {
        payment.booking_state = Some("confirmed".to_owned());
        payment.state = PaymentState::Captured;
        payment.reason = None;
        payment.next_action = None;
        self.tell(EventType::BookingConfirmed, payment);
    }

    /// Why a payment is in a state, for its buyer to read.
    fn reason(
        &self,
        payment: &Payment,
        state: PaymentState,
        seats: Seats,
        seen: &Seen,
    ) -> Option<String> {
        let lost = if self.show_cancelled {
            "show_cancelled"
        } else if seats == Seats::Lost {
            "hold_expired"
        } else if payment.rivalled || seats == Seats::Booked {
            "paid_already"
        } else {
            "hold_cancelled"
        };
        let word = match (state, seen) {
            (PaymentState::Declined, Seen::Charge(charge)) => {
                charge.reason.as_deref().unwrap_or("declined")
            }
            (PaymentState::Failed, Seen::Refused(code)) => code,
            (PaymentState::Authorized | PaymentState::Refunding | PaymentState::Failed, _) => lost,
            (PaymentState::Voided, _) if payment.reason.is_some() => return None,
            (PaymentState::Voided, _) if seats == Seats::Kept => "voided_at_gateway",
            (PaymentState::Voided, _) => lost,
            (PaymentState::Refunded, _) if payment.reason.is_some() => return None,
            (PaymentState::Refunded, _) => "refunded_at_gateway",
            _ => return None,
        };
        Some(word.to_owned())
    }

    fn tell_end(&mut self, payment: &Payment) {
        match payment.state {
            PaymentState::Declined | PaymentState::Voided | PaymentState::Failed => {
                self.tell(EventType::PaymentFailed, payment);
            }
            PaymentState::Refunded => self.tell(EventType::PaymentRefunded, payment),
            _ => {}
        }
    }

    fn tell_cancelled(&mut self, payment: &Payment, reason: &str) {
        self.events.push(Event {
            event_type: EventType::BookingCancelled,
            position: Some(payment.position),
            booking_id: payment.booking_id,
            data: json!({
                "hold_id": payment.hold_id, "payment_id": payment.payment_id,
                "buyer_id": payment.buyer_id, "by": "gateway", "reason": reason,
            }),
        });
    }

    fn tell(&mut self, event_type: EventType, payment: &Payment) {
        self.events.push(Event {
            event_type,
            position: Some(payment.position),
            booking_id: payment.booking_id,
            data: json!({
                "hold_id": payment.hold_id,
                "payment_id": payment.payment_id,
                "buyer_id": payment.buyer_id,
                "amount": {"amount": payment.amount, "currency": payment.currency},
                "state": payment.state.as_str(),
                "reason": payment.reason,
            }),
        });
    }

    /// Seats and bookings.
    async fn write(
        &mut self,
        connection: &mut PgConnection,
        show_id: Uuid,
        locked: &mut Locked,
    ) -> sqlx::Result<()> {
        if !self.pins.is_empty() {
            settle::book(connection, show_id, &self.pins, locked).await?;
        }
        if !self.confirms.is_empty() {
            bookings::confirm(connection, show_id, &self.confirms, locked.now).await?;
        }
        for (hold_id, booking_id, reason) in &self.undone {
            let cancellation = Cancellation {
                by: "gateway",
                reason,
                key: None,
            };
            let ids = [*booking_id];
            bookings::cancel(connection, show_id, &ids, cancellation, locked.now).await?;
            settle::unbook(connection, show_id, &[*hold_id], locked).await?;
        }
        if !self.unfenced.is_empty() {
            holds::keep_no_longer(connection, show_id, &self.unfenced).await?;
        }
        Ok(())
    }

    /// Books equal seats for money that was taken too late, or sends the money back.
    async fn replace(
        &mut self,
        connection: &mut PgConnection,
        show_id: Uuid,
        look: &Look,
        answer: &mut Looked,
        locked: &mut Locked,
    ) -> sqlx::Result<()> {
        let id = look.payment_id;
        let (Some(spare), Some(payment)) = (&look.spare, self.payments.get(&id).cloned()) else {
            return Ok(());
        };
        let before = payment.clone();
        let mut payment = payment;
        // Another payment of the same batch has booked the hold.
        let rivalled = self.pinned.contains(&payment.hold_id);
        let replaced = match rivalled {
            true => None,
            false => replace::replace(connection, show_id, &payment, spare, locked).await?,
        };
        match replaced {
            Some(booking_id) => {
                self.pinned.insert(payment.hold_id);
                payment.booking_id = Some(booking_id);
                payment.hold_state = "confirmed".to_owned();
                self.confirmed(&mut payment);
            }
            None => {
                payment.state = PaymentState::Refunding;
                payment.reason = Some("seats_gone".to_owned());
            }
        }
        let seats = payment.seats(self.show_cancelled);
        answer.step = next_step(payment.state, seats, Some(ChargeStatus::Captured));
        answer.moved = true;
        answer.payment = payment.clone();
        self.touch(&before, &payment, answer.step, false);
        self.positions.insert(payment.position);
        self.payments.insert(id, payment);
        Ok(())
    }

    async fn write_moves(
        &mut self,
        connection: &mut PgConnection,
        show_id: Uuid,
        locked: &Locked,
    ) -> sqlx::Result<()> {
        let mut moves = Moves::default();
        for (id, touch) in &self.touched {
            let payment = &self.payments[id];
            moves.payment_ids.push(*id);
            moves.states.push(payment.state.as_str().to_owned());
            moves.charge_ids.push(payment.charge_id.clone());
            moves.next_actions.push(payment.next_action.clone());
            moves.reasons.push(payment.reason.clone());
            moves.recover_ats.push(touch.recover_at);
            moves.moved.push(touch.changed);
        }
        if moves.payment_ids.is_empty() {
            return Ok(());
        }
        payments::set(connection, show_id, &moves, locked.now).await?;
        let positions: Vec<Position> = self.positions.iter().copied().collect();
        notify::changed(connection, show_id, &positions).await
    }
}
