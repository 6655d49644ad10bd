//! Payments that take too long: the fence and its cap, money that comes when the seats are gone, and
//! calls that take effect after we gave them up.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    harness::{
        Api, Arena, Buyer, DECLINED_CARD, GOOD_CARD, Gateway, Money, Process, STEP_CARD,
        eventually, floor, paid_show, run, seated, send,
    },
    payments::{count, paid_hall, shop, shop_with},
    wishes::{best, seats},
};

/// A card of these tests, told anew in each.
pub const CARD: &str = "4222222222222";

/// How long a thing may take that takes a second.
pub const STEP_LIMIT: Duration = Duration::from_secs(20);

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
pub const ONLY_DECIDES: [&str; 2] = ["--job-interval-ms", "60000"];
pub const RECOVERS: [&str; 4] = ["--payment-stuck-ms", "100", "--job-interval-ms", "50"];

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

pub fn hold_of(request: &Value) -> &str {
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
pub fn hall_with(hold_seconds: u32, sections: impl Into<Vec<Value>>) -> Value {
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

/// A payment for a hold that the API knows nothing of.
pub async fn insert_payment(
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
