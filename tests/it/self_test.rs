//! The harness itself: that it ends what it starts, survives what it breaks, and sees what is broken.

use serde_json::json;
use sqlx::{Executor, postgres::PgPoolOptions};

use crate::harness::{Arena, breaches, floor, run, run_with_own_postgres, seated, show};

/// One held seat and one confirmed place, by two buyers.
async fn sell_a_little(arena: &Arena) {
    let (mut process, api) = arena.api(&[]).await;
    let mut worker = arena.worker(&[]).await;
    let show = api
        .open_show(&show([seated("A", 2, 4), floor("FLOOR", 10)]))
        .await;
    let ada = api.buyer("ada");
    let seat = json!([{"kind": "seats", "seats": ["A-1-1"]}]);
    assert_eq!(ada.ask(&show, seat).await["state"], "held");
    let bob = api.buyer("bob");
    let place = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
    let held = bob.ask(&show, place).await;
    let hold = held["hold"]["id"].as_str().unwrap();
    assert_eq!(
        bob.confirm(&show, hold).await.expect(200)["state"],
        "confirmed"
    );
    process.stop().await;
    worker.stop().await;
}

#[test]
fn what_a_test_leaves_in_the_queue_is_decided() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 3)])).await;
        let wishes =
            json!({"wishes": [{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]});
        for buyer in ["ada", "bob", "cleo", "dora"] {
            let accepted = api.buyer(buyer).submit(&show, &wishes).await;
            assert!(accepted.header("location").is_some());
            accepted.expect(202);
        }
    });
}

#[test]
fn a_seat_that_is_given_back_is_for_the_next_buyer() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([seated("A", 1, 1)])).await;
        let seat = json!([{"kind": "seats", "seats": ["A-1-1"]}]);
        let ada = api.buyer("ada");
        let held = ada.ask(&show, seat.clone()).await;
        let hold = held["hold"]["id"].as_str().unwrap();
        let bob = api.buyer("bob");
        assert_eq!(bob.ask(&show, seat.clone()).await["state"], "rejected");
        bob.release(&show, hold).await.expect(404);
        assert_eq!(
            ada.release(&show, hold).await.expect(200)["state"],
            "cancelled"
        );
        assert_eq!(bob.ask(&show, seat).await["state"], "held");
        let own = bob
            .get(&format!("/v1/shows/{show}/requests"))
            .await
            .expect(200);
        assert_eq!(own["requests"].as_array().map(Vec::len), Some(2));
    });
}

#[test]
fn a_killed_api_comes_back_at_its_address_with_what_it_accepted() {
    run(async |arena| {
        let (mut process, api) = arena.api(&[]).await;
        let show = api.open_show(&show([seated("A", 1, 4)])).await;
        let ada = api.buyer("ada");
        let body = json!({"wishes": [{"kind": "seats", "seats": ["A-1-1", "A-1-2"]}]});
        let first = ada
            .submit_with_key(&show, "the-same-key", &body)
            .await
            .expect(202);
        process.kill();

        let address = api.url.strip_prefix("http://").unwrap();
        let (_process, _) = arena.api_on(address, &[]).await;
        let again = ada.submit_with_key(&show, "the-same-key", &body).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.expect(202)["id"], first["id"]);
        let _worker = arena.worker(&[]).await;
        let outcome = ada.outcome(&show, first["id"].as_str().unwrap()).await;
        assert_eq!(outcome["state"], "held");
    });
}

#[test]
fn what_was_accepted_survives_a_crash_of_postgres() {
    run_with_own_postgres(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([seated("A", 1, 4)])).await;
        let ada = api.buyer("ada");
        let wishes = json!([{"kind": "seats", "seats": ["A-1-1"]}]);
        let held = ada.ask(&show, wishes).await;
        arena.crash_postgres().await;
        let hold = held["hold"]["id"].as_str().unwrap();
        assert_eq!(
            ada.confirm(&show, hold).await.expect(200)["state"],
            "confirmed"
        );
    });
}

/// Each of these is impossible through the product, and most through the constraints: so those go
/// first.
#[test]
fn the_invariants_see_what_is_broken() {
    let damages = [
        ("seats_equal_holds", "update seats set status = 'available', hold_id = null"),
        (
            "no_seat_twice",
            "drop index hold_seats_once;
            insert into holds select show_id, gen_random_uuid(), 99, buyer_id, state, section_no,
                quantity, total, expires_at, created_at, ended_at, fees, kept_until from holds where section_no is null;
            insert into hold_seats select h.show_id, h.hold_id, s.seat_no, null
                from holds h, hold_seats s where h.position = 99",
        ),
        ("section_counters_equal_holds", "update sections set held = 0"),
        ("buyer_totals_equal_holds", "update buyer_totals set booked = booked + 1"),
        ("one_outcome_per_position", "delete from outcomes where position = 1"),
        (
            "one_outcome_per_position",
            "alter table outcomes drop constraint outcomes_once;
            insert into outcomes select * from outcomes",
        ),
        ("positions_without_gaps", "delete from booking_requests where position = 1"),
        ("bookings_equal_confirmed_holds", "delete from bookings"),
        ("payments_equal_bookings", "update payments set state = 'refunded'"),
        (
            "everyone_has_an_outcome",
            "delete from outcomes where position = 2; update show_progress set decided_through = 1;
            update show_intake set sale_state = 'closed'",
        ),
    ];
    run(async |arena| {
        sell_a_little(arena).await;
        assert_eq!(breaches(&arena.pool).await, [""; 0]);
        // One connection, so that the damage is in its transaction, and so is who looks at it.
        let pool = PgPoolOptions::new().max_connections(1);
        let pool = pool.connect(&arena.database_url()).await.unwrap();
        for (rule, damage) in damages {
            pool.execute("begin").await.unwrap();
            pool.execute(damage).await.unwrap();
            let found = breaches(&pool).await;
            assert!(
                found.iter().any(|line| line.contains(rule)),
                "{rule}: {found:?}"
            );
            pool.execute("rollback").await.unwrap();
        }
        pool.close().await;
    });
}
