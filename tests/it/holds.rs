//! How holds end: confirmed, cancelled or expired, exactly one of these, and nobody is blocked by it.

use chrono::{DateTime, Utc};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Api, Arena, Buyer, floor, run, seated, send, show},
    wishes::{best, body, expect_availability, held_seats, hold_id, id, places, seats},
};

/// Longer than any test.
const NEVER_SWEEP: [&str; 2] = ["--sweep-interval-ms", "3600000"];

/// A show whose holds last this long.
fn brief(seconds: u32, sections: impl Into<Vec<Value>>) -> Value {
    let mut hall = show(sections);
    hall["hold_seconds"] = json!(seconds);
    hall
}

/// The time of all holds is over now.
async fn let_all_expire(arena: &Arena) {
    sqlx::query("update holds set expires_at = clock_timestamp(), kept_until = clock_timestamp() where state = 'held'")
        .execute(&arena.pool)
        .await
        .unwrap();
}

async fn state_in_database(arena: &Arena, hold_id: &str) -> String {
    sqlx::query_scalar("select state from holds where hold_id = $1::uuid")
        .bind(hold_id)
        .fetch_one(&arena.pool)
        .await
        .unwrap()
}

#[track_caller]
fn refused(answer: Answer, status: u16, code: &str) {
    assert_eq!(answer.expect(status)["code"], code);
}

#[test]
fn a_confirmed_hold_is_a_booking_for_good() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([seated("A", 1, 4)])).await;
        let ada = api.buyer("ada");
        let held = ada.ask(&show, json!([best("A", 2)])).await;
        expect_availability(&api, &show, "A", [2, 2, 0]).await;

        let confirmed = ada.confirm(&show, hold_id(&held)).await.expect(200);
        assert_eq!(confirmed["state"], "confirmed");
        let again = ada.confirm(&show, hold_id(&held)).await.expect(200);
        assert_eq!(again["booking"], confirmed["booking"]);
        assert!(again["booking"]["id"].is_string(), "{again}");

        refused(
            ada.release(&show, hold_id(&held)).await,
            409,
            "already-confirmed",
        );
        refused(ada.cancel(&show, id(&held)).await, 409, "already-confirmed");
        expect_availability(&api, &show, "A", [2, 0, 2]).await;
        let found = ada.poll(&show, id(&held), 0).await.expect(200);
        assert_eq!(found, again);
    });
}

#[test]
fn a_cancelled_hold_gives_its_seats_back_at_once() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api
            .open_show(&show([seated("A", 1, 1), floor("FLOOR", 2)]))
            .await;
        for (wish, section) in [(seats(&["A-1-1"]), "A"), (places("FLOOR", 2), "FLOOR")] {
            let (ada, bob) = (api.buyer("ada"), api.buyer("bob"));
            let first = ada.ask(&show, json!([wish])).await;
            for _ in 0..2 {
                let cancelled = ada.release(&show, hold_id(&first)).await.expect(200);
                assert_eq!(cancelled["state"], "cancelled");
            }
            assert_eq!(
                ada.cancel(&show, id(&first)).await.expect(200)["state"],
                "cancelled"
            );
            refused(
                ada.confirm(&show, hold_id(&first)).await,
                409,
                "hold-cancelled",
            );

            // By its request, which is the same.
            let second = bob.ask(&show, json!([wish])).await;
            assert_eq!(second["state"], "held", "{second}");
            for _ in 0..2 {
                let cancelled = bob.cancel(&show, id(&second)).await.expect(200);
                assert_eq!(cancelled["state"], "cancelled");
            }
            let third = ada.ask(&show, json!([wish])).await;
            ada.confirm(&show, hold_id(&third)).await.expect(200);
            let quantity = third["hold"]["quantity"].as_i64().unwrap();
            expect_availability(&api, &show, section, [0, 0, quantity]).await;
        }
    });
}

#[test]
fn a_request_can_leave_the_line() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 2)])).await;
        api.sale(&show, "pause").await.expect(200);
        let buyers = ["ada", "bob", "eve"].map(|name| api.buyer(name));
        let mut requests = Vec::new();
        for buyer in &buyers {
            let submission = body(&[places("FLOOR", 1)]);
            requests.push(buyer.submit(&show, &submission).await.expect(202));
        }
        for _ in 0..2 {
            let left = buyers[1].cancel(&show, id(&requests[1])).await.expect(200);
            assert_eq!(left["state"], "cancelled");
            assert!(
                left["decided_at"].is_string() && left["hold"].is_null(),
                "{left}"
            );
        }
        api.sale(&show, "resume").await.expect(200);
        for no in [0, 2] {
            let outcome = buyers[no].outcome(&show, id(&requests[no])).await;
            assert_eq!(outcome["state"], "held", "{outcome}");
            assert_eq!(outcome["position"], no + 1);
        }
        let left = buyers[1].poll(&show, id(&requests[1]), 0).await.expect(200);
        assert_eq!(left["state"], "cancelled");
    });
}

