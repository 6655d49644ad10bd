//! What the gateway tells us: who may tell, what is believed of it, and that neither order nor number
//! of what is told makes a difference.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use futures::{StreamExt, future::join_all, stream};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    harness::{
        Answer, Api, Arena, Buyer, CALLBACK_SECRET, Gateway, Money, STEP_CARD, eventually, floor,
        paid_show, run, send, sign,
    },
    payments::{Shop, count, paid_hall, shop_with},
};

/// How long a thing may take that takes a second.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// Nothing is recovered while such a test runs: what happens, callbacks have caused.
const NO_RECOVERY: [&str; 2] = ["--payment-stuck-ms", "600000"];

/// An event of a charge as the gateway would tell it: how the charge stood then.
fn event_of(charge: &Value, status: &str) -> Value {
    let amount = charge["amount"].as_i64().unwrap();
    let mut then = charge.clone();
    then["status"] = status.into();
    then["captured"] = match status {
        "captured" | "refunded" => amount.into(),
        _ => 0.into(),
    };
    then["refunded"] = match status {
        "refunded" => amount.into(),
        _ => 0.into(),
    };
    let id = format!("ev_{}_{status}", charge["id"].as_str().unwrap());
    json!({
        "id": id, "type": format!("charge.{status}"), "created_at": Utc::now(), "charge": then,
    })
}

/// Tells the API something, with that signature or none.
async fn tell_signed(api: &Api, body: String, signature: Option<String>) -> Answer {
    let path = "/v1/payment-callbacks/simulated";
    let mut request = api.request(Method::POST, path).body(body);
    if let Some(signature) = signature {
        request = request.header("gateway-signature", signature);
    }
    send(request).await
}

/// Tells the API an event as the gateway does.
async fn tell(api: &Api, event: &Value) {
    let body = event.to_string();
    let signature = sign(CALLBACK_SECRET, Utc::now().timestamp(), &body);
    let answer = tell_signed(api, body, Some(signature)).await;
    assert_eq!(answer.status, 200, "{event}: {}", answer.body);
}

/// The charge of a payment.
async fn charge_of(gateway: &Gateway, payment: &str) -> Value {
    let charges = gateway.charges().await;
    let found = charges
        .into_iter()
        .find(|charge| charge["metadata"]["payment_id"] == payment);
    found.expect("a charge of the payment")
}

/// A payment that waits for its buyer: the answer.
async fn waiting_payment(shop: &Shop, buyer: &Buyer, seat: &str) -> Value {
    let hold = shop.hold_of(buyer, &[seat]).await;
    let method = shop.gateway.method(STEP_CARD).await;
    let waiting = shop.pay(buyer, &hold, "key-00001", &method).await;
    waiting.expect(202)
}

