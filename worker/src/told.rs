//! The events of a turn, for integrators: what it decided, in the order of the positions.

use std::collections::HashMap;

use serde_json::{Value, json};
use stampede_shared::{
    domain::{Amount, seat_map::SeatMap},
    events::{Event, EventType},
    store::{show_inventory::Locked, show_progress::Progress},
};
use uuid::Uuid;

use crate::plan::Plan;

/// Those that somebody wants; a show without endpoints pays nothing. A request that was set aside is not
/// rejected, and makes none.
pub fn events(plan: &Plan, map: &SeatMap, progress: &Progress, locked: &Locked) -> Vec<Event> {
    let held = locked.wants(EventType::RequestHeld);
    let rejected = locked.wants(EventType::RequestRejected);
    if !held && !rejected {
        return Vec::new();
    }
    let mut data_of_holds = if held {
        holds(plan, map, progress, locked)
    } else {
        HashMap::new()
    };
    let outcomes = &plan.outcomes;
    let mut events = Vec::new();
    for (index, &position) in outcomes.positions.iter().enumerate() {
        let (event_type, data) = match (outcomes.states[index], outcomes.hold_ids[index]) {
            ("held", Some(hold_id)) => (EventType::RequestHeld, data_of_holds.remove(&hold_id)),
            ("rejected", _) if rejected => {
                let reason = outcomes.reasons[index];
                let data = json!({ "reason": reason });
                (EventType::RequestRejected, Some(data))
            }
            _ => continue,
        };
        let Some(data) = data else {
            continue;
        };
        events.push(Event {
            event_type,
            position: Some(position),
            booking_id: None,
            data,
        });
    }
    events
}

/// What is told of each hold.
fn holds(plan: &Plan, map: &SeatMap, progress: &Progress, locked: &Locked) -> HashMap<Uuid, Value> {
    let mut labels: HashMap<Uuid, Vec<&str>> = HashMap::new();
    for (&seat_no, &hold_id) in plan.seat_nos.iter().zip(&plan.seat_holds) {
        labels
            .entry(hold_id)
            .or_default()
            .push(&map.seat(seat_no).label);
    }
    let expires_at = progress.expires_at(locked.now);
    let money = |amount: Amount| json!({"amount": amount, "currency": progress.currency});
    let new = &plan.holds;
    let data = new.hold_ids.iter().enumerate().map(|(index, &hold_id)| {
        let section = new.section_nos[index].map(|no| &map.section(no).name);
        let data = json!({
            "hold_id": hold_id,
            "buyer_id": new.buyer_ids[index],
            "quantity": new.quantities[index],
            "seats": labels.remove(&hold_id).unwrap_or_default(),
            "section": section,
            "total": money(new.totals[index]),
            "fees": money(new.fees[index]),
            "expires_at": expires_at,
        });
        (hold_id, data)
    });
    data.collect()
}