#[test]
fn a_rejected_request_has_nothing_to_cancel_and_stays_rejected() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api
            .open_show(&show([floor("FLOOR", 2), floor("YARD", 1)]))
            .await;
        let ada = api.buyer("ada");
        let rejected = ada.ask(&show, json!([places("YARD", 2)])).await;
        let still = ada.cancel(&show, id(&rejected)).await.expect(200);
        assert_eq!(
            (&still["state"], &still["reason"]),
            (&rejected["state"], &rejected["reason"])
        );
    });
}

#[test]
fn an_expired_hold_gives_its_seats_back() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&["--sweep-interval-ms", "20"]).await;
        let show = api
            .open_show(&brief(1, [seated("A", 1, 2), floor("FLOOR", 3)]))
            .await;
        let ada = api.buyer("ada");
        let seated = ada.ask(&show, json!([best("A", 2)])).await;
        let standing = ada.ask(&show, json!([places("FLOOR", 3)])).await;
        expect_availability(&api, &show, "A", [2, 0, 0]).await;
        expect_availability(&api, &show, "FLOOR", [3, 0, 0]).await;
        for request in [&seated, &standing] {
            let expired = ada.poll(&show, id(request), 0).await.expect(200);
            assert_eq!(expired["state"], "expired");
            for _ in 0..2 {
                refused(
                    ada.confirm(&show, hold_id(request)).await,
                    410,
                    "hold-expired",
                );
            }
            assert_eq!(
                ada.cancel(&show, id(request)).await.expect(200)["state"],
                "expired"
            );
        }
        // The limit is free again too: eight are the most.
        let again = ada.ask(&show, json!([best("A", 2)])).await;
        assert_eq!(held_seats(&again).len(), 2);
    });
}

#[test]
fn an_expired_hold_blocks_nobody_while_the_sweep_is_late() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&NEVER_SWEEP).await;
        let mut hall = show([seated("A", 1, 2), floor("FLOOR", 2)]);
        hall["buyer_limit"] = json!(4);
        let show = api.open_show(&hall).await;
        let (ada, bob) = (api.buyer("ada"), api.buyer("bob"));
        let seated = ada.ask(&show, json!([seats(&["A-1-1", "A-1-2"])])).await;
        let standing = ada.ask(&show, json!([places("FLOOR", 2)])).await;
        let_all_expire(arena).await;

        // Nobody has ended the hold, and it is over all the same.
        assert_eq!(state_in_database(arena, hold_id(&seated)).await, "held");
        assert_eq!(
            ada.poll(&show, id(&seated), 0).await.expect(200)["state"],
            "expired"
        );

        let bobs = bob.ask(&show, json!([seats(&["A-1-1", "A-1-2"])])).await;
        assert_eq!(bobs["state"], "held", "{bobs}");
        assert_eq!(state_in_database(arena, hold_id(&seated)).await, "expired");
        let adas = ada.ask(&show, json!([places("FLOOR", 2)])).await;
        assert_eq!(adas["state"], "held", "{adas}");
        refused(
            ada.confirm(&show, hold_id(&seated)).await,
            410,
            "hold-expired",
        );
        refused(
            ada.confirm(&show, hold_id(&standing)).await,
            410,
            "hold-expired",
        );
        expect_availability(&api, &show, "A", [0, 2, 0]).await;
    });
}

/// What became of a hold that was confirmed and ended in some other way at once.
struct Race {
    buyer: Buyer,
    request: Value,
    /// The statuses of the confirmations.
    confirmed: Vec<u16>,
    /// The statuses of the cancellations.
    cancelled: Vec<u16>,
}

fn name(no: usize) -> String {
    format!("buyer-{no}")
}

/// Holds of one place each.
async fn held_places(api: &Api, show: &str, count: usize) -> Vec<(Buyer, Value)> {
    let asking = (0..count).map(async |no| {
        let buyer = api.buyer(&name(no));
        let request = buyer.ask(show, json!([places("FLOOR", 1)])).await;
        assert!(request["hold"].is_object(), "{request}");
        (buyer, request)
    });
    join_all(asking).await
}

async fn statuses(answers: impl IntoIterator<Item = impl Future<Output = Answer>>) -> Vec<u16> {
    let answers = join_all(answers).await;
    answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect()
}

