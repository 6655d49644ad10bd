//! The rules of [`decide`](super::decide), by example.

use super::*;
use crate::domain::drawn::{FEE, PRICE, drawn, free_seats};

const RULES: Rules = Rules { buyer_limit: 4 };

fn seats(seats: &[SeatNo]) -> Wish {
    Wish::Seats(seats.to_vec())
}

fn best(section: SectionNo, quantity: i32, adjacent: Adjacent) -> Wish {
    Wish::BestAvailable {
        section,
        quantity,
        adjacent,
    }
}

fn places(section: SectionNo, quantity: i32) -> Wish {
    Wish::GeneralAdmission { section, quantity }
}

fn request(buyer: &str, wishes: &[Wish]) -> BookingRequest {
    BookingRequest {
        position: 1,
        buyer_id: buyer.to_owned(),
        wishes: wishes.to_vec(),
        max_total: None,
    }
}

/// Decides for a buyer who has nothing yet.
fn decide_alone(inventory: &mut Inventory, wishes: &[Wish]) -> Decision {
    decide(
        inventory,
        &mut BuyerTotals::new(),
        RULES,
        &request("ada", wishes),
    )
}

/// At the sections' own prices, of which a tenth is fees.
fn held(seats: &[SeatNo], total: Amount) -> Decision {
    held_with_fees(seats, total, total / (PRICE / FEE))
}

fn held_with_fees(seats: &[SeatNo], total: Amount, fees: Amount) -> Decision {
    Decision::Held {
        allocation: Allocation::Seats(seats.to_vec()),
        total,
        fees,
    }
}

fn rejected(reason: Reason) -> Decision {
    Decision::Rejected(reason)
}

#[test]
fn named_seats_are_given_in_ascending_order_with_the_sum_of_their_prices() {
    let mut inventory = drawn(&["...", "..."]);
    let decision = decide_alone(&mut inventory, &[seats(&[4, 0, 2])]);
    assert_eq!(decision, held(&[0, 2, 4], 2 * PRICE + 2 * PRICE));
    assert_eq!(free_seats(&inventory), [1, 3, 5]);
}

#[test]
fn named_seats_are_all_or_nothing() {
    let mut inventory = drawn(&["..x."]);
    let decision = decide_alone(&mut inventory, &[seats(&[0, 1, 2])]);
    assert_eq!(decision, rejected(Reason::SeatsTaken));
    assert_eq!(inventory.free_in_show(), 3);
}

#[test]
fn places_are_counted_down_to_none() {
    let mut inventory = drawn(&["..", "5 places"]);
    let decision = decide_alone(&mut inventory, &[places(1, 3)]);
    let allocation = Allocation::Places {
        section: 1,
        quantity: 3,
    };
    let (total, fees) = (3 * 2 * PRICE, 3 * 2 * FEE);
    let held = Decision::Held {
        allocation,
        total,
        fees,
    };
    assert_eq!(decision, held);
    let decision = decide_alone(&mut inventory, &[places(1, 3)]);
    assert_eq!(decision, rejected(Reason::SectionSoldOut));
    assert_eq!(inventory.free_in_section(1), 2);
}

#[test]
fn the_first_wish_that_can_be_met_wins() {
    let mut inventory = drawn(&["x..", "5 places"]);
    let wishes = [seats(&[0]), best(0, 2, Adjacent::Required), places(1, 2)];
    assert_eq!(
        decide_alone(&mut inventory, &wishes),
        held(&[1, 2], 2 * PRICE)
    );
    assert_eq!(inventory.free_in_section(1), 5);
}

#[test]
fn the_reason_is_that_of_the_first_wish() {
    let mut inventory = drawn(&["x..", "1 places"]);
    let wishes = [seats(&[0]), best(0, 3, Adjacent::Required), places(1, 2)];
    assert_eq!(
        decide_alone(&mut inventory, &wishes),
        rejected(Reason::SeatsTaken)
    );
    let wishes = [best(0, 3, Adjacent::Required), seats(&[0])];
    assert_eq!(
        decide_alone(&mut inventory, &wishes),
        rejected(Reason::SectionSoldOut)
    );
}

