//! Things that happen at the same time as a payment, or while it takes too long: one owner for a seat,
//! one charge for a booking, and nobody else waits.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::future::{join, join_all};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    harness::{
        Api, Arena, Buyer, DECLINED_CARD, GOOD_CARD, Gateway, Money, Process, STEP_CARD,
        eventually, floor, paid_show, run, seated, send, show,
    },
    payments::{count, paid_hall, shop, shop_with},
    wishes::{best, seats},
};

/// A card of these tests, told anew in each.
const CARD: &str = "4222222222222";

/// How long a thing may take that takes a second.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// A short fence, and an API that gives the gateway up soon and leaves it to recovery.
const SHORT: [&str; 8] = [
    "--payment-fence-seconds",
    "1",
    "--payment-time-min-seconds",
    "0",
    "--gateway-timeout-ms",
    "500",
    "--payment-stuck-ms",
    "100",
];

/// A worker that decides requests and recovers nothing, and one that recovers at once.
const ONLY_DECIDES: [&str; 2] = ["--job-interval-ms", "60000"];
const RECOVERS: [&str; 4] = ["--payment-stuck-ms", "100", "--job-interval-ms", "50"];

/// A sale in which recovery begins when the test says so.
struct Slow {
    gateway: Gateway,
    api: Api,
    show: String,
    _processes: [Process; 2],
}

impl Slow {
    async fn sale(arena: &Arena, hall: Value, arguments: &[&str]) -> Slow {
        let gateway = arena.gateway(&[]).await;
        let (process, api) = gateway.api(arena, arguments).await;
        let worker = gateway.worker(arena, &ONLY_DECIDES).await;
        let show = api.open_show(&hall).await;
        Slow {
            gateway,
            api,
            show,
            _processes: [process, worker],
        }
    }

    /// A buyer's request with a hold.
    async fn held(&self, buyer: &Buyer, wishes: Value) -> Value {
        let held = buyer.ask(&self.show, wishes).await;
        assert_eq!(held["state"], "held", "{held}");
        held
    }

