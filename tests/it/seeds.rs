//! The seeds of the field: many want the same, and exactly as many get it as there is.

use std::collections::HashSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    harness::{Api, Arena, eventually, floor, run, seated, show},
    wishes::{
        best, body, crowd, expect_availability, held_seats, hold_id, id, neighbours, places, seats,
        winners,
    },
};

async fn count(arena: &Arena, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(&arena.pool)
        .await
        .unwrap()
}

fn one_seat_for(buyers: usize) {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _workers = (arena.worker(&[]).await, arena.worker(&[]).await);
        let show = api.open_show(&show([seated("A", 1, 2)])).await;
        let asked = crowd(&api, &show, vec![seats(&["A-1-1"]); buyers]).await;
        assert_eq!(winners(&asked, "seats_taken"), 1);
        assert_eq!(count(arena, "select count(*) from holds").await, 1);
        expect_availability(&api, &show, "A", [1, 1, 0]).await;
    });
}

#[test]
fn of_20_buyers_for_one_seat_one_gets_it() {
    one_seat_for(20);
}

#[test]
fn of_200_buyers_for_one_seat_one_gets_it() {
    one_seat_for(200);
}

#[test]
fn of_10_requests_of_5_for_5_places_one_is_met() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _workers = (arena.worker(&[]).await, arena.worker(&[]).await);
        let show = api
            .open_show(&show([floor("FLOOR", 5), seated("A", 1, 5)]))
            .await;
        let on_the_floor = crowd(&api, &show, vec![places("FLOOR", 5); 10]).await;
        assert_eq!(winners(&on_the_floor, "section_sold_out"), 1);
        let seated = crowd(&api, &show, vec![best("A", 3); 10]).await;
        assert_eq!(winners(&seated, "section_sold_out"), 1);
        expect_availability(&api, &show, "FLOOR", [0, 5, 0]).await;
        expect_availability(&api, &show, "A", [2, 3, 0]).await;
    });
}

#[test]
fn of_20_requests_of_1_for_5_places_five_are_met() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _workers = (arena.worker(&[]).await, arena.worker(&[]).await);
        let show = api.open_show(&show([floor("FLOOR", 5)])).await;
        let asked = crowd(&api, &show, vec![places("FLOOR", 1); 20]).await;
        assert_eq!(winners(&asked, "sold_out"), 5);
    });
}

#[test]
fn of_500_buyers_for_100_seats_exactly_100_book() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _workers = (arena.worker(&[]).await, arena.worker(&[]).await);
        let show = api.open_show(&show([seated("A", 10, 10)])).await;
        let asked = crowd(&api, &show, vec![best("A", 1); 500]).await;
        assert_eq!(winners(&asked, "sold_out"), 100);

        let won = asked.iter().filter(|it| it.is_held());
        let confirming = won.map(async |it| {
            let confirmed = it
                .buyer
                .confirm(&show, hold_id(&it.request))
                .await
                .expect(200);
            assert_eq!(confirmed["state"], "confirmed");
            held_seats(&confirmed)[0].to_owned()
        });
        let booked: HashSet<String> = join_all(confirming).await.into_iter().collect();
        assert_eq!(booked.len(), 100);
        expect_availability(&api, &show, "A", [0, 0, 100]).await;
        let bookings = "select count(*) from bookings";
        assert_eq!(count(arena, bookings).await, 100);
    });
}

