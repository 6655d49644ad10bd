//! The rules of a payment, walked through in every order.

use std::collections::HashSet;

use super::*;

const CHARGES: [Option<ChargeStatus>; 7] = [
    None,
    Some(ChargeStatus::Pending),
    Some(ChargeStatus::Declined),
    Some(ChargeStatus::Authorized),
    Some(ChargeStatus::Captured),
    Some(ChargeStatus::Refunded),
    Some(ChargeStatus::Voided),
];

const SEATS: [Seats; 4] = [Seats::Kept, Seats::Booked, Seats::Lost, Seats::Gone];

/// A payment, its seats and its charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    state: PaymentState,
    seats: Seats,
    charge: Option<ChargeStatus>,
    /// Whether equal seats are free when some are looked for.
    equal_seats: bool,
}

/// What the rows are after a look.
fn look(world: World) -> World {
    let (state, seats) = match follow(world.state, world.seats, world.charge) {
        Follow::Stay => (world.state, world.seats),
        Follow::Become(state) => (state, world.seats),
        Follow::Pin => (PaymentState::Capturing, Seats::Booked),
        Follow::PinPaid => (PaymentState::Captured, Seats::Booked),
        Follow::Replace if world.equal_seats => (PaymentState::Captured, Seats::Booked),
        Follow::Replace => (PaymentState::Refunding, world.seats),
        Follow::Confirm => (PaymentState::Captured, world.seats),
        Follow::Undo(state) => (state, Seats::Gone),
    };
    World {
        state,
        seats,
        ..world
    }
}

/// What the charge is after the gateway did what it was asked.
fn step(world: World, authorized_as: ChargeStatus) -> World {
    let charge = match next_step(world.state, world.seats, world.charge) {
        Step::Authorize => Some(authorized_as),
        Step::Capture => Some(ChargeStatus::Captured),
        Step::Void => Some(ChargeStatus::Voided),
        Step::Refund => Some(ChargeStatus::Refunded),
        Step::Rest => world.charge,
    };
    World { charge, ..world }
}

#[test]
fn every_state_has_its_word() {
    for state in PaymentState::ALL {
        assert_eq!(PaymentState::parse(state.as_str()), Some(state));
    }
    assert_eq!(PaymentState::parse("paid"), None);
}

#[test]
fn the_same_look_twice_changes_nothing_the_second_time() {
    for state in PaymentState::ALL {
        for seats in SEATS {
            for charge in CHARGES {
                for equal_seats in [false, true] {
                    let world = World {
                        state,
                        seats,
                        charge,
                        equal_seats,
                    };
                    let once = look(world);
                    assert_eq!(look(once), once, "from {world:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_final_moves_only_for_money_that_was_taken() {
    use PaymentState as P;
    for state in [P::Declined, P::Voided, P::Failed, P::Refunded] {
        for seats in SEATS {
            for charge in CHARGES {
                let follows = follow(state, seats, charge);
                let taken = charge == Some(ChargeStatus::Captured) && state != P::Refunded;
                assert_eq!(
                    follows != Follow::Stay,
                    taken,
                    "{state:?} {seats:?} {charge:?}"
                );
            }
        }
    }
}

/// Every world that can come about: looks and steps may stop at any moment, the hold may run out or be
/// cancelled, the gateway may be slow, decline, authorize, or take the money at once.
fn reachable() -> HashSet<World> {
    let start = |equal_seats| World {
        state: PaymentState::Created,
        seats: Seats::Kept,
        charge: None,
        equal_seats,
    };
    let mut seen = HashSet::new();
    let mut waiting = vec![start(false), start(true)];
    while let Some(world) = waiting.pop() {
        if !seen.insert(world) {
            continue;
        }
        waiting.push(look(world));
        for authorized_as in [
            ChargeStatus::Pending,
            ChargeStatus::Declined,
            ChargeStatus::Authorized,
            ChargeStatus::Captured,
        ] {
            waiting.push(step(world, authorized_as));
            // A call whose effect comes after we gave up on it, and a step that the buyer took.
            let late = world.charge.is_none() || world.charge == Some(ChargeStatus::Pending);
            if late {
                waiting.push(World {
                    charge: Some(authorized_as),
                    ..world
                });
            }
        }
        if world.seats == Seats::Kept {
            for seats in [Seats::Lost, Seats::Gone] {
                waiting.push(World { seats, ..world });
            }
        }
        // The booking is cancelled.
        if world.state == PaymentState::Captured && world.seats == Seats::Booked {
            waiting.push(World {
                state: PaymentState::Refunding,
                seats: Seats::Gone,
                ..world
            });
        }
    }
    seen
}

#[test]
fn wherever_it_was_left_it_ends_with_a_booking_and_the_money_or_with_neither() {
    let worlds = reachable();
    assert!(worlds.len() > 50, "{}", worlds.len());
    for world in worlds {
        let mut end = world;
        for _ in 0..8 {
            end = step(look(end), ChargeStatus::Authorized);
        }
        assert_eq!(look(end), end, "from {world:?}");
        let waits_for_the_buyer =
            end.charge == Some(ChargeStatus::Pending) && end.seats == Seats::Kept;
        if waits_for_the_buyer {
            continue;
        }
        assert!(!end.state.is_moving(), "from {world:?} to {end:?}");
        let paid = end.charge == Some(ChargeStatus::Captured);
        assert_eq!(
            paid,
            end.seats == Seats::Booked,
            "from {world:?} to {end:?}"
        );
        assert_eq!(
            paid,
            end.state == PaymentState::Captured,
            "from {world:?} to {end:?}"
        );
        let reserved = end.charge == Some(ChargeStatus::Authorized);
        assert!(!reserved, "from {world:?} to {end:?}");
    }
}

#[test]
fn what_changes_anything_is_news() {
    for state in PaymentState::ALL {
        for charge in CHARGES.into_iter().flatten() {
            for seats in SEATS {
                // A payment with a charge that is authorized has been told so by its own look.
                let looked = follow(state, seats, Some(charge));
                let known = state == PaymentState::Authorized && charge == ChargeStatus::Authorized;
                if looked != Follow::Stay && !known {
                    assert!(is_news(state, charge), "{state:?} {seats:?} {charge:?}");
                }
            }
        }
    }
    assert!(!is_news(PaymentState::Captured, ChargeStatus::Authorized));
    assert!(!is_news(PaymentState::Refunded, ChargeStatus::Captured));
}