#[test]
fn only_who_signs_and_in_time_is_heard() {
    run(async |arena| {
        let second = "the secret that comes after the first";
        let arguments = [&NO_RECOVERY[..], &["--gateway-callback-secrets", second]].concat();
        let shop = shop_with(arena, paid_hall(), &arguments).await;
        let ada = shop.api.buyer("ada");
        let waiting = waiting_payment(&shop, &ada, "A-1-1").await;
        let charge = charge_of(&shop.gateway, waiting["id"].as_str().unwrap()).await;
        let body = event_of(&charge, "authorized").to_string();
        let now = Utc::now().timestamp();
        let good = |secret: &str, at: i64| Some(sign(secret, at, &body));
        let other_body = sign(CALLBACK_SECRET, now, &body.replace("ev_", "ev_x"));
        let refused = [
            None,
            Some(String::new()),
            Some("t=1,v1=zz".to_owned()),
            good("a secret that nobody gave us", now),
            good("", now),
            good(CALLBACK_SECRET, now - 301),
            good(CALLBACK_SECRET, now + 310),
            Some(other_body),
        ];
        for signature in refused {
            let answer = tell_signed(&shop.api, body.clone(), signature.clone()).await;
            assert_eq!(answer.status, 400, "{signature:?}: {}", answer.body);
        }
        for nonsense in ["", "{}", "no json", "[1]", "{\"id\": 1}"] {
            let signature = sign(CALLBACK_SECRET, now, nonsense);
            let answer = tell_signed(&shop.api, nonsense.to_owned(), Some(signature)).await;
            assert_eq!(answer.status, 400, "{nonsense}: {}", answer.body);
        }
        let long = format!("\"{}\"", "x".repeat(256 * 1024));
        let signature = sign(CALLBACK_SECRET, now, &long);
        let answer = tell_signed(&shop.api, long, Some(signature)).await;
        assert_eq!(answer.status, 413);
        for gateway in ["stripe", "nobody"] {
            let path = format!("/v1/payment-callbacks/{gateway}");
            let request = shop.api.request(Method::POST, &path).body(body.clone());
            let signature = sign(CALLBACK_SECRET, now, &body);
            let answer = send(request.header("gateway-signature", signature)).await;
            assert_eq!(answer.status, 404, "{gateway}: {}", answer.body);
        }
        // The gateway has told of the charge that waits, and of no other.
        let ours = "select count(*) from gateway_events where event_id like '%\\_authorized'";
        assert_eq!(
            count(&arena.pool, ours).await,
            0,
            "something refused was stored"
        );

        // Both secrets are good while one replaces the other, and a duplicate is fine.
        for secret in [CALLBACK_SECRET, second, CALLBACK_SECRET] {
            let answer = tell_signed(&shop.api, body.clone(), good(secret, now)).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        assert_eq!(count(&arena.pool, ours).await, 1);
    });
}

#[test]
fn what_a_callback_says_is_not_believed_but_looked_at() {
    run(async |arena| {
        let shop = shop_with(arena, paid_hall(), &NO_RECOVERY).await;
        let ada = shop.api.buyer("ada");
        let waiting = waiting_payment(&shop, &ada, "A-1-1").await;
        let id = waiting["id"].as_str().unwrap();
        let charge = charge_of(&shop.gateway, id).await;
        assert_eq!(charge["status"], "pending");
        for status in ["authorized", "captured", "refunded", "declined", "voided"] {
            tell(&shop.api, &event_of(&charge, status)).await;
        }
        // Another payment's charge, told as if it were this one's.
        let mut strange = charge.clone();
        strange["id"] = format!("ch_{}", Uuid::now_v7().simple()).into();
        tell(&shop.api, &event_of(&strange, "captured")).await;
        // Those of the other places of our ids, or of none, are heard and of no consequence.
        let mut nobodys = charge.clone();
        nobodys["metadata"] = json!({"show_id": shop.show, "payment_id": Uuid::now_v7()});
        tell(&shop.api, &event_of(&nobodys, "voided")).await;
        nobodys["metadata"] = json!({});
        tell(&shop.api, &event_of(&nobodys, "refunded")).await;
        eventually(STEP_LIMIT, async || {
            let open = "select count(*) from gateway_events e
                where applied_at is null
                    and exists (select 1 from payments p where p.payment_id = e.payment_id)";
            count(&arena.pool, open).await == 0
        })
        .await;
        let path = format!("/v1/shows/{}/payments/{id}", shop.show);
        let now = ada.get(&path).await.expect(200);
        assert_eq!(now["state"], "created", "{now}");
        assert_eq!(now["booking"], Value::Null);
        let request = shop.request_of(&ada, &waiting).await;
        assert_eq!(request["state"], "payment_pending");
        // And the payment goes its way.
        let next_action = waiting["next_action"].as_str().unwrap();
        shop.gateway.take_step(next_action, "complete").await;
        shop.payment_in(&ada, id, &["captured"]).await;
    });
}

#[test]
fn an_event_that_is_here_before_its_payment_is_kept_and_applied_later() {
    run(async |arena| {
        let shop = shop_with(arena, paid_hall(), &NO_RECOVERY).await;
        let ada = shop.api.buyer("ada");
        // A charge of a payment of which we have no row, as if its commit were slow.
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let payment = Uuid::now_v7();
        let method = shop
            .gateway
            .card_that("4333333333333", json!({"callbacks": ["never"]}));
        let order = json!({
            "amount": 5_000, "currency": "EUR", "payment_method": method.await,
            "metadata": {"show_id": shop.show, "payment_id": payment},
        });
        let request = shop.gateway.request(Method::POST, "/v1/charges");
        let key = format!("{payment}-authorize");
        let charge = send(request.header("idempotency-key", key).json(&order)).await;
        let charge = charge.expect(201);
        let event = event_of(&charge, "authorized");
        tell(&shop.api, &event).await;
        tell(&shop.api, &event).await;
        let waits = "select count(*) from gateway_events where applied_at is null";
        assert_eq!(count(&arena.pool, waits).await, 1);

        sqlx::query(
            "insert into payments (
                show_id, payment_id, hold_id, buyer_id, idempotency_key, body_hash, gateway,
                payment_method, amount, currency, state, recover_at, created_at, moved_at
            )
            select show_id, $2, hold_id, buyer_id, 'key-00001', '', 'simulated', 'pm_1', 5000, 'EUR',
                'created', now() + interval '1 day', now(), now()
            from holds
            where hold_id = $1",
        )
        .bind(hold.parse::<Uuid>().unwrap())
        .bind(payment)
        .execute(&arena.pool)
        .await
        .unwrap();
        // Nobody tells it again; a worker comes back to it by itself.
        let id = payment.to_string();
        let end = shop.payment_in(&ada, &id, &["captured"]).await;
        assert_eq!(end["booking"]["state"], "confirmed");
        eventually(STEP_LIMIT, async || count(&arena.pool, waits).await == 0).await;
        Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
    });
}