#[test]
fn overlapping_seats_asked_in_both_orders_never_deadlock() {
    run(async |arena| {
        let (mut process, api) = arena.api(&[]).await;
        let mut workers = [arena.worker(&[]).await, arena.worker(&[]).await];
        let show = api.open_show(&show([seated("A", 1, 6)])).await;
        // All orders of overlapping three, and everyone who gets them gives them back or books.
        let rounds = (0..150).map(async |no| {
            let from = 1 + no % 4;
            let mut labels: Vec<String> = (from..from + 3).map(|it| format!("A-1-{it}")).collect();
            if no % 2 == 0 {
                labels.reverse();
            }
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let buyer = api.buyer(&format!("buyer-{no}"));
            let request = buyer.ask(&show, json!([seats(&labels)])).await;
            if request["state"] == "held" {
                if no % 7 == 0 {
                    buyer.confirm(&show, hold_id(&request)).await.expect(200);
                } else {
                    buyer.release(&show, hold_id(&request)).await.expect(200);
                }
            } else {
                let reason = request["reason"].as_str().unwrap();
                assert!(["seats_taken", "sold_out"].contains(&reason), "{request}");
            }
        });
        join_all(rounds).await;
        // The statistics of a session are complete when it has ended.
        process.stop().await;
        for worker in &mut workers {
            worker.stop().await;
        }
        let sessions = "select count(*) from pg_stat_activity
            where datname = current_database() and application_name like 'stampede%'";
        eventually(std::time::Duration::from_secs(5), async || {
            count(arena, sessions).await == 0
        })
        .await;
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        assert_eq!(count(arena, deadlocks).await, 0);
    });
}

#[test]
fn a_sold_out_section_does_not_borrow_from_its_neighbour() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let sections = [
            seated("A", 1, 2),
            seated("B", 1, 9),
            floor("FLOOR", 2),
            floor("YARD", 9),
        ];
        let show = api.open_show(&show(sections)).await;
        for (section, kind) in [("A", best as fn(&str, u32) -> Value), ("FLOOR", places)] {
            let asked = crowd(&api, &show, vec![kind(section, 1); 10]).await;
            assert_eq!(winners(&asked, "section_sold_out"), 2, "{section}");
            expect_availability(&api, &show, section, [0, 2, 0]).await;
        }
        expect_availability(&api, &show, "B", [9, 0, 0]).await;
        expect_availability(&api, &show, "YARD", [9, 0, 0]).await;
    });
}

/// Sends one submission twenty times at once, to these processes in turn: one place in the line.
async fn send_20_times(arena: &Arena, apis: &[Api]) {
    let show = apis[0].open_show(&show([floor("FLOOR", 100)])).await;
    let submission = body(&[places("FLOOR", 2)]);
    let sending = (0..20).map(async |no| {
        let buyer = apis[no % apis.len()].buyer("ada");
        buyer
            .submit_with_key(&show, "the-one-key", &submission)
            .await
    });
    let answers = join_all(sending).await;
    let mut ids = HashSet::new();
    let mut replayed = 0;
    for answer in answers {
        replayed += usize::from(answer.header("idempotency-replayed") == Some("true"));
        let location = answer.header("location").unwrap().to_owned();
        let accepted = answer.expect(202);
        assert_eq!(accepted["position"], 1);
        assert!(location.ends_with(id(&accepted)));
        ids.insert(id(&accepted).to_owned());
    }
    assert_eq!((ids.len(), replayed), (1, 19));
    assert_eq!(
        count(arena, "select count(*) from booking_requests").await,
        1
    );
    assert_eq!(
        count(arena, "select last_position from show_intake").await,
        1
    );
}

#[test]
fn the_same_key_20_times_at_once_is_one_request() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        send_20_times(arena, &[api]).await;
    });
}

#[test]
fn the_same_key_at_two_replicas_at_once_is_one_request() {
    run(async |arena| {
        let (_one, first) = arena.api(&[]).await;
        let (_other, second) = arena.api(&[]).await;
        send_20_times(arena, &[first, second]).await;
    });
}

#[test]
fn a_key_belongs_to_its_buyer_its_show_and_its_wishes() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let hall = show([floor("FLOOR", 100)]);
        let (show, other_show) = (api.open_show(&hall).await, api.open_show(&hall).await);
        let (ada, bob) = (api.buyer("ada"), api.buyer("bob"));
        let (one, two) = (body(&[places("FLOOR", 1)]), body(&[places("FLOOR", 2)]));
        let first = ada
            .submit_with_key(&show, "key-0001", &one)
            .await
            .expect(202);

        let reused = ada
            .submit_with_key(&show, "key-0001", &two)
            .await
            .expect(422);
        assert_eq!(reused["code"], "idempotency-key-reused");
        let bobs = bob
            .submit_with_key(&show, "key-0001", &one)
            .await
            .expect(202);
        let elsewhere = ada
            .submit_with_key(&other_show, "key-0001", &two)
            .await
            .expect(202);
        assert!(id(&bobs) != id(&first) && id(&elsewhere) != id(&first));

        // The answer stays the same after the decision and after the close.
        ada.outcome(&show, id(&first)).await;
        api.sale(&show, "close").await.expect(200);
        let again = ada.submit_with_key(&show, "key-0001", &one).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let again = again.expect(202);
        assert_eq!(
            (&again["id"], &again["position"]),
            (&first["id"], &first["position"])
        );
        assert_eq!(again["place_in_line"], 0);
    });
}

