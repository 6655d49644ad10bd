//! Things that happen at the same time as a payment: one owner for a seat, one charge for a booking, and
//! nobody else waits.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::{join, join_all};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{
    harness::{
        DECLINED_CARD, GOOD_CARD, Money, eventually, floor, paid_show, run, seated, send, show,
    },
    late_payments::{CARD, RECOVERS, STEP_LIMIT, hall_with, hold_of, insert_payment},
    payments::{count, paid_hall, shop, shop_with},
    wishes::seats,
};

/// Pairs of a buyer with a hold and a rival for the same seat.
const PAIRS: usize = 100;

/// Everybody acts between so long before the holds end and so long after it.
const BEFORE_MS: i64 = 1_500;
const AFTER_MS: i64 = 300;

#[test]
fn a_hundred_holds_paid_at_the_instant_of_their_expiry_against_a_hundred_rivals() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let time_min = ["--payment-time-min-seconds", "0"];
        let (_first, one) = gateway.api(arena, &time_min).await;
        let settings = gateway.settings();
        let mut arguments: Vec<&str> = settings.iter().map(String::as_str).collect();
        arguments.extend(time_min);
        let (_second, two) = arena.api(&arguments).await;
        let _workers = [
            gateway.worker(arena, &RECOVERS).await,
            gateway.worker(arena, &RECOVERS).await,
        ];
        let show = one.open_show(&hall_with(8, [seated("A", 5, 20)])).await;
        let method = gateway.method(GOOD_CARD).await;
        let label = |no: usize| format!("A-{}-{}", no / 20 + 1, no % 20 + 1);
        let holding = (0..PAIRS).map(async |no| {
            let buyer = [&one, &two][no % 2].buyer(&format!("holder-{no}"));
            let held = buyer.ask(&show, json!([seats(&[&label(no)])])).await;
            assert_eq!(held["state"], "held", "{held}");
            (no, buyer, held)
        });
        let held = join_all(holding).await;

        let meetings = held.iter().map(async |(no, holder, held)| {
            let expires_at: DateTime<Utc> = held["hold"]["expires_at"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            let offset_ms = *no as i64 * (BEFORE_MS + AFTER_MS) / PAIRS as i64 - BEFORE_MS;
            let at = expires_at + chrono::TimeDelta::milliseconds(offset_ms);
            let wait = (at - Utc::now()).to_std().unwrap_or_default();
            tokio::time::sleep(wait).await;
            let rival = [&one, &two][(no + 1) % 2].buyer(&format!("rival-{no}"));
            let pays = holder.pay(&show, hold_of(held), "key-00001", Some(&method));
            let wants = async {
                let asked = rival.ask(&show, json!([seats(&[&label(*no)])])).await;
                if asked["state"] != "held" {
                    return false;
                }
                let paid = rival.pay(&show, hold_of(&asked), "key-00002", Some(&method));
                paid.await.expect(201);
                true
            };
            let (paid, won) = join(pays, wants).await;
            let kept = paid.status == 201;
            assert!(kept || paid.status == 410, "{no}: {}", paid.body);
            assert!(!(kept && won), "seat {no} has two owners");
            (kept, won)
        });
        let met = join_all(meetings).await;
        let kept = met.iter().filter(|(kept, _)| *kept).count();
        let won = met.iter().filter(|(_, won)| *won).count();
        // Else it was not the instant of the expiry.
        assert!(
            kept > 0 && won > 0,
            "{kept} kept their seats, {won} lost them"
        );
        let money = Money::at_rest(&arena.pool, &gateway, &show).await;
        assert_eq!(money.count("captured"), kept + won, "{money:?}");
        assert_eq!(money.net, 5_000 * (kept + won) as i64);
        let owned: Vec<(i32, i64)> = sqlx::query_as(
            "select s.seat_no, count(*)
            from bookings b
            join hold_seats s on s.show_id = b.show_id and s.hold_id = b.hold_id
            where b.state = 'confirmed'
            group by s.seat_no",
        )
        .fetch_all(&arena.pool)
        .await
        .unwrap();
        assert_eq!(owned.len(), kept + won);
        assert!(owned.iter().all(|(_, owners)| *owners == 1), "{owned:?}");
    });
}