#[test]
fn an_event_that_is_told_again_once_its_payment_is_there_is_applied_at_once() {
    run(async |arena| {
        let shop = shop_with(arena, paid_hall(), &NO_RECOVERY).await;
        let ada = shop.api.buyer("ada");
        let waiting = waiting_payment(&shop, &ada, "A-1-1").await;
        let id = waiting["id"].as_str().unwrap();
        let charge = charge_of(&shop.gateway, id).await;
        let event = event_of(&charge, "authorized");
        // Stored and not applied, as by a server that died.
        sqlx::query(
            "insert into gateway_events (
                show_id, gateway, event_id, payment_id, charge_id, received_at
            )
            values ($1, 'simulated', $2, $3, $4, now())",
        )
        .bind(shop.show.parse::<Uuid>().unwrap())
        .bind(event["id"].as_str())
        .bind(id.parse::<Uuid>().unwrap())
        .bind(charge["id"].as_str())
        .execute(&arena.pool)
        .await
        .unwrap();
        tell(&shop.api, &event).await;
        eventually(STEP_LIMIT, async || {
            let open = "select count(*) from gateway_events where applied_at is null";
            count(&arena.pool, open).await == 0
        })
        .await;
        let next_action = waiting["next_action"].as_str().unwrap();
        shop.gateway.take_step(next_action, "complete").await;
        shop.payment_in(&ada, id, &["captured"]).await;
    });
}