#[test]
fn the_first_wish_that_can_be_met_wins() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let sections = [seated("A", 1, 2), seated("B", 1, 4), floor("FLOOR", 10)];
        let show = api.open_show(&show(sections)).await;
        api.buyer("early").ask(&show, json!([best("A", 2)])).await;

        let wishes = json!([
            seats(&["A-1-1"]),
            best("A", 1),
            places("FLOOR", 2),
            best("B", 2)
        ]);
        let met = api.buyer("ada").ask(&show, wishes).await;
        assert_eq!(met["state"], "held", "{met}");
        assert_eq!(met["hold"]["section"], "FLOOR");
        assert_eq!(met["hold"]["quantity"], 2);
        assert_eq!(
            met["hold"]["total"],
            json!({"amount": 6_000, "currency": "EUR"})
        );

        // If none can be, the reason is that of the first.
        let unmet = json!([seats(&["A-1-1", "B-1-1"]), best("A", 1)]);
        let unmet = api.buyer("bob").ask(&show, unmet).await;
        assert_eq!(
            (&unmet["state"], &unmet["reason"]),
            (&json!("rejected"), &json!("seats_taken"))
        );
        expect_availability(&api, &show, "B", [4, 0, 0]).await;
    });
}

#[test]
fn nobody_pays_more_than_the_ceiling() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api
            .open_show(&show([seated("A", 1, 9), floor("FLOOR", 9)]))
            .await;
        let outcome = async |buyer: &str, wishes: &[Value], amount: i64| {
            let mut submission = body(wishes);
            submission["max_total"] = json!({"amount": amount, "currency": "EUR"});
            let buyer = api.buyer(buyer);
            let accepted = buyer.submit(&show, &submission).await.expect(202);
            buyer.outcome(&show, id(&accepted)).await
        };
        let refused = outcome("ada", &[best("A", 2)], 9_999).await;
        assert_eq!(refused["reason"], "price_over_max", "{refused}");
        let met = outcome("bob", &[best("A", 2)], 10_000).await;
        assert_eq!(met["hold"]["total"]["amount"], 10_000, "{met}");
        let cheaper = outcome("eve", &[best("A", 2), places("FLOOR", 2)], 9_999).await;
        assert_eq!(cheaper["hold"]["section"], "FLOOR", "{cheaper}");
    });
}

#[test]
fn a_buyer_never_has_more_than_the_limit() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _workers = (arena.worker(&[]).await, arena.worker(&[]).await);
        let mut hall = show([seated("A", 2, 10), floor("FLOOR", 20)]);
        hall["buyer_limit"] = json!(4);
        let show = api.open_show(&hall).await;
        let ada = api.buyer("ada");
        let ask = async |wish: Value| ada.ask(&show, json!([wish])).await;

        let kinds = [best("A", 1), places("FLOOR", 1)];
        let outcomes = join_all((0..10).map(|no| ask(kinds[no % 2].clone()))).await;
        let (held, refused): (Vec<_>, Vec<_>) = outcomes
            .iter()
            .partition(|outcome| outcome["state"] == "held");
        assert_eq!(held.len(), 4);
        for outcome in refused {
            assert_eq!(outcome["reason"], "limit_exceeded", "{outcome}");
        }

        // What is booked counts, what is given back does not.
        for outcome in &held[..3] {
            ada.confirm(&show, hold_id(outcome)).await.expect(200);
        }
        assert_eq!(ask(best("A", 1)).await["reason"], "limit_exceeded");
        ada.release(&show, hold_id(held[3])).await.expect(200);
        assert_eq!(ask(best("A", 2)).await["reason"], "limit_exceeded");
        assert_eq!(ask(best("A", 1)).await["state"], "held");
        let others = api.buyer("bob").ask(&show, json!([best("A", 4)])).await;
        assert_eq!(others["state"], "held", "{others}");
    });
}