#[test]
fn who_is_declined_pays_with_another_card_at_once() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let bad = shop.gateway.method(DECLINED_CARD).await;
        let good = shop.gateway.method(GOOD_CARD).await;
        let declined = shop.pay(&ada, &hold, "key-00001", &bad);
        // Does not wait for the first answer; it may be first, too.
        let paid = async {
            loop {
                let paid = shop.pay(&ada, &hold, "key-00002", &good).await;
                if paid.status == 201 {
                    return paid.body;
                }
                assert_eq!(paid.expect(409)["code"], "payment-in-progress");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (declined, paid) = join(declined, paid).await;
        assert_eq!(paid["booking"]["state"], "confirmed");
        assert!(
            [402, 409].contains(&declined.status.as_u16()),
            "{declined:?}"
        );
        let money = Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
        assert_eq!((money.count("captured"), money.net), (1, 5_000));
    });
}

#[test]
fn of_a_payment_and_a_release_at_once_one_wins() {
    run(async |arena| {
        let hall = paid_show([floor("FLOOR", 100)]);
        let shop = shop_with(arena, hall, &[]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        let matches = (0..30).map(async |no| {
            let buyer = shop.api.buyer(&format!("buyer-{no}"));
            let held = buyer.ask(&shop.show, wish.clone()).await;
            let pays = shop.pay(&buyer, hold_of(&held), "key-00001", &method);
            let releases = buyer.release(&shop.show, hold_of(&held));
            let (paid, released) = match no % 2 {
                0 => join(pays, releases).await,
                _ => {
                    let (released, paid) = join(releases, pays).await;
                    (paid, released)
                }
            };
            let (paid_ok, released_ok) = (paid.status == 201, released.status.is_success());
            assert!(
                paid_ok != released_ok,
                "{} {}, {} {}",
                paid.status,
                paid.body,
                released.status,
                released.body
            );
            paid_ok
        });
        let paid = join_all(matches).await.into_iter().filter(|paid| *paid);
        let paid = paid.count();
        let money = Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
        assert_eq!(money.count("captured"), paid);
        assert_eq!(money.net, 3_000 * paid as i64);
    });
}

#[test]
fn payments_in_the_middle_of_a_cancelled_show_end_without_money() {
    run(async |arena| {
        let hall = paid_show([floor("FLOOR", 100)]);
        let shop = shop_with(arena, hall, &["--payment-stuck-ms", "100"]).await;
        let _worker = shop.gateway.worker(arena, &RECOVERS).await;
        let at_once = json!({"captures_at_once": true});
        let methods = [
            shop.gateway.method(GOOD_CARD).await,
            shop.gateway.card_that(CARD, at_once).await,
        ];
        let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        let holding = (0..20).map(async |no| {
            let buyer = shop.api.buyer(&format!("buyer-{no}"));
            let held = buyer.ask(&shop.show, wish.clone()).await;
            (buyer, held)
        });
        let held = join_all(holding).await;
        let paying = held.iter().enumerate().map(async |(no, (buyer, held))| {
            let answer = shop.pay(buyer, hold_of(held), "key-00001", &methods[no % 2]);
            let answer = answer.await;
            assert!(answer.status.as_u16() < 500, "{}", answer.body);
        });
        let cancelling = async {
            // In the middle: some have paid, some are about to.
            eventually(STEP_LIMIT, async || {
                count(&arena.pool, "select count(*) from bookings").await > 3
            })
            .await;
            let body = json!({"reason": "the singer is ill"});
            let path = format!("/shows/{}/cancel", shop.show);
            let cancelled = shop.api.operate(Method::POST, &path, Some(&body)).await;
            cancelled.expect(202);
        };
        join(join_all(paying), cancelling).await;
        eventually(STEP_LIMIT, async || {
            let live = "select count(*) from bookings where state <> 'cancelled'";
            let held = "select count(*) from holds where state = 'held'";
            count(&arena.pool, live).await + count(&arena.pool, held).await == 0
        })
        .await;
        let money = Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
        assert_eq!((money.count("captured"), money.net), (0, 0));
        assert!(money.count("refunded") > 3, "{money:?}");
    });
}

#[test]
fn two_workers_callbacks_and_the_client_drive_one_payment_to_one_charge() {
    run(async |arena| {
        let hall = paid_show([floor("FLOOR", 100)]);
        let eager = ["--payment-stuck-ms", "100", "--gateway-timeout-ms", "1000"];
        let worker = [eager.as_slice(), &["--job-interval-ms", "10"]].concat();
        let shop = shop_with(arena, hall, &eager).await;
        let _workers = [
            shop.gateway.worker(arena, &worker).await,
            shop.gateway.worker(arena, &worker).await,
        ];
        let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        // Slow enough that recovery looks before the first answer comes, at each step.
        let slow = |ms: u32| json!({"how": "slow", "ms": ms});
        let behaviours = [
            json!({"answers": {"authorize": slow(600)}, "callbacks": ["twice"]}),
            json!({"answers": {"authorize": slow(400), "capture": slow(500)}}),
            json!({"answers": {"authorize": {"how": "error_after"}, "capture": {"how": "error_after"}}}),
            json!({"answers": {"authorize": {"how": "hang_after"}, "capture": {"how": "hang_after"}}, "callbacks": ["never"]}),
            json!({"answers": {"capture": {"how": "error_before", "times": 3}}, "callbacks": ["twice", "out_of_order"], "late_ms": 200}),
        ];
        let driven = (0..15).map(async |no: usize| {
            let card = format!("42222222222{no:02}");
            let method = shop
                .gateway
                .card_that(&card, behaviours[no % 5].clone())
                .await;
            let buyer = shop.api.buyer(&format!("buyer-{no}"));
            let held = buyer.ask(&shop.show, wish.clone()).await;
            let calls = (0..5).map(|_| shop.pay(&buyer, hold_of(&held), "key-00001", &method));
            for answer in join_all(calls).await {
                let paid = answer.expect(201);
                assert_eq!(paid["state"], "captured", "{paid}");
            }
        });
        join_all(driven).await;
        let money = Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
        assert_eq!((money.charges.len(), money.net), (15, 45_000), "{money:?}");
    });
}

#[test]
fn a_gateway_that_hangs_stops_neither_what_is_free_nor_the_turns() {
    run(async |arena| {
        let hall = paid_show([floor("FLOOR", 1_000)]);
        let shop = shop_with(arena, hall, &[]).await;
        let free = shop.api.open_show(&show([floor("FLOOR", 1_000)])).await;
        let hangs = json!({"answers": {"authorize": {"how": "hang_before", "times": 100}}});
        let method = shop.gateway.card_that(CARD, hangs).await;
        let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        let stuck = join_all((0..100).map(async |no| {
            let buyer = shop.api.buyer(&format!("stuck-{no}"));
            let held = buyer.ask(&shop.show, wish.clone()).await;
            let payment = buyer.payment(&shop.show, hold_of(&held), "key-00001", Some(&method));
            send(payment.header("prefer", "wait=0")).await.expect(202);
            (buyer, held)
        }))
        .await;
        // And some who wait for their answers.
        let waiting = stuck.iter().take(20).map(|(buyer, held)| {
            let payment = buyer.payment(&shop.show, hold_of(held), "key-00001", Some(&method));
            tokio::spawn(send(payment.header("prefer", "wait=5")))
        });
        let waiting: Vec<_> = waiting.collect();
        let began = Instant::now();
        let others = (0..20).map(async |no| {
            let buyer = shop.api.buyer(&format!("other-{no}"));
            let (paid, free_one) = join(
                buyer.ask(&shop.show, wish.clone()),
                buyer.ask(&free, wish.clone()),
            )
            .await;
            assert_eq!(paid["state"], "held");
            buyer.confirm(&free, hold_of(&free_one)).await.expect(200);
            shop.api
                .get(&format!("/v1/shows/{}", shop.show))
                .await
                .expect(200);
        });
        join_all(others).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(4), "the others took {took:?}");
        for answer in waiting {
            let state = answer.await.unwrap().expect(202);
            assert_eq!(state["state"], "created");
        }
        let good = shop.gateway.method(GOOD_CARD).await;
        let ada = shop.api.buyer("ada");
        let held = ada.ask(&shop.show, wish.clone()).await;
        shop.pay(&ada, hold_of(&held), "key-00001", &good)
            .await
            .expect(201);
    });
}