#[test]
fn a_show_without_anything_free_is_sold_out_whatever_is_asked() {
    let mut inventory = drawn(&["xx", "0 places"]);
    let mut totals = BuyerTotals::from([("ada".to_owned(), RULES.buyer_limit)]);
    for wish in [seats(&[0]), places(1, 1), best(0, 9, Adjacent::Required)] {
        let decision = decide(&mut inventory, &mut totals, RULES, &request("ada", &[wish]));
        assert_eq!(decision, rejected(Reason::SoldOut));
    }
}

#[test]
fn a_sold_out_section_does_not_borrow_from_its_neighbour() {
    let mut inventory = drawn(&["xx.x", "....", "0 places", "9 places"]);
    for adjacent in [Adjacent::Required, Adjacent::Preferred] {
        let decision = decide_alone(&mut inventory, &[best(0, 2, adjacent)]);
        assert_eq!(decision, rejected(Reason::SectionSoldOut));
    }
    let decision = decide_alone(&mut inventory, &[places(2, 1)]);
    assert_eq!(decision, rejected(Reason::SectionSoldOut));
}

#[test]
fn required_neighbours_or_nothing_and_preferred_ones_if_there_are_any() {
    let mut inventory = drawn(&[".x.|. ."]);
    let decision = decide_alone(&mut inventory, &[best(0, 2, Adjacent::Required)]);
    assert_eq!(decision, rejected(Reason::NoAdjacentSeats));
    let decision = decide_alone(&mut inventory, &[best(0, 2, Adjacent::Preferred)]);
    assert_eq!(decision, held(&[0, 2], 2 * PRICE));

    let mut inventory = drawn(&[".x.x. .."]);
    let decision = decide_alone(&mut inventory, &[best(0, 2, Adjacent::Preferred)]);
    assert_eq!(decision, held(&[5, 6], 2 * PRICE));
}

#[test]
fn the_limit_counts_what_the_buyer_had_before() {
    let mut inventory = drawn(&["....."]);
    let mut totals = BuyerTotals::from([("ada".to_owned(), 3)]);
    let mut ask =
        |buyer, wish| decide(&mut inventory, &mut totals, RULES, &request(buyer, &[wish]));
    assert_eq!(ask("ada", seats(&[0, 1])), rejected(Reason::LimitExceeded));
    assert_eq!(ask("ada", seats(&[0])), held(&[0], PRICE));
    assert_eq!(ask("bob", seats(&[1, 2])), held(&[1, 2], 2 * PRICE));
}

#[test]
fn the_limit_counts_what_was_won_earlier_in_the_same_turn() {
    let mut inventory = drawn(&["......", "9 places"]);
    let mut totals = BuyerTotals::new();
    let mut ask = |wish| decide(&mut inventory, &mut totals, RULES, &request("ada", &[wish]));
    assert_eq!(ask(seats(&[0, 1])), held(&[0, 1], 2 * PRICE));
    assert_eq!(ask(places(1, 3)), rejected(Reason::LimitExceeded));
    assert_eq!(
        ask(best(0, 2, Adjacent::Required)),
        held(&[2, 3], 2 * PRICE)
    );
    assert_eq!(ask(seats(&[4])), rejected(Reason::LimitExceeded));
    assert_eq!(totals["ada"], RULES.buyer_limit);
}

#[test]
fn a_smaller_wish_within_the_limit_can_still_be_met() {
    let mut inventory = drawn(&["....."]);
    let mut totals = BuyerTotals::from([("ada".to_owned(), 3)]);
    let wishes = [seats(&[0, 1]), seats(&[2])];
    let decision = decide(&mut inventory, &mut totals, RULES, &request("ada", &wishes));
    assert_eq!(decision, held(&[2], PRICE));
}