#[test]
fn however_callbacks_come_a_payment_ends_captured_with_one_booking() {
    run(async |arena| {
        let hall = paid_show([floor("FLOOR", 100)]);
        let shop = shop_with(arena, hall, &["--gateway-timeout-ms", "500"]).await;
        let soon = ["--payment-stuck-ms", "500", "--gateway-timeout-ms", "500"];
        let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
        let modes = [
            json!(["once"]),
            json!(["twice"]),
            json!(["late"]),
            json!(["out_of_order"]),
            json!(["forged"]),
            json!(["twice", "out_of_order", "forged"]),
        ];
        // With a good answer, and with none: then only the callback tells. Recovery is far away.
        let paid = modes
            .iter()
            .flat_map(|mode| [(mode, "normal"), (mode, "hang_after")]);
        let paid = paid.enumerate().map(async |(no, (mode, how))| {
            let behaviour = json!({
                "callbacks": mode, "late_ms": 700, "answers": {"authorize": {"how": how}},
            });
            let card = format!("43333333333{no:02}");
            let method = shop.gateway.card_that(&card, behaviour).await;
            let buyer = shop.api.buyer(&format!("buyer-{no}"));
            let held = buyer.ask(&shop.show, wish.clone()).await;
            let hold = held["hold"]["id"].as_str().unwrap();
            let answer = shop.pay(&buyer, hold, "key-00001", &method).await;
            assert_eq!(answer.expect(201)["state"], "captured", "{mode} {how}");
        });
        join_all(paid).await;
        let money = Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
        assert_eq!((money.charges.len(), money.net), (12, 36_000));

        // Never told, and no answer: recovery alone.
        let gateway = &shop.gateway;
        let (_process, api) = arena.api(&as_strs(&gateway.settings(), &soon)).await;
        let worker = [&soon[..], &["--job-interval-ms", "50"]].concat();
        let _worker = gateway.worker(arena, &worker).await;
        let behaviour = json!({
            "callbacks": ["never"],
            "answers": {"authorize": {"how": "hang_after"}, "capture": {"how": "hang_after"}},
        });
        let method = gateway.card_that("4333333333399", behaviour).await;
        let zoe = api.buyer("zoe");
        let held = zoe.ask(&shop.show, wish).await;
        let hold = held["hold"]["id"].as_str().unwrap();
        let paid = zoe.pay(&shop.show, hold, "key-00001", Some(&method)).await;
        assert_eq!(paid.expect(201)["state"], "captured");
        let money = Money::at_rest(&arena.pool, gateway, &shop.show).await;
        assert_eq!((money.charges.len(), money.net), (13, 39_000));
    });
}

fn as_strs<'a>(settings: &'a [String], arguments: &[&'a str]) -> Vec<&'a str> {
    let settings = settings.iter().map(String::as_str);
    settings.chain(arguments.iter().copied()).collect()
}

/// All orders of so many things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    let with_last = |order: &Vec<usize>| {
        let order = order.clone();
        (0..count).map(move |at| {
            let mut order = order.clone();
            order.insert(at, count - 1);
            order
        })
    };
    shorter.iter().flat_map(with_last).collect()
}

/// Where the charge and our row stand when the events come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// The buyer has paid, we have heard nothing.
    Paid,
    /// It was paid, captured and refunded at the gateway, we have heard nothing.
    Refunded,
    /// We have a booking; the events of before come late, and the gateway refunds in between.
    Booked,
    /// We have a booking, and its buyer cancelled it.
    Cancelled,
}

/// What is the same in the end, whatever the order was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
struct End {
    declined: String,
    paid: String,
    hold: String,
    booking: Option<String>,
    released: bool,
}

/// Keeps every move of payments and bookings, in their order.
async fn keep_moves(pool: &PgPool) {
    for statement in [
        "create table moves (no bigserial, id uuid, from_state text, to_state text)",
        "create function keep_move() returns trigger language plpgsql as $$ begin
            insert into moves (id, from_state, to_state)
            values ((to_jsonb(new)->>tg_argv[0])::uuid, old.state, new.state);
            return null;
        end $$",
        "create trigger keep_move after update on payments for each row
            when (old.state <> new.state) execute function keep_move('payment_id')",
        "create trigger keep_move after update on bookings for each row
            when (old.state <> new.state) execute function keep_move('booking_id')",
    ] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
}