#[test]
fn best_available_keeps_a_party_together() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([seated("A", 2, 4)])).await;
        let ask = async |buyer: &str, wish: Value| api.buyer(buyer).ask(&show, json!([wish])).await;
        ask("early", seats(&["A-1-2"])).await;

        let four = ask("ada", neighbours("A", 4)).await;
        assert_eq!(held_seats(&four), ["A-2-1", "A-2-2", "A-2-3", "A-2-4"]);
        let three = ask("bob", neighbours("A", 3)).await;
        assert_eq!(three["reason"], "no_adjacent_seats", "{three}");
        let two = ask("bob", neighbours("A", 2)).await;
        assert_eq!(held_seats(&two), ["A-1-3", "A-1-4"]);
        let two = ask("eve", neighbours("A", 2)).await;
        assert_eq!(two["reason"], "section_sold_out", "{two}");

        api.buyer("bob")
            .release(&show, hold_id(&ask("bob", seats(&["A-1-1"])).await))
            .await;
        let split = ask("eve", best("A", 1)).await;
        assert_eq!(held_seats(&split), ["A-1-1"]);
    });
}

#[test]
fn a_party_that_may_be_split_is_split_rather_than_refused() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([seated("A", 1, 5)])).await;
        let ask = async |buyer: &str, wish: Value| api.buyer(buyer).ask(&show, json!([wish])).await;
        ask("early", seats(&["A-1-3"])).await;
        assert_eq!(
            ask("ada", neighbours("A", 3)).await["reason"],
            "no_adjacent_seats"
        );
        assert_eq!(held_seats(&ask("ada", best("A", 3)).await).len(), 3);
    });
}

#[test]
fn requests_are_decided_in_the_order_of_acceptance() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let small_turns = ["--turn-size", "7"];
        let _workers = [
            arena.worker(&small_turns).await,
            arena.worker(&small_turns).await,
            arena.worker(&small_turns).await,
        ];
        let show = api.open_show(&show([floor("FLOOR", 50)])).await;
        let asked = crowd(&api, &show, vec![places("FLOOR", 1); 300]).await;
        assert_eq!(winners(&asked, "sold_out"), 50);
        for it in &asked {
            let position = it.request["position"].as_i64().unwrap();
            assert_eq!(it.is_held(), position <= 50, "{}", it.request);
        }
        let overtaken = "select count(*)
            from outcomes one
            join outcomes next on next.show_id = one.show_id and next.position = one.position + 1
            where next.decided_at < one.decided_at";
        assert_eq!(count(arena, overtaken).await, 0);
        let turns = "select count(distinct decided_at) from outcomes";
        assert!(count(arena, turns).await >= 300 / 7);
    });
}

#[test]
fn two_replicas_give_gapless_positions() {
    run(async |arena| {
        let (_one, first) = arena.api(&[]).await;
        let (_other, second) = arena.api(&[]).await;
        let show = first.open_show(&show([floor("FLOOR", 1)])).await;
        let submission = body(&[places("FLOOR", 1)]);
        let submitting = (0..300).map(async |no| {
            let buyer = [&first, &second][no % 2].buyer(&format!("buyer-{no}"));
            let accepted = buyer.submit(&show, &submission).await.expect(202);
            accepted["position"].as_i64().unwrap()
        });
        let mut positions = join_all(submitting).await;
        positions.sort_unstable();
        assert_eq!(positions, (1..=300).collect::<Vec<_>>());
        let against_the_clock = "select count(*)
            from booking_requests one
            join booking_requests next
                on next.show_id = one.show_id and next.position = one.position + 1
            where next.accepted_at < one.accepted_at";
        assert_eq!(count(arena, against_the_clock).await, 0);
    });
}