#[test]
fn a_second_charge_of_a_gateway_without_keys_is_neither_taken_nor_followed() {
    run(async |arena| {
        let mut hall = paid_hall();
        hall["refundable_until"] = json!("2099-01-01T00:00:00Z");
        let shop = shop_with(arena, hall, &["--payment-stuck-ms", "100"]).await;
        let _worker = shop.gateway.worker(arena, &RECOVERS).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        // The first call is still on its way when recovery looks, sees nothing, and calls again.
        let behaviour = json!({
            "forgets_keys": true, "callbacks": ["never"],
            "answers": {"authorize": {"how": "slow", "ms": 2_000}},
        });
        let method = shop.gateway.card_that(CARD, behaviour).await;
        let paid = shop.pay(&ada, &hold, "key-00001", &method).await;
        let paid = paid.expect(201);
        let id = paid["id"].as_str().unwrap();
        eventually(STEP_LIMIT, async || shop.gateway.charges().await.len() == 2).await;
        let charge_id = "select charge_id from payments";
        let followed: String = sqlx::query_scalar(charge_id)
            .fetch_one(&arena.pool)
            .await
            .unwrap();
        assert_eq!(shop.gateway.charges().await[0]["id"], followed);
        assert_eq!(shop.gateway.net(id).await, 5_000);
        // What was taken is what goes back.
        let booking = paid["booking"]["id"].as_str().unwrap();
        let cancelled = shop.cancel(&ada, booking, "key-00002").await.expect(200);
        assert_eq!(cancelled["payment"]["money"], "refunded");
        assert_eq!(shop.gateway.net(id).await, 0);
    });
}

