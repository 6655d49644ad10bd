//! What a turn will write, computed before anything is written. No SQL, no clock.

use std::collections::BTreeMap;

use stampede_shared::{
    domain::{
        Position, SeatNo, SectionNo,
        decide::{BuyerTotals, Rules, decide},
        inventory::Inventory,
        outcome::{Allocation, Decision, Reason},
        wish::BookingRequest,
    },
    store::{holds::NewHolds, outcomes::NewOutcomes},
};
use uuid::Uuid;

/// The rows of a turn.
#[derive(Debug, Default)]
pub struct Plan {
    pub holds: NewHolds,
    /// Seats and, at the same index, their holds; in the order of seats.
    pub seat_nos: Vec<SeatNo>,
    pub seat_holds: Vec<Uuid>,
    pub outcomes: NewOutcomes,
    /// What the wins take from each section.
    pub sections: BTreeMap<SectionNo, i32>,
    /// Of the outcomes: how many by reason. Held ones have none.
    pub rejected: BTreeMap<&'static str, u64>,
}

impl Plan {
    /// Decides requests in their order; those that left the line are passed over.
    pub fn decide(
        inventory: &mut Inventory,
        totals: &mut BuyerTotals,
        rules: Rules,
        requests: &[BookingRequest],
        cancelled: &[Position],
    ) -> Plan {
        let mut plan = Plan::default();
        let mut seats: Vec<(SeatNo, Uuid)> = Vec::new();
        for request in requests {
            if cancelled.binary_search(&request.position).is_ok() {
                continue;
            }
            if request.buyer_id == "poison" {
                fail::fail_point!("decide_request");
            }
            match decide(inventory, totals, rules, request) {
                Decision::Held {
                    allocation,
                    total,
                    fees,
                } => {
                    let hold_id = Uuid::now_v7();
                    let section_no = plan.take(inventory, &allocation);
                    if let Allocation::Seats(seat_nos) = &allocation {
                        seats.extend(seat_nos.iter().map(|&seat_no| (seat_no, hold_id)));
                    }
                    plan.holds.hold_ids.push(hold_id);
                    plan.holds.positions.push(request.position);
                    plan.holds.buyer_ids.push(request.buyer_id.clone());
                    plan.holds.section_nos.push(section_no);
                    plan.holds.quantities.push(allocation.quantity());
                    plan.holds.totals.push(total);
                    plan.holds.fees.push(fees);
                    plan.outcomes
                        .push(request.position, "held", None, Some(hold_id));
                }
                Decision::Rejected(reason) => plan.reject(request.position, reason),
            }
        }
        seats.sort_unstable_by_key(|(seat_no, _)| *seat_no);
        (plan.seat_nos, plan.seat_holds) = seats.into_iter().unzip();
        plan
    }

    /// Rejects all that did not leave the line, for one reason.
    pub fn reject_all(
        requests: impl Iterator<Item = Position>,
        cancelled: &[Position],
        reason: Reason,
    ) -> Plan {
        let mut plan = Plan::default();
        for position in requests {
            if cancelled.binary_search(&position).is_err() {
                plan.reject(position, reason);
            }
        }
        plan
    }

    /// Sets one request aside.
    pub fn quarantine(position: Position, cancelled: &[Position]) -> Plan {
        let mut plan = Plan::default();
        if cancelled.is_empty() {
            plan.outcomes.push(position, "quarantined", None, None);
        }
        plan
    }

    fn reject(&mut self, position: Position, reason: Reason) {
        self.outcomes
            .push(position, "rejected", Some(reason.as_str()), None);
        *self.rejected.entry(reason.as_str()).or_default() += 1;
    }

    /// Counts what an allocation takes of each section; returns the general-admission section.
    fn take(&mut self, inventory: &Inventory, allocation: &Allocation) -> Option<SectionNo> {
        match allocation {
            Allocation::Seats(seat_nos) => {
                for &seat_no in seat_nos {
                    let section_no = inventory.map().seat(seat_no).section;
                    *self.sections.entry(section_no).or_default() += 1;
                }
                None
            }
            Allocation::Places { section, quantity } => {
                *self.sections.entry(*section).or_default() += quantity;
                Some(*section)
            }
        }
    }
}
