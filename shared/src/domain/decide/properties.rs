//! What is true of every turn, whatever the hall and whatever is asked.
//!
//! [`reference`] decides the same requests in the most obvious way.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{collection::vec, option, prelude::*};

use super::{reference, *};
use crate::domain::{
    drawn::{PRICE, drawn, free_seats},
    seat_map::Seat,
};

/// What happens to a show, in order.
#[derive(Debug, Clone)]
enum Event {
    Asked(BookingRequest),
    /// A hold ended: this seat is free again.
    Returned(SeatNo),
}

/// A hall, a limit, and what happens.
#[derive(Debug, Clone)]
struct Sale {
    inventory: Inventory,
    rules: Rules,
    events: Vec<Event>,
}

/// What came of the request at an index of the events.
type Decided = Vec<(usize, Decision)>;

impl Sale {
    fn request(&self, index: usize) -> &BookingRequest {
        match &self.events[index] {
            Event::Asked(request) => request,
            Event::Returned(_) => panic!("event {index} is not a request"),
        }
    }

    /// Lets everything happen; `after` sees each step.
    fn run(&self, mut after: impl FnMut(usize, &mut Inventory, &BuyerTotals)) -> Decided {
        let mut inventory = self.inventory.clone();
        let mut totals = BuyerTotals::new();
        let mut decided = Vec::new();
        for (index, event) in self.events.iter().enumerate() {
            match event {
                Event::Asked(request) => {
                    let decision = decide(&mut inventory, &mut totals, self.rules, request);
                    decided.push((index, decision));
                }
                Event::Returned(seat) => inventory.set_seat(*seat, true),
            }
            after(index, &mut inventory, &totals);
        }
        decided
    }
}

/// Seats (dense or nearly sold out) with ties in rank, with categories or without, and places.
fn section() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(prop_oneof!["[0-3|]{1,12}", "[0-9x|]{1,12}", "[.]{1,12}", "[x.]{1,12}"], 1..4)
            .prop_map(|rows| rows.join(" ")),
        // Of several prices, and of one that is not the section's.
        4 => vec(prop_oneof!["[abc.]{1,12}", "[a-cA-C0-3x|]{1,12}", "[a]{1,8}"], 1..4)
            .prop_map(|rows| rows.join(" ")),
        1 => (0..9).prop_map(|places| format!("{places} places")),
    ]
}

fn wish(map: &SeatMap) -> BoxedStrategy<Wish> {
    let sections = |kind| {
        let of_kind = (0..)
            .zip(&map.sections)
            .filter(move |(_, section)| section.kind == kind);
        of_kind
            .map(|(number, _)| number)
            .collect::<Vec<SectionNo>>()
    };
    let adjacent = prop_oneof![Just(Adjacent::Required), Just(Adjacent::Preferred)];
    let mut wishes: Vec<BoxedStrategy<Wish>> = Vec::new();
    if !map.seats.is_empty() {
        let all: Vec<SeatNo> = (0..).take(map.seats.len()).collect();
        let some = 1..=all.len().min(4);
        wishes.push(
            proptest::sample::subsequence(all, some)
                .prop_shuffle()
                .prop_map(Wish::Seats)
                .boxed(),
        );
        let best = (
            proptest::sample::select(sections(SectionKind::Seated)),
            1..6,
            adjacent,
        );
        let best = best.prop_map(|(section, quantity, adjacent)| Wish::BestAvailable {
            section,
            quantity,
            adjacent,
        });
        wishes.extend([best.clone().boxed(), best.boxed()]);
    }
    let general = sections(SectionKind::GeneralAdmission);
    if !general.is_empty() {
        let places = (proptest::sample::select(general), 1..6);
        let places =
            places.prop_map(|(section, quantity)| Wish::GeneralAdmission { section, quantity });
        wishes.push(places.boxed());
    }
    proptest::strategy::Union::new(wishes).boxed()
}

fn event(map: &SeatMap) -> BoxedStrategy<Event> {
    // At a price, or just below it; every price is so many halves.
    let max_total = (0..24_i64, 0..2_i64).prop_map(|(halves, less)| halves * PRICE / 2 - less);
    let buyer_id = proptest::sample::select(vec!["ada", "bob", "eve", "kim"]);
    let asked = (
        vec(wish(map), 1..4),
        buyer_id,
        option::weighted(0.5, max_total),
    );
    let asked = asked.prop_map(|(wishes, buyer_id, max_total)| {
        Event::Asked(BookingRequest {
            position: 1,
            buyer_id: buyer_id.to_owned(),
            wishes,
            max_total,
        })
    });
    if map.seats.is_empty() {
        return asked.boxed();
    }
    let returned = (0..map.seats.len() as SeatNo).prop_map(Event::Returned);
    prop_oneof![5 => asked, 1 => returned].boxed()
}

