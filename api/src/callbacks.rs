//! What gateways told, on its way into the rows: many events a transaction.
//!
//! Two events come with every payment and tell what our own calls have brought about. They are stored as
//! applied when the payment knows already; else it is looked at, after a moment in which whoever
//! drives it may come to know.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use stampede_shared::{
    domain::payment::{ChargeStatus, is_news},
    group_commit::GroupCommit,
    retry::retry,
    store::{
        Database,
        error::is_transient,
        gateway_events::{self, GatewayEvent},
        payments::{self, Payment},
    },
};
use uuid::Uuid;

/// How long whoever has just moved a payment may take to know what a callback tells.
const MOMENT: Duration = Duration::from_millis(500);

/// A payment that has moved so lately is being driven, most likely.
const LATELY: TimeDelta = TimeDelta::seconds(2);

/// An event, and how it says that the charge stood.
#[derive(Debug, Clone)]
pub struct Told {
    pub event: GatewayEvent,
    pub status: Option<ChargeStatus>,
}

/// What is to be done about an event that is stored now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It was applied before, or tells nothing new.
    Nothing,
    /// The charge is to be looked at, after that time.
    Look { after: Duration },
}

/// Stores events, each once, and says when they are applied. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Callbacks {
    stores: GroupCommit<Told, Option<Due>>,
    applied: GroupCommit<GatewayEvent, bool>,
}

impl Callbacks {
    pub fn new(database: Database) -> Callbacks {
        let applying = database.clone();
        let stores = GroupCommit::new(move |show_id, told: Vec<Told>| {
            let database = database.clone();
            async move {
                let stored = retry(show_id, "callbacks", is_transient, || {
                    store(&database, show_id, &told)
                });
                match stored.await {
                    Some(due) => due.into_iter().map(Some).collect(),
                    None => vec![None; told.len()],
                }
            }
        });
        let applied = GroupCommit::new(move |show_id, events: Vec<GatewayEvent>| {
            let database = applying.clone();
            async move {
                let count = events.len();
                let (gateways, ids): (Vec<String>, Vec<String>) = events
                    .into_iter()
                    .map(|event| (event.gateway, event.event_id))
                    .unzip();
                let done = retry(show_id, "applied callbacks", is_transient, || {
                    gateway_events::applied(&database.pool, show_id, &gateways, &ids)
                });
                vec![done.await.is_some(); count]
            }
        });
        Callbacks { stores, applied }
    }

    /// Stores an event; `None` when it could not be, and the gateway should tell again.
    pub async fn store(&self, told: Told) -> Option<Due> {
        let stored = self.stores.call(told.event.show_id, told).await;
        stored.ok().flatten()
    }

    /// Says that the payment of an event was looked at. Returns whether it could be said.
    pub async fn applied(&self, event: GatewayEvent) -> bool {
        let said = self.applied.call(event.show_id, event).await;
        said.unwrap_or(false)
    }
}

/// Whether a payment knows what an event tells.
pub fn is_known(told: &Told, payment: &Payment) -> bool {
    payment.charge_id.as_ref() == Some(&told.event.charge_id)
        && told
            .status
            .is_some_and(|told| !is_news(payment.state, told))
}

async fn store(database: &Database, show_id: Uuid, told: &[Told]) -> sqlx::Result<Vec<Due>> {
    let mut tx = database.begin().await?;
    let mut ids: Vec<Uuid> = told.iter().map(|told| told.event.payment_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = payments::find(&mut tx, show_id, &ids).await?;
    let found: HashMap<Uuid, Payment> = found
        .into_iter()
        .map(|payment| (payment.payment_id, payment))
        .collect();
    let now = Utc::now();
    let due: Vec<Due> = told
        .iter()
        .map(|told| due(told, found.get(&told.event.payment_id), now))
        .collect();
    let events: Vec<&GatewayEvent> = told.iter().map(|told| &told.event).collect();
    let news: Vec<bool> = due.iter().map(|due| *due != Due::Nothing).collect();
    let known = gateway_events::store(&mut tx, show_id, &events, &news).await?;
    tx.commit().await?;
    let due = due.into_iter().zip(&events).map(|(due, event)| {
        if known.contains(&event.event_id) {
            Due::Nothing
        } else {
            due
        }
    });
    Ok(due.collect())
}

/// Whether an event tells something new of a payment, and when to look.
fn due(told: &Told, payment: Option<&Payment>, now: DateTime<Utc>) -> Due {
    match payment {
        Some(payment) if is_known(told, payment) => Due::Nothing,
        Some(payment) if payment.state.is_moving() && now - payment.moved_at < LATELY => {
            Due::Look { after: MOMENT }
        }
        _ => Due::Look {
            after: Duration::ZERO,
        },
    }
}

#[cfg(test)]
mod tests {
    use stampede_shared::domain::payment::PaymentState;

    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn payment(state: PaymentState, charge_id: Option<&str>, moved_s: i64) -> Payment {
        Payment {
            show_id: Uuid::nil(),
            payment_id: Uuid::nil(),
            hold_id: Uuid::nil(),
            request_id: Uuid::nil(),
            position: 1,
            buyer_id: "ada".into(),
            body_hash: Vec::new(),
            gateway: "simulated".into(),
            payment_method: "pm_1".into(),
            amount: 100,
            currency: "EUR".into(),
            state,
            charge_id: charge_id.map(str::to_owned),
            next_action: None,
            reason: None,
            created_at: NOW,
            moved_at: NOW - TimeDelta::seconds(moved_s),
            recover_at: None,
            hold_state: "held".into(),
            kept_until: NOW,
            booking_id: None,
            booking_state: None,
            rivalled: false,
        }
    }

    fn told(status: Option<ChargeStatus>) -> Told {
        Told {
            event: GatewayEvent {
                show_id: Uuid::nil(),
                gateway: "simulated".into(),
                event_id: "ev_1".into(),
                payment_id: Uuid::nil(),
                charge_id: "ch_1".into(),
            },
            status,
        }
    }

    #[test]
    fn what_we_know_is_not_looked_at_and_what_may_be_news_is() {
        let captured = payment(PaymentState::Captured, Some("ch_1"), 0);
        let of = |status| due(&told(status), Some(&captured), NOW);
        assert_eq!(of(Some(ChargeStatus::Captured)), Due::Nothing);
        assert_eq!(of(Some(ChargeStatus::Authorized)), Due::Nothing);
        let at_once = Due::Look {
            after: Duration::ZERO,
        };
        assert_eq!(of(Some(ChargeStatus::Refunded)), at_once);
        assert_eq!(of(None), at_once);
        let other = payment(PaymentState::Captured, Some("ch_2"), 0);
        let status = Some(ChargeStatus::Captured);
        assert_eq!(due(&told(status), Some(&other), NOW), at_once);
        assert_eq!(due(&told(status), None, NOW), at_once);
    }

    #[test]
    fn whoever_has_just_moved_a_payment_gets_a_moment_and_nobody_else() {
        let status = Some(ChargeStatus::Authorized);
        let young = payment(PaymentState::Created, None, 0);
        assert_eq!(
            due(&told(status), Some(&young), NOW),
            Due::Look { after: MOMENT }
        );
        let old = payment(PaymentState::Created, None, 60);
        let at_once = Due::Look {
            after: Duration::ZERO,
        };
        assert_eq!(due(&told(status), Some(&old), NOW), at_once);
    }
}