    /// Asks again and again until these seats are free.
    async fn held_once_free(&self, buyer: &Buyer, wishes: Value) -> Value {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let asked = buyer.ask(&self.show, wishes.clone()).await;
            if asked["state"] == "held" {
                return asked;
            }
            assert!(Instant::now() < deadline, "never free: {asked}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn state_of(&self, buyer: &Buyer, request: &Value) -> Value {
        let id = request["id"].as_str().unwrap();
        buyer.poll(&self.show, id, 0).await.expect(200)
    }
}

fn hold_of(request: &Value) -> &str {
    request["hold"]["id"].as_str().unwrap()
}

/// Takes the money at once, and tells nobody.
async fn late_success(gateway: &Gateway) -> String {
    let behaviour = json!({
        "captures_at_once": true,
        "answers": {"authorize": {"how": "hang_after"}},
        "callbacks": ["never"],
    });
    gateway.card_that(CARD, behaviour).await
}

/// A hall whose holds last for so long.
fn hall_with(hold_seconds: u32, sections: impl Into<Vec<Value>>) -> Value {
    let mut hall = paid_show(sections);
    hall["hold_seconds"] = hold_seconds.into();
    hall
}

/// Ada pays for a seat and the gateway takes the money without a word; when her time and the fence are
/// over, bob buys the seat. Then ada's payment is looked up: her request and the money of the show.
async fn resold(arena: &Arena, hall: Value, wishes: Value) -> (Value, Money) {
    let sale = Slow::sale(arena, hall, &SHORT).await;
    let (ada, bob) = (sale.api.buyer("ada"), sale.api.buyer("bob"));
    let method = late_success(&sale.gateway).await;
    let held = sale.held(&ada, wishes).await;
    let payment = ada.payment(&sale.show, hold_of(&held), "key-00001", Some(&method));
    send(payment.header("prefer", "wait=0")).await.expect(202);
    let first = &held["hold"]["seats"];
    let same = json!([{"kind": "seats", "seats": first}]);
    let his = sale.held_once_free(&bob, same).await;
    assert_eq!(sale.state_of(&ada, &held).await["state"], "expired");
    let good = sale.gateway.method(GOOD_CARD).await;
    let bought = bob.pay(&sale.show, hold_of(&his), "key-00002", Some(&good));
    bought.await.expect(201);

    let _worker = sale.gateway.worker(arena, &RECOVERS).await;
    let money = Money::at_rest(&arena.pool, &sale.gateway, &sale.show).await;
    let his = sale.state_of(&bob, &his).await;
    assert_eq!(his["state"], "confirmed", "{his}");
    assert_eq!(his["hold"]["seats"], *first, "{his}");
    let again = ada.pay(&sale.show, hold_of(&held), "key-00001", Some(&method));
    let again = again.await;
    let hers = sale.state_of(&ada, &held).await;
    if hers["state"] == "confirmed" {
        assert_ne!(hers["hold"]["seats"], *first);
        assert_eq!(again.expect(201)["booking"]["state"], "confirmed");
    } else {
        let refused = again.expect(409);
        assert_eq!(refused["code"], "payment-refunded");
        assert!(refused["detail"].as_str().unwrap().contains("seats_gone"));
    }
    (hers, money)
}

#[test]
fn a_late_success_for_a_seat_that_was_resold_is_refunded_with_its_reason() {
    run(async |arena| {
        // The only other seat costs less.
        let mut cheap = seated("B", 1, 1);
        cheap["price"]["amount"] = 4_000.into();
        let hall = hall_with(1, [seated("A", 1, 1), cheap]);
        let wishes = json!([seats(&["A-1-1"]), seats(&["B-1-1"])]);
        let (hers, money) = resold(arena, hall, wishes).await;
        assert_eq!(hers["state"], "expired");
        assert_eq!((money.count("refunded"), money.net), (1, 5_000));
        assert_eq!(money.payments[0].reason.as_deref(), Some("seats_gone"));
    });
}

#[test]
fn a_late_success_gets_equal_seats_by_the_same_wish_if_there_are_any() {
    run(async |arena| {
        let hall = hall_with(1, [seated("A", 1, 3)]);
        let wishes = json!([best("A", 1)]);
        let (hers, money) = resold(arena, hall, wishes).await;
        assert_eq!(hers["state"], "confirmed", "{hers}");
        assert_eq!((money.count("captured"), money.net), (2, 10_000));
    });
}

#[test]
fn a_late_success_gets_the_seats_of_a_later_wish_of_equal_value() {
    run(async |arena| {
        let hall = hall_with(1, [seated("A", 1, 1), seated("B", 1, 1)]);
        let wishes = json!([seats(&["A-1-1"]), seats(&["B-1-1"])]);
        let (hers, money) = resold(arena, hall, wishes).await;
        assert_eq!(hers["hold"]["seats"], json!(["B-1-1"]), "{hers}");
        assert_eq!((money.count("captured"), money.net), (2, 10_000));
    });
}

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

/// When the hold ended, and until when it was kept.
async fn times_of(
    pool: &PgPool,
    hold: &str,
) -> (Option<DateTime<Utc>>, DateTime<Utc>, DateTime<Utc>) {
    sqlx::query_as("select ended_at, expires_at, kept_until from holds where hold_id = $1")
        .bind(hold.parse::<Uuid>().unwrap())
        .fetch_one(pool)
        .await
        .unwrap()
}

#[test]
fn a_payment_in_flight_keeps_its_seats_up_to_the_cap_and_not_beyond() {
    run(async |arena| {
        let hall = hall_with(1, [seated("A", 1, 1)]);
        let arguments = [
            "--payment-fence-seconds",
            "3",
            "--payment-time-min-seconds",
            "0",
            "--payment-stuck-ms",
            "100",
        ];
        let sale = Slow::sale(arena, hall, &arguments).await;
        let (ada, bob) = (sale.api.buyer("ada"), sale.api.buyer("bob"));
        let hangs = json!({"answers": {"authorize": {"how": "hang_before", "times": 100}}});
        let method = sale.gateway.card_that(CARD, hangs).await;
        let held = sale.held(&ada, json!([seats(&["A-1-1"])])).await;
        let began = Utc::now();
        let payment = ada.payment(&sale.show, hold_of(&held), "key-00001", Some(&method));
        send(payment.header("prefer", "wait=0")).await.expect(202);
        let (_, expires_at, kept_until) = times_of(&arena.pool, hold_of(&held)).await;
        let fence_ms = (kept_until - began).num_milliseconds();
        assert!((2_900..5_000).contains(&fence_ms), "{fence_ms} ms");

        // Beyond the end that ada was told, bob still does not get the seat.
        let to_the_end = (expires_at - Utc::now()).to_std().unwrap_or_default();
        tokio::time::sleep(to_the_end).await;
        let refused = bob.ask(&sale.show, json!([seats(&["A-1-1"])])).await;
        assert_eq!(refused["state"], "rejected", "{refused}");
        assert!(Utc::now() < kept_until, "too slow a machine for this test");
        assert_eq!(sale.state_of(&ada, &held).await["state"], "payment_pending");

        let his = sale.held_once_free(&bob, json!([seats(&["A-1-1"])])).await;
        assert_eq!(his["state"], "held");
        let (ended_at, ..) = times_of(&arena.pool, hold_of(&held)).await;
        let late_ms = (ended_at.unwrap() - kept_until).num_milliseconds();
        assert!((0..2_000).contains(&late_ms), "{late_ms} ms after the cap");
        // The gateway still hangs; nothing was reserved, and recovery may say so.
        let worker = [RECOVERS.as_slice(), &["--gateway-timeout-ms", "300"]].concat();
        let _worker = sale.gateway.worker(arena, &worker).await;
        let money = Money::at_rest(&arena.pool, &sale.gateway, &sale.show).await;
        assert_eq!(money.only().state, "failed");
        assert_eq!(money.only().reason.as_deref(), Some("hold_expired"));
        // It is looked at for an hour in case a call takes effect late, and then no more.
        let watched = "select count(*) from payments where recover_at is not null";
        assert_eq!(count(&arena.pool, watched).await, 1);
        sqlx::query("update payments set moved_at = now() - interval '1 hour', recover_at = now()")
            .execute(&arena.pool)
            .await
            .unwrap();
        eventually(STEP_LIMIT, async || count(&arena.pool, watched).await == 0).await;
        let again = ada.pay(&sale.show, hold_of(&held), "key-00001", Some(&method));
        let again = again.await.expect(410);
        assert!(
            again["detail"]
                .as_str()
                .unwrap()
                .contains("nothing was charged")
        );
    });
}

#[test]
fn beyond_the_cap_nothing_is_booked_although_nobody_has_swept() {
    run(async |arena| {
        let hall = hall_with(1, [seated("A", 1, 1)]);
        let gateway = arena.gateway(&[]).await;
        let fence = [
            "--payment-fence-seconds",
            "1",
            "--payment-time-min-seconds",
            "0",
        ];
        let (_process, api) = gateway.api(arena, &fence).await;
        let never = ["--sweep-interval-ms", "3600000"];
        let _worker = arena.worker(&never).await;
        let show = api.open_show(&hall).await;
        let ada = api.buyer("ada");
        let slow =
            json!({"callbacks": ["never"], "answers": {"authorize": {"how": "slow", "ms": 2_500}}});
        let method = gateway.card_that(CARD, slow).await;
        let held = ada.ask(&show, json!([seats(&["A-1-1"])])).await;
        let refused = ada.pay(&show, hold_of(&held), "key-00001", Some(&method));
        let refused = refused.await.expect(410);
        assert_eq!(refused["code"], "hold-expired");
        let money = Money::at_rest(&arena.pool, &gateway, &show).await;
        assert_eq!(money.only().state, "voided");
    });
}

#[test]
fn a_decline_lifts_the_fence() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        sqlx::query("update holds set expires_at = now() + interval '20 s', kept_until = now() + interval '20 s'")
            .execute(&arena.pool)
            .await
            .unwrap();
        let bad = shop.gateway.method(DECLINED_CARD).await;
        shop.pay(&ada, &hold, "key-00001", &bad).await.expect(402);
        let (_, expires_at, kept_until) = times_of(&arena.pool, &hold).await;
        assert_eq!(expires_at, kept_until);
    });
}