fn sale() -> impl Strategy<Value = Sale> {
    let hall = vec(section(), 1..4).prop_map(|sections| {
        let sections: Vec<&str> = sections.iter().map(String::as_str).collect();
        drawn(&sections)
    });
    // Rows of aisles only have no seats, and a section without any is no section.
    let hall = hall.prop_filter("a section without seats", |inventory| {
        (0..).zip(&inventory.map().sections).all(|(section, it)| {
            it.kind == SectionKind::GeneralAdmission
                || inventory
                    .map()
                    .seats
                    .iter()
                    .any(|seat| seat.section == section)
        })
    });
    (hall, 1..30).prop_flat_map(|(inventory, buyer_limit)| {
        vec(event(inventory.map()), 1..25).prop_map(move |events| Sale {
            inventory: inventory.clone(),
            rules: Rules { buyer_limit },
            events,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_reference_decides_the_same(sale in sale()) {
        let mut show = reference::Show::new(&sale.inventory);
        let mut expected = Decided::new();
        for (index, event) in sale.events.iter().enumerate() {
            match event {
                Event::Asked(request) => expected.push((index, show.decide(sale.rules, request))),
                Event::Returned(seat) => {
                    show.free.insert(*seat);
                }
            }
        }
        prop_assert_eq!(sale.run(|_, _, _| ()), expected);
    }

    #[test]
    fn no_choice_without_an_orphan_is_passed_over(
        rows in vec("[.x|]{0,3}[.]{1,6}[.x|]{0,8}", 1..4), quantity in 1..5,
    ) {
        let mut inventory = drawn(&[&rows.join(" ")]);
        let request = BookingRequest {
            position: 1,
            buyer_id: "ada".to_owned(),
            wishes: vec![Wish::BestAvailable {
                section: 0,
                quantity,
                adjacent: Adjacent::Required,
            }],
            max_total: None,
        };
        let before = inventory.clone();
        let expected = reference::Show::new(&before).decide(Rules { buyer_limit: 9 }, &request);
        let decision =
            decide(&mut inventory, &mut BuyerTotals::new(), Rules { buyer_limit: 9 }, &request);
        prop_assert_eq!(decision, expected);
    }

    #[test]
    fn no_choice_that_can_be_paid_is_passed_over(
        // With runs of seats, or with none.
        rows in vec(prop_oneof!["[abc.xA|]{1,9}", "([abc.][x|]){1,6}"], 1..4), quantity in 1..6,
        halves in 1..24_i64, less in 0..2_i64,
        adjacent in prop_oneof![1 => Just(Adjacent::Required), 3 => Just(Adjacent::Preferred)],
    ) {
        let mut inventory = drawn(&[&format!("{} a", rows.join(" "))]);
        let request = BookingRequest {
            position: 1,
            buyer_id: "ada".to_owned(),
            wishes: vec![Wish::BestAvailable { section: 0, quantity, adjacent }],
            max_total: Some(halves * PRICE / 2 - less),
        };
        let before = inventory.clone();
        let expected = reference::Show::new(&before).decide(Rules { buyer_limit: 9 }, &request);
        let decision =
            decide(&mut inventory, &mut BuyerTotals::new(), Rules { buyer_limit: 9 }, &request);
        prop_assert_eq!(decision, expected);
    }

    #[test]
    fn no_seat_is_given_twice_and_no_place_that_is_not_there(sale in sale()) {
        let mut free: BTreeSet<SeatNo> = free_seats(&sale.inventory).into_iter().collect();
        let sections = sale.inventory.map().sections.len() as SectionNo;
        let mut places: Vec<i32> =
            (0..sections).map(|section| sale.inventory.free_in_section(section)).collect();
        let mut decided = sale.run(|_, _, _| ()).into_iter().peekable();
        for (index, event) in sale.events.iter().enumerate() {
            if let Event::Returned(seat) = event {
                free.insert(*seat);
            }
            let Some((_, decision)) = decided.next_if(|(at, _)| *at == index) else { continue };
            match decision {
                Decision::Held { allocation: Allocation::Seats(seats), .. } => {
                    prop_assert!(seats.is_sorted());
                    for seat in seats {
                        prop_assert!(free.remove(&seat), "seat {} was not free", seat);
                    }
                }
                Decision::Held { allocation: Allocation::Places { section, quantity }, .. } => {
                    places[section as usize] -= quantity;
                    prop_assert!(places[section as usize] >= 0);
                }
                Decision::Rejected(_) => (),
            }
        }
    }

    #[test]
    fn the_counters_equal_a_recount(sale in sale()) {
        let map = Arc::new(sale.inventory.map().sections.clone());
        sale.run(|_, inventory, _| {
            let mut sum = 0;
            for (section, it) in (0..).zip(map.iter()) {
                if it.kind == SectionKind::Seated {
                    let in_section = |seat: &SeatNo| inventory.map().seat(*seat).section == section;
                    let count = free_seats(inventory).into_iter().filter(in_section).count();
                    assert_eq!(inventory.free_in_section(section), count as i32);
                    let best = inventory.best_singles(section, count as i32).map(|all| all.len());
                    assert_eq!(best, Some(count));
                }
                sum += i64::from(inventory.free_in_section(section));
            }
            assert_eq!(inventory.free_in_show(), sum);
        });
    }

    #[test]
    fn no_buyer_wins_more_than_the_limit_and_the_totals_are_what_was_won(sale in sale()) {
        let mut totals = BuyerTotals::new();
        let decided = sale.run(|_, _, after| {
            assert!(after.values().all(|&total| total <= sale.rules.buyer_limit));
            totals.clone_from(after);
        });
        let mut won = BuyerTotals::new();
        for (index, decision) in decided {
            if let Decision::Held { allocation, .. } = decision {
                let buyer_id = sale.request(index).buyer_id.clone();
                *won.entry(buyer_id).or_default() += allocation.quantity();
            }
        }
        prop_assert_eq!(won, totals);
    }

    #[test]
    fn nobody_pays_more_than_the_maximum_or_another_price(sale in sale()) {
        let map = sale.inventory.map();
        for (index, decision) in sale.run(|_, _, _| ()) {
            let Decision::Held { allocation, total, fees } = decision else { continue };
            let prices: Vec<Price> = match allocation {
                Allocation::Seats(seats) => seats.iter().map(|&seat| map.seat_price(seat)).collect(),
                Allocation::Places { section, quantity } => {
                    vec![map.section(section).base_price(); quantity as usize]
                }
            };
            prop_assert_eq!(total, prices.iter().map(|price| price.total).sum::<Amount>());
            prop_assert_eq!(fees, prices.iter().map(|price| price.fees).sum::<Amount>());
            prop_assert!((0..=total).contains(&fees));
            prop_assert!(sale.request(index).max_total.is_none_or(|max| total <= max));
        }
    }

    #[test]
    fn who_could_pay_any_seat_is_never_told_that_it_costs_too_much(sale in sale()) {
        let map = sale.inventory.map();
        for (index, decision) in sale.run(|_, _, _| ()) {
            let request = sale.request(index);
            let [Wish::BestAvailable { section, quantity, .. }] = request.wishes[..] else { continue };
            let of_section = (0..).zip(&map.seats).filter(|(_, seat)| seat.section == section);
            let dearest = of_section.map(|(seat, _)| map.seat_price(seat).total).max().unwrap();
            if request.max_total.is_none_or(|max| max >= dearest * Amount::from(quantity)) {
                prop_assert_ne!(decision, Decision::Rejected(Reason::PriceOverMax));
            }
        }
    }

    #[test]
    fn best_seats_are_of_the_section_asked_for_and_required_neighbours_are_neighbours(
        sale in sale(),
    ) {
        let map = sale.inventory.map();
        for (index, decision) in sale.run(|_, _, _| ()) {
            let [Wish::BestAvailable { section, quantity, adjacent }] =
                sale.request(index).wishes[..] else { continue };
            let Decision::Held { allocation: Allocation::Seats(seats), .. } = decision else {
                continue;
            };
            prop_assert_eq!(seats.len() as i32, quantity);
            let seats: Vec<&Seat> = seats.into_iter().map(|seat| map.seat(seat)).collect();
            prop_assert!(seats.iter().all(|seat| seat.section == section));
            if adjacent == Adjacent::Required {
                let places: Vec<_> = seats.iter().map(|seat| (seat.row_no, seat.row_seat)).collect();
                let beside = |two: &[(i32, i16)]| (two[0].0, two[0].1 + 1) == two[1];
                prop_assert!(places.windows(2).all(beside), "{:?}", places);
            }
        }
    }

    #[test]
    fn an_inventory_that_is_loaded_anew_before_each_request_decides_the_same(sale in sale()) {
        let mut totals = BuyerTotals::new();
        let mut before = sale.inventory.clone();
        let mut anew = Vec::new();
        let kept = sale.run(|index, after, _| {
            let mut loaded = loaded_anew(&before);
            if let Event::Asked(request) = &sale.events[index] {
                anew.push((index, decide(&mut loaded, &mut totals, sale.rules, request)));
            }
            before = after.clone();
        });
        prop_assert_eq!(kept, anew);
    }

    #[test]
    fn the_same_input_gives_the_same_decisions(sale in sale()) {
        prop_assert_eq!(sale.run(|_, _, _| ()), sale.run(|_, _, _| ()));
    }
}

/// A new inventory with the same seats and places free.
fn loaded_anew(inventory: &Inventory) -> Inventory {
    let map = SeatMap::new(
        inventory.map().sections.clone(),
        inventory.map().seats.clone(),
    );
    let mut loaded = Inventory::new(Arc::new(map));
    for seat in free_seats(inventory) {
        loaded.set_seat(seat, true);
    }
    for (section, it) in (0..).zip(&inventory.map().sections) {
        if it.kind == SectionKind::GeneralAdmission {
            loaded.set_places(section, inventory.free_in_section(section));
        }
    }
    loaded
}