#[test]
fn a_wish_may_cost_the_maximum_and_not_a_cent_more() {
    let mut inventory = drawn(&["....", "9 places"]);
    let mut ask = |wish, max_total| {
        let mut request = request("ada", &[wish]);
        request.max_total = Some(max_total);
        decide(&mut inventory, &mut BuyerTotals::new(), RULES, &request)
    };
    let over = rejected(Reason::PriceOverMax);
    assert_eq!(ask(seats(&[0, 1]), 2 * PRICE - 1), over);
    assert_eq!(ask(best(0, 2, Adjacent::Preferred), 2 * PRICE - 1), over);
    assert_eq!(ask(places(1, 1), 2 * PRICE - 1), over);
    assert_eq!(ask(seats(&[0, 1]), 2 * PRICE), held(&[0, 1], 2 * PRICE));
}

/// In a section of several prices: `a` is half of a price, without fees; `c` three, of which one is fees.
fn ask_within(
    section: &str,
    quantity: i32,
    adjacent: Adjacent,
    max_total: Option<Amount>,
) -> Decision {
    let mut request = request("ada", &[best(0, quantity, adjacent)]);
    request.max_total = max_total;
    decide(
        &mut drawn(&[section]),
        &mut BuyerTotals::new(),
        RULES,
        &request,
    )
}

#[test]
fn named_seats_cost_what_their_categories_cost() {
    let mut inventory = drawn(&["c.a"]);
    let decision = decide_alone(&mut inventory, &[seats(&[2, 0, 1])]);
    let total = 3 * PRICE + PRICE + PRICE / 2;
    assert_eq!(decision, held_with_fees(&[0, 1, 2], total, PRICE + FEE));
}

#[test]
fn the_best_seats_of_several_prices_cost_what_they_cost() {
    for max_total in [None, Some(4 * PRICE)] {
        let decision = ask_within("c.aa", 2, Adjacent::Required, max_total);
        assert_eq!(decision, held_with_fees(&[0, 1], 4 * PRICE, PRICE + FEE));
    }
}

#[test]
fn who_cannot_pay_the_best_neighbours_gets_the_best_that_can_be_paid() {
    let ask = |max_total| ask_within("cc.. ..aa", 2, Adjacent::Required, Some(max_total));
    assert_eq!(
        ask(6 * PRICE),
        held_with_fees(&[0, 1], 6 * PRICE, 2 * PRICE)
    );
    assert_eq!(ask(6 * PRICE - 1), held(&[2, 3], 2 * PRICE));
    assert_eq!(ask(2 * PRICE - 1), held_with_fees(&[6, 7], PRICE, 0));
    assert_eq!(ask(PRICE - 1), rejected(Reason::PriceOverMax));
}

#[test]
fn neighbours_that_can_be_paid_come_before_better_single_seats() {
    let ask = |adjacent| ask_within("cxax.. aa", 2, adjacent, Some(PRICE));
    let neighbours = held_with_fees(&[6, 7], PRICE, 0);
    assert_eq!(ask(Adjacent::Required), neighbours);
    assert_eq!(ask(Adjacent::Preferred), neighbours);
    let ask = |adjacent| ask_within("cxaxcc cxa", 2, adjacent, Some(PRICE));
    assert_eq!(ask(Adjacent::Required), rejected(Reason::PriceOverMax));
    assert_eq!(ask(Adjacent::Preferred), held_with_fees(&[2, 8], PRICE, 0));
}

#[test]
fn too_dear_is_said_first_only_if_the_cheapest_would_be() {
    let ask = |section, max_total| ask_within(section, 2, Adjacent::Required, Some(max_total));
    let over = rejected(Reason::PriceOverMax);
    // The only cheap seat is taken, but may come back.
    assert_eq!(ask("xxA.", PRICE - 1), over);
    assert_eq!(ask("xxA.", PRICE), rejected(Reason::SectionSoldOut));
    assert_eq!(ask(".xA.", PRICE), rejected(Reason::NoAdjacentSeats));
    assert_eq!(ask("xA..", PRICE), over);
}