#[test]
fn a_gateway_that_forgets_keys_charges_once() {
    run(async |arena| {
        let hall = paid_show([floor("FLOOR", 100)]);
        // Without keys only the look protects, so nobody looks before the call is given up.
        let eager = ["--payment-stuck-ms", "1000", "--gateway-timeout-ms", "500"];
        let gateway = arena.gateway(&[]).await;
        let (_process, api) = gateway.api(arena, &eager).await;
        let worker = [eager.as_slice(), &["--job-interval-ms", "50"]].concat();
        let _worker = gateway.worker(arena, &worker).await;
        let show = api.open_show(&hall).await;
        let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        let troubles = [
            ("authorize", "error_after"),
            ("authorize", "hang_after"),
            ("authorize", "hang_before"),
            ("authorize", "error_before"),
            ("capture", "error_after"),
            ("capture", "hang_after"),
        ];
        let paid = troubles.iter().enumerate().map(async |(no, (step, how))| {
            let mut answers = json!({});
            answers[step] = json!({"how": how});
            let behaviour = json!({
                "forgets_keys": true, "callbacks": ["never"], "answers": answers,
            });
            let card = format!("42222222222{no:02}");
            let method = gateway.card_that(&card, behaviour).await;
            let buyer = api.buyer(&format!("buyer-{no}"));
            let held = buyer.ask(&show, wish.clone()).await;
            for _ in 0..2 {
                let paid = buyer.pay(&show, hold_of(&held), "key-00001", Some(&method));
                assert_eq!(paid.await.expect(201)["state"], "captured");
            }
        });
        join_all(paid).await;
        let money = Money::at_rest(&arena.pool, &gateway, &show).await;
        let charges = money.charges.len();
        assert_eq!((charges, money.net), (6, 18_000), "{money:?}");
    });
}

#[test]
fn the_database_refuses_a_second_payment_that_takes_money_and_a_second_use_of_a_key() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        shop.pay(&ada, &hold, "key-00001", &method)
            .await
            .expect(201);
        for (key, state, constraint) in [
            ("key-00002", "created", "payments_once"),
            ("key-00002", "authorized", "payments_once"),
            ("key-00002", "capturing", "payments_once"),
            ("key-00002", "captured", "payments_once"),
            ("key-00001", "declined", "payments_key_once"),
        ] {
            let row = (Uuid::now_v7(), key, state);
            let error = insert_payment(&arena.pool, &hold, row).await;
            let error = error.unwrap_err().into_database_error().unwrap();
            assert_eq!(error.constraint(), Some(constraint), "{state}");
        }
    });
}