#[test]
fn a_hold_with_too_little_time_left_begins_no_payment() {
    run(async |arena| {
        let hall = hall_with(4, [seated("A", 1, 1)]);
        let shop = shop_with(arena, hall, &[]).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        let refused = shop
            .pay(&ada, &hold, "key-00001", &method)
            .await
            .expect(409);
        assert_eq!(refused["code"], "too-little-time");
        assert!(
            refused["detail"]
                .as_str()
                .unwrap()
                .contains("nothing was charged")
        );
        assert_eq!(count(&arena.pool, "select count(*) from payments").await, 0);
        assert!(shop.gateway.charges().await.is_empty());
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

/// A payment for a hold that the API knows nothing of.
async fn insert_payment(
    pool: &PgPool,
    hold: &str,
    (payment, key, state): (Uuid, &str, &str),
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into payments (
            show_id, payment_id, hold_id, buyer_id, idempotency_key, body_hash, gateway,
            payment_method, amount, currency, state, recover_at, created_at, moved_at
        )
        select show_id, $2, hold_id, buyer_id, $3, '', 'simulated', 'pm_1', total, 'EUR', $4,
            now(), now(), now()
        from holds
        where hold_id = $1",
    )
    .bind(hold.parse::<Uuid>().unwrap())
    .bind(payment)
    .bind(key)
    .bind(state)
    .execute(pool)
    .await
    .map(drop)
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

#[test]
fn a_late_success_of_a_payment_that_another_has_followed_is_refunded() {
    run(async |arena| {
        let arguments = ["--payment-stuck-ms", "60000"];
        let shop = shop_with(arena, paid_hall(), &arguments).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        // The first was given up, and the second waits for its buyer.
        let first = Uuid::now_v7();
        let step = shop.gateway.method(STEP_CARD).await;
        let second = shop.pay(&ada, &hold, "key-00002", &step).await.expect(202);
        let at_once = json!({"captures_at_once": true, "callbacks": ["never"]});
        let method = shop.gateway.card_that(CARD, at_once).await;
        let order = json!({
            "amount": 5_000, "currency": "EUR", "payment_method": method,
            "metadata": {"show_id": shop.show, "payment_id": first},
        });
        let charge = shop.gateway.request(Method::POST, "/v1/charges");
        let key = format!("{first}-authorize");
        let charge = charge.header("idempotency-key", key).json(&order);
        send(charge).await.expect(201);
        let row = (first, "key-00001", "failed");
        insert_payment(&arena.pool, &hold, row).await.unwrap();
        let first = first.to_string();
        let refunded = shop.payment_in(&ada, &first, &["refunded"]).await;
        assert_eq!(refunded["reason"], "paid_already");

        let next_action = second["next_action"].as_str().unwrap();
        shop.gateway.take_step(next_action, "complete").await;
        let id = second["id"].as_str().unwrap();
        shop.payment_in(&ada, id, &["captured"]).await;
        let money = Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
        assert_eq!((money.count("captured"), money.net), (1, 5_000));
    });
}

#[test]
fn what_takes_effect_after_we_gave_up_is_let_go_or_given_back() {
    run(async |arena| {
        let hall = hall_with(1, [floor("FLOOR", 10)]);
        let sale = Slow::sale(arena, hall, &SHORT).await;
        let worker = [&RECOVERS[..], &["--gateway-timeout-ms", "300"]].concat();
        let _worker = sale.gateway.worker(arena, &worker).await;
        let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        for (no, at_once) in [false, true].into_iter().enumerate() {
            let behaviour = json!({
                "captures_at_once": at_once, "callbacks": ["never"],
                "answers": {"authorize": {"how": "slow", "ms": 6_000, "times": 100}},
            });
            let card = format!("42222222222{no:02}");
            let method = sale.gateway.card_that(&card, behaviour).await;
            let buyer = sale.api.buyer(&format!("buyer-{no}"));
            let held = sale.held(&buyer, wish.clone()).await;
            let paid = buyer.pay(&sale.show, hold_of(&held), "key-00001", Some(&method));
            let refused = paid.await.expect(410);
            assert_eq!(refused["code"], "hold-expired", "{refused}");
        }
        eventually(STEP_LIMIT, async || sale.gateway.charges().await.len() == 2).await;
        let money = Money::at_rest(&arena.pool, &sale.gateway, &sale.show).await;
        assert_eq!(money.count("failed"), 1, "{money:?}");
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