/// Nothing ever moved back.
async fn see_moves(pool: &PgPool) {
    let moves: Vec<(String, String, i64)> = sqlx::query_as(
        "select from_state, to_state, count(*) from moves group by 1, 2 order by 1, 2",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let onward = BTreeMap::from([
        (
            "created",
            &["capturing", "captured", "refunded", "declined"][..],
        ),
        ("capturing", &["captured", "refunded"]),
        ("captured", &["refunding", "refunded"]),
        ("refunding", &["refunded"]),
        ("pending", &["confirmed", "cancelled"]),
        ("confirmed", &["cancelled"]),
    ]);
    for (from, to, times) in &moves {
        let known = onward.get(from.as_str());
        let known = known.is_some_and(|known| known.contains(&to.as_str()));
        assert!(known, "{times} times from {from} to {to}");
    }
    let twice: i64 = sqlx::query_scalar(
        "select count(*) from (select 1 from moves group by id, to_state having count(*) > 1) twice",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(twice, 0, "some came into a state twice");
    assert!(!moves.is_empty());
}

/// One life of a hold: a declined payment, then one with a further step; its events in this order, each
/// more than once. The statuses are those of the events; the first is the declined payment's.
async fn live(shop: &Shop, no: usize, stage: Stage, order: &[usize]) -> String {
    const STATUSES: [&str; 5] = ["declined", "pending", "authorized", "captured", "refunded"];
    let (api, gateway) = (&shop.api, &shop.gateway);
    let buyer = api.buyer(&format!("buyer-{no}"));
    let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
    let held = buyer.ask(&shop.show, wish).await;
    let hold = held["hold"]["id"].as_str().unwrap().to_owned();
    let declines = json!({"authorize": "decline", "callbacks": ["never"]});
    let declines = gateway.card_that("4333333333331", declines).await;
    let refused = shop.pay(&buyer, &hold, "key-00001", &declines).await;
    let declined = refused.header("location").unwrap().rsplit('/').next();
    let declined = charge_of_payment(gateway, declined.unwrap()).await;
    let steps = json!({"authorize": "step", "callbacks": ["never"]});
    let steps = gateway.card_that("4333333333332", steps).await;
    let waiting = shop.pay(&buyer, &hold, "key-00002", &steps).await;
    let waiting = waiting.expect(202);
    let payment = waiting["id"].as_str().unwrap().to_owned();
    let charge = charge_of_payment(gateway, &payment).await;
    let id = charge["id"].as_str().unwrap();
    let event = |what: usize| match what {
        0 => event_of(&declined, "declined"),
        _ => event_of(&charge, STATUSES[what]),
    };

    let next_action = waiting["next_action"].as_str().unwrap();
    gateway.take_step(next_action, "complete").await;
    if stage == Stage::Refunded {
        gateway.meddle(id, "capture").await;
        gateway.meddle(id, "refund").await;
    }
    let mut told = order.iter().copied();
    let mut before = Vec::new();
    if matches!(stage, Stage::Booked | Stage::Cancelled) {
        // Our row hears of it by another event than those of the order.
        let mut first = event_of(&charge, "authorized");
        first["id"] = format!("ev_{id}_first").into();
        tell(api, &first).await;
        let paid = shop.payment_in(&buyer, &payment, &["captured"]).await;
        // What happened before comes before or after the refund, as the order says.
        before.extend(told.by_ref().take_while(|what| *what != 4));
        for what in &before {
            tell(api, &event(*what)).await;
        }
        if stage == Stage::Booked {
            gateway.meddle(id, "refund").await;
        } else {
            let booking = paid["booking"]["id"].as_str().unwrap();
            shop.cancel(&buyer, booking, "key-00003").await.expect(200);
        }
        tell(api, &event(4)).await;
    }
    for what in told {
        tell(api, &event(what)).await;
        tell(api, &event(what)).await;
    }
    // And all of them again, two at a time.
    let again = order.iter().map(|what| {
        let event = event(*what);
        async move { tell(api, &event).await }
    });
    join_all(again).await;
    hold
}

/// The charge of one payment, among thousands.
async fn charge_of_payment(gateway: &Gateway, payment: &str) -> Value {
    let path = format!("/v1/charges?payment_id={payment}");
    let found = send(gateway.request(Method::GET, &path)).await.expect(200);
    found["charges"][0].clone()
}

/// Tells the events of a stage in every order; the one end of all of them.
async fn every_order(arena: &Arena, stage: Stage, events: usize) -> (End, Money) {
    let mut hall = paid_show([floor("FLOOR", 1_000)]);
    hall["refundable_until"] = json!("2099-01-01T00:00:00Z");
    let shop = shop_with(arena, hall, &NO_RECOVERY).await;
    keep_moves(&arena.pool).await;
    let orders = permutations(events);
    let lives = orders.iter().enumerate();
    let lives = lives.map(|(no, order)| live(&shop, no, stage, order));
    let holds: Vec<String> = stream::iter(lives).buffer_unordered(8).collect().await;
    assert_eq!(holds.len(), orders.len());
    let money = Money::at_rest(&arena.pool, &shop.gateway, &shop.show).await;
    see_moves(&arena.pool).await;
    let ends: Vec<(End, i64)> = ends(&arena.pool).await;
    let [(end, times)] = &ends[..] else {
        panic!("not one end: {ends:#?}");
    };
    assert_eq!(*times, orders.len() as i64);
    (end.clone(), money)
}

/// How often each end is.
async fn ends(pool: &PgPool) -> Vec<(End, i64)> {
    let all: Vec<End> = sqlx::query_as(
        "select bad.state as declined, good.state as paid, h.state as hold, b.state as booking,
            b.cancelled_at is not null as released
        from holds h
        join payments bad on bad.hold_id = h.hold_id and bad.idempotency_key = 'key-00001'
        join payments good on good.hold_id = h.hold_id and good.idempotency_key = 'key-00002'
        left join bookings b on b.hold_id = h.hold_id",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut counted = BTreeMap::new();
    for end in all {
        *counted.entry(end).or_default() += 1;
    }
    counted.into_iter().collect()
}

fn end(paid: &str, hold: &str, booking: Option<&str>) -> End {
    End {
        declined: "declined".to_owned(),
        paid: paid.to_owned(),
        hold: hold.to_owned(),
        booking: booking.map(str::to_owned),
        released: booking == Some("cancelled"),
    }
}

#[test]
fn every_order_of_the_events_of_a_paid_charge_ends_in_a_booking() {
    run(async |arena| {
        // Declined, pending, authorized, captured: 24 orders. The last comes before it is true.
        let (found, money) = every_order(arena, Stage::Paid, 4).await;
        assert_eq!(found, end("captured", "confirmed", Some("confirmed")));
        assert_eq!(money.net, 24 * 3_000);
    });
}

#[test]
fn every_order_of_the_events_of_a_charge_that_was_refunded_behind_our_back_books_nothing() {
    run(async |arena| {
        let (found, money) = every_order(arena, Stage::Refunded, 5).await;
        assert_eq!(found, end("refunded", "held", None));
        assert_eq!(money.net, 0);
    });
}

#[test]
fn every_order_of_the_events_of_a_booking_that_is_refunded_at_the_gateway_ends_it() {
    run(async |arena| {
        let (found, money) = every_order(arena, Stage::Booked, 5).await;
        assert_eq!(found, end("refunded", "cancelled", Some("cancelled")));
        assert_eq!(money.net, 0);
    });
}

#[test]
fn every_order_of_the_events_of_a_booking_that_is_cancelled_leaves_it_cancelled() {
    run(async |arena| {
        let (found, money) = every_order(arena, Stage::Cancelled, 5).await;
        assert_eq!(found, end("refunded", "cancelled", Some("cancelled")));
        assert_eq!(money.net, 0);
    });
}

#[test]
fn there_are_as_many_orders_as_there_should_be() {
    let mut orders = permutations(5);
    assert_eq!(orders.len(), 120);
    orders.sort();
    orders.dedup();
    assert_eq!(orders.len(), 120);
}