#[test]
fn confirm_against_cancel_has_one_winner() {
    run(async |arena| {
        let (_one, first) = arena.api(&[]).await;
        let (_other, second) = arena.api(&[]).await;
        let worker = arena.worker(&[]).await;
        let show = first.open_show(&show([floor("FLOOR", 60)])).await;
        let racing = held_places(&first, &show, 60).await.into_iter().enumerate();
        let racing = racing.map(async |(no, (buyer, request))| {
            let (show, hold) = (&show, hold_id(&request));
            // Each process is for every second hold the one that confirms.
            let [confirming, cancelling] = if no % 2 == 0 {
                [&first, &second]
            } else {
                [&second, &first]
            };
            let (confirming, cancelling) =
                (confirming.buyer(&name(no)), cancelling.buyer(&name(no)));
            let confirm = (0..3).map(|_| confirming.confirm(show, hold));
            let cancel = (0..3).map(|_| cancelling.release(show, hold));
            let (confirmed, cancelled) = tokio::join!(statuses(confirm), statuses(cancel));
            Race {
                buyer,
                confirmed,
                cancelled,
                request,
            }
        });
        let races = join_all(racing).await;
        let mut bookings = 0;
        for race in races {
            let found = race
                .buyer
                .poll(&show, id(&race.request), 0)
                .await
                .expect(200);
            let expected = match found["state"].as_str().unwrap() {
                "confirmed" => ([200; 3], [409; 3]),
                "cancelled" => ([409; 3], [200; 3]),
                other => panic!("a hold that was confirmed or cancelled is {other}"),
            };
            bookings += i64::from(found["booking"].is_object());
            assert_eq!(
                (&race.confirmed[..], &race.cancelled[..]),
                (&expected.0[..], &expected.1[..])
            );
        }
        expect_availability(&first, &show, "FLOOR", [60 - bookings, 0, bookings]).await;
        drop(worker);
    });
}

#[test]
fn confirm_against_expiry_has_one_winner() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let eager = ["--sweep-interval-ms", "10"];
        let _workers = (arena.worker(&eager).await, arena.worker(&eager).await);
        let show = api.open_show(&brief(2, [floor("FLOOR", 60)])).await;
        let held = held_places(&api, &show, 60).await;
        // From shortly before the end of the hold to shortly after it.
        let racing = held
            .into_iter()
            .enumerate()
            .map(async |(no, (buyer, request))| {
                let expires_at = request["hold"]["expires_at"].as_str().unwrap();
                let expires_at: DateTime<Utc> = expires_at.parse().unwrap();
                let at = expires_at + chrono::TimeDelta::milliseconds(2 * no as i64 - 60);
                tokio::time::sleep((at - Utc::now()).to_std().unwrap_or_default()).await;
                let confirm = (0..2).map(|_| buyer.confirm(&show, hold_id(&request)));
                let confirmed = statuses(confirm).await;
                Race {
                    buyer,
                    confirmed,
                    cancelled: Vec::new(),
                    request,
                }
            });
        let races = join_all(racing).await;
        let mut bookings = 0;
        for race in races {
            let found = race
                .buyer
                .poll(&show, id(&race.request), 0)
                .await
                .expect(200);
            let booked = race.confirmed[0] == 200 || race.confirmed[1] == 200;
            assert_eq!(found["booking"].is_object(), booked, "{found}");
            assert_eq!(found["state"], if booked { "confirmed" } else { "expired" });
            assert!(
                race.confirmed.iter().all(|it| [200, 410].contains(it)),
                "{:?}",
                race.confirmed
            );
            bookings += i64::from(booked);
        }
        expect_availability(&api, &show, "FLOOR", [60 - bookings, 0, bookings]).await;
    });
}

#[test]
fn what_is_another_buyers_is_not_found() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let hall = show([floor("FLOOR", 10)]);
        let (show, other_show) = (api.open_show(&hall).await, api.open_show(&hall).await);
        let (ada, eve) = (api.buyer("ada"), api.buyer("eve"));
        let adas = ada.ask(&show, json!([places("FLOOR", 1)])).await;
        let absent = uuid::Uuid::now_v7().to_string();

        // What is hers answers to others as what nobody has does.
        let detail = |answer: Answer| {
            let problem = answer.expect(404);
            assert_eq!(problem["code"], "not-found");
            problem["detail"].clone()
        };
        for (buyer, show) in [(&eve, &show), (&ada, &other_show), (&eve, &other_show)] {
            let (request, hold) = (id(&adas), hold_id(&adas));
            for wait_s in [0, 1] {
                assert_eq!(
                    detail(buyer.poll(show, request, wait_s).await),
                    detail(buyer.poll(show, &absent, wait_s).await)
                );
            }
            assert_eq!(
                detail(buyer.cancel(show, request).await),
                detail(buyer.cancel(show, &absent).await)
            );
            assert_eq!(
                detail(buyer.confirm(show, hold).await),
                detail(buyer.confirm(show, &absent).await)
            );
            assert_eq!(
                detail(buyer.release(show, hold).await),
                detail(buyer.release(show, &absent).await)
            );
            let list = buyer.request(Method::GET, &format!("/v1/shows/{show}/requests"));
            assert_eq!(send(list).await.expect(200)["requests"], json!([]));
        }
        assert_eq!(ada.poll(&show, id(&adas), 0).await.expect(200), adas);
    });
}