#[test]
fn a_free_seat_costs_nothing_and_is_within_any_maximum() {
    let mut inventory = drawn(&["..", "aa"]);
    let mut map = SeatMap::new(
        inventory.map().sections.clone(),
        inventory.map().seats.clone(),
    );
    map.sections[1].categories[0].price = 0;
    let map = SeatMap::new(map.sections, map.seats);
    inventory = Inventory::new(std::sync::Arc::new(map));
    (0..4).for_each(|seat| inventory.set_seat(seat, true));
    let mut request = request("ada", &[best(1, 2, Adjacent::Required)]);
    request.max_total = Some(0);
    let decision = decide(&mut inventory, &mut BuyerTotals::new(), RULES, &request);
    assert_eq!(decision, held_with_fees(&[2, 3], 0, 0));
}

#[test]
fn what_returned_seats_could_not_change_is_said_first() {
    let mut inventory = drawn(&["x...", "0 places"]);
    let mut ask = |total, wish, max_total| {
        let mut request = request("ada", &[wish]);
        request.max_total = Some(max_total);
        let mut totals = BuyerTotals::from([("ada".to_owned(), total)]);
        decide(&mut inventory, &mut totals, RULES, &request)
    };
    assert_eq!(ask(4, seats(&[0]), 0), rejected(Reason::LimitExceeded));
    assert_eq!(ask(3, seats(&[0]), 0), rejected(Reason::PriceOverMax));
    assert_eq!(ask(3, seats(&[0]), PRICE), rejected(Reason::SeatsTaken));
    assert_eq!(ask(4, places(1, 1), 0), rejected(Reason::LimitExceeded));
    assert_eq!(ask(3, places(1, 1), 0), rejected(Reason::PriceOverMax));
    assert_eq!(
        ask(3, places(1, 1), 2 * PRICE),
        rejected(Reason::SectionSoldOut)
    );
}

#[test]
fn a_rejected_request_takes_nothing_and_counts_nothing() {
    let mut inventory = drawn(&["x..x", "1 places"]);
    let mut totals = BuyerTotals::new();
    let wishes = [
        seats(&[0, 1]),
        best(0, 3, Adjacent::Preferred),
        places(1, 2),
    ];
    decide(&mut inventory, &mut totals, RULES, &request("ada", &wishes));
    assert_eq!(free_seats(&inventory), [1, 2]);
    assert_eq!(inventory.free_in_section(1), 1);
    assert!(totals.is_empty());
}

#[test]
fn a_wish_of_the_wrong_kind_for_its_section_is_not_met() {
    let mut inventory = drawn(&["..", "9 places"]);
    let technical = rejected(Reason::Technical);
    assert_eq!(decide_alone(&mut inventory, &[places(0, 1)]), technical);
    let wish = best(1, 1, Adjacent::Preferred);
    assert_eq!(decide_alone(&mut inventory, &[wish]), technical);
}

#[test]
fn a_corrupt_request_panics_before_anything_is_taken() {
    let corrupt = [
        seats(&[]),
        seats(&[0, 0]),
        seats(&[0, 99]),
        seats(&[0, -1]),
        places(1, 0),
        places(1, -1),
        places(7, 1),
        best(0, i32::MIN, Adjacent::Preferred),
    ];
    for wish in corrupt {
        let mut inventory = drawn(&["..", "9 places"]);
        let mut totals = BuyerTotals::new();
        let request = request("ada", std::slice::from_ref(&wish));
        let decided = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            decide(&mut inventory, &mut totals, RULES, &request)
        }));
        assert!(decided.is_err(), "{wish:?} gave {decided:?}");
        assert_eq!(inventory.free_in_show(), 11);
        assert!(totals.is_empty());
    }
}

#[test]
fn a_huge_quantity_is_refused_without_overflow() {
    let mut inventory = drawn(&["..", "9 places"]);
    let rules = Rules {
        buyer_limit: i32::MAX,
    };
    let mut totals = BuyerTotals::from([("ada".to_owned(), i32::MAX)]);
    for wish in [places(1, i32::MAX), best(0, i32::MAX, Adjacent::Required)] {
        let request = request("ada", &[wish]);
        let decision = decide(&mut inventory, &mut totals, rules, &request);
        assert_eq!(decision, rejected(Reason::LimitExceeded));
        let decision = decide(&mut inventory, &mut BuyerTotals::new(), rules, &request);
        assert_eq!(decision, rejected(Reason::SectionSoldOut));
    }
}
