//! From a hold to a booking and back, over HTTP, through the simulated gateway.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{
    Answer, Api, Arena, Buyer, DECLINED_CARD, GOOD_CARD, Gateway, Process, STEP_CARD, eventually,
    floor, paid_show, run, seated, send, show,
};

/// How long a payment may take to come to its end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A sale whose holds are paid, with all of its processes.
pub struct Shop {
    pub gateway: Gateway,
    pub api: Api,
    pub show: String,
    pub api_process: Process,
    pub worker: Process,
}

/// A hall with four seats at 50.00 and a floor at 30.00, open for sale.
pub async fn shop(arena: &Arena) -> Shop {
    shop_with(arena, paid_hall(), &[]).await
}

/// The hall of [`shop`].
pub fn paid_hall() -> Value {
    paid_show([seated("A", 1, 4), floor("FLOOR", 50)])
}

/// The same with another show, and arguments for the API and the worker.
pub async fn shop_with(arena: &Arena, hall: Value, arguments: &[&str]) -> Shop {
    let gateway = arena.gateway(&[]).await;
    let (api_process, api) = gateway.api(arena, arguments).await;
    let worker = gateway.worker(arena, arguments).await;
    let show = api.open_show(&hall).await;
    Shop {
        gateway,
        api,
        show,
        api_process,
        worker,
    }
}

impl Shop {
    /// A buyer who holds these seats: their hold.
    pub async fn hold_of(&self, buyer: &Buyer, seats: &[&str]) -> String {
        let wishes = json!([{"kind": "seats", "seats": seats}]);
        let held = buyer.ask(&self.show, wishes).await;
        assert_eq!(held["state"], "held", "{held}");
        held["hold"]["id"].as_str().unwrap().to_owned()
    }

    /// Holds these seats and pays for them with a good card: the payment.
    pub async fn buy(&self, buyer: &Buyer, seats: &[&str], key: &str) -> Value {
        let hold = self.hold_of(buyer, seats).await;
        let method = self.gateway.method(GOOD_CARD).await;
        self.pay(buyer, &hold, key, &method).await.expect(201)
    }

    pub async fn pay(&self, buyer: &Buyer, hold: &str, key: &str, method: &str) -> Answer {
        buyer.pay(&self.show, hold, key, Some(method)).await
    }

    /// A payment, asked for until it is in one of these states.
    pub async fn payment_in(&self, buyer: &Buyer, payment: &str, states: &[&str]) -> Value {
        let path = format!("/v1/shows/{}/payments/{payment}", self.show);
        let deadline = Instant::now() + END_LIMIT;
        loop {
            let last = buyer.get(&path).await.expect(200);
            if states.iter().any(|state| last["state"] == *state) {
                return last;
            }
            assert!(Instant::now() < deadline, "never {states:?}: {last}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn request_of(&self, buyer: &Buyer, payment: &Value) -> Value {
        let request = payment["request_id"].as_str().unwrap();
        buyer.poll(&self.show, request, 0).await.expect(200)
    }

    pub async fn booking(&self, buyer: &Buyer, booking: &str) -> Value {
        let path = format!("/v1/shows/{}/bookings/{booking}", self.show);
        buyer.get(&path).await.expect(200)
    }

    pub async fn cancel(&self, buyer: &Buyer, booking: &str, key: &str) -> Answer {
        let path = format!("/v1/shows/{}/bookings/{booking}/cancel", self.show);
        let request = buyer.request(Method::POST, &path);
        send(request.header("idempotency-key", key).json(&json!({}))).await
    }
}

/// The payment of an answer, whichever it is.
pub fn payment_of(answer: &Answer) -> String {
    if let Some(id) = answer.body["state"]
        .as_str()
        .and(answer.body["id"].as_str())
    {
        return id.to_owned();
    }
    let location = answer
        .header("location")
        .expect("a refusal says which payment");
    location.rsplit('/').next().unwrap().to_owned()
}

pub async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

#[test]
fn a_paid_hold_is_a_booking_and_the_money_is_taken_once() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1", "A-1-2"]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        let paid = shop.pay(&ada, &hold, "key-00001", &method).await;
        let again = shop.pay(&ada, &hold, "key-00001", &method).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(paid.header("idempotency-replayed"), None);
        let paid = paid.expect(201);
        assert_eq!(again.expect(201), paid);
        assert_eq!(paid["state"], "captured");
        assert_eq!(paid["money"], "charged");
        assert_eq!(paid["booking"]["state"], "confirmed");
        assert_eq!(paid["booking"]["seats"], json!(["A-1-1", "A-1-2"]));
        assert_eq!(paid["booking"]["total"]["amount"], 10_000);
        let id = paid["id"].as_str().unwrap();
        assert_eq!(shop.gateway.net(id).await, 10_000);
        assert_eq!(shop.gateway.charges().await.len(), 1);

        let request = shop.request_of(&ada, &paid).await;
        assert_eq!(request["state"], "confirmed");
        assert_eq!(request["booking"]["id"], paid["booking"]["id"]);
        let booking = paid["booking"]["id"].as_str().unwrap();
        assert_eq!(shop.booking(&ada, booking).await, paid["booking"]);
        let bob = shop.api.buyer("bob");
        for path in [format!("bookings/{booking}"), format!("payments/{id}")] {
            bob.get(&format!("/v1/shows/{}/{path}", shop.show))
                .await
                .expect(404);
        }
    });
}

#[test]
fn what_is_declined_leaves_the_hold_and_may_be_paid_again() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let bad = shop.gateway.method(DECLINED_CARD).await;
        let good = shop.gateway.method(GOOD_CARD).await;
        let declined = shop.pay(&ada, &hold, "key-00001", &bad).await;
        let payment = payment_of(&declined);
        let refused = declined.expect(402);
        assert_eq!(refused["code"], "payment-declined");
        // The same again is the same answer; another card may be tried with the same key.
        let again = shop.pay(&ada, &hold, "key-00001", &bad).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(payment_of(&again), payment);
        again.expect(402);
        let paid = shop.pay(&ada, &hold, "key-00001", &good).await.expect(201);
        assert_eq!(paid["booking"]["state"], "confirmed");
        let reused = shop.pay(&ada, &hold, "key-00001", &bad).await.expect(422);
        assert_eq!(reused["code"], "idempotency-key-reused");
        // Or with another key.
        let second = shop.hold_of(&ada, &["A-1-2"]).await;
        shop.pay(&ada, &second, "key-00002", &bad).await.expect(402);
        shop.pay(&ada, &second, "key-00004", &good)
            .await
            .expect(201);
        let late = shop.pay(&ada, &hold, "key-00003", &good).await.expect(409);
        assert_eq!(late["code"], "already-confirmed");
        assert_eq!(shop.gateway.net(&payment).await, 0);
    });
}

#[test]
fn a_key_is_of_one_buyer_and_one_hold() {
    run(async |arena| {
        let shop = shop(arena).await;
        let (ada, bob) = (shop.api.buyer("ada"), shop.api.buyer("bob"));
        let first = shop.hold_of(&ada, &["A-1-1"]).await;
        let second = shop.hold_of(&ada, &["A-1-2"]).await;
        let of_bob = shop.hold_of(&bob, &["A-1-3"]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        let paid = shop
            .pay(&ada, &first, "key-00001", &method)
            .await
            .expect(201);
        let reused = shop.pay(&ada, &second, "key-00001", &method).await;
        assert_eq!(reused.expect(422)["code"], "idempotency-key-reused");
        let by_bob = shop
            .pay(&bob, &of_bob, "key-00001", &method)
            .await
            .expect(201);
        assert_ne!(by_bob["id"], paid["id"]);
        // Another's hold is not there.
        shop.pay(&bob, &second, "key-00002", &method)
            .await
            .expect(404);
    });
}

#[test]
fn twenty_payments_at_once_with_one_key_are_one_charge_and_one_answer() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        let calls = (0..20).map(|_| shop.pay(&ada, &hold, "key-00001", &method));
        let answers: Vec<Value> = join_all(calls)
            .await
            .into_iter()
            .map(|answer| answer.expect(201))
            .collect();
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
        assert_eq!(shop.gateway.charges().await.len(), 1);
    });
}

#[test]
fn ten_keys_at_once_on_one_hold_are_one_charge() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        let keys: Vec<String> = (0..10).map(|no| format!("key-0000{no}")).collect();
        let calls = keys.iter().map(|key| shop.pay(&ada, &hold, key, &method));
        let answers = join_all(calls).await;
        let paid = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(paid, 1);
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!(answer.status, 409, "{}", answer.body);
        }
        assert_eq!(shop.gateway.charges().await.len(), 1);
    });
}

#[test]
fn a_further_step_is_the_buyers_and_then_the_booking_is_there() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let method = shop.gateway.method(STEP_CARD).await;
        for (how, seat, key) in [
            ("complete", "A-1-1", "key-00001"),
            ("fail", "A-1-2", "key-00002"),
        ] {
            let hold = shop.hold_of(&ada, &[seat]).await;
            let waiting = shop.pay(&ada, &hold, key, &method).await.expect(202);
            let id = waiting["id"].as_str().unwrap();
            let request = shop.request_of(&ada, &waiting).await;
            assert_eq!(request["state"], "payment_pending");
            let next_action = waiting["next_action"].as_str().unwrap();
            shop.gateway.take_step(next_action, how).await;
            let end = shop.payment_in(&ada, id, &["captured", "declined"]).await;
            let request = shop.request_of(&ada, &waiting).await;
            if how == "complete" {
                assert_eq!(end["booking"]["state"], "confirmed");
                assert_eq!(request["state"], "confirmed");
            } else {
                assert_eq!(end["reason"], "authentication_failed");
                assert_eq!(request["state"], "held");
            }
        }
    });
}

#[test]
fn who_does_not_take_the_step_may_pay_in_another_way_or_give_the_seats_back() {
    run(async |arena| {
        let stuck = ["--payment-stuck-ms", "300"];
        let shop = shop_with(arena, paid_hall(), &stuck).await;
        let ada = shop.api.buyer("ada");
        let (step, good) = (
            shop.gateway.method(STEP_CARD).await,
            shop.gateway.method(GOOD_CARD).await,
        );
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let waiting = shop.pay(&ada, &hold, "key-00001", &step).await.expect(202);
        let paid = shop.pay(&ada, &hold, "key-00002", &good).await.expect(201);
        // The step that is taken too late takes no money.
        let next_action = waiting["next_action"].as_str().unwrap();
        shop.gateway.take_step(next_action, "complete").await;
        let first = waiting["id"].as_str().unwrap();
        let end = shop.payment_in(&ada, first, &["failed"]).await;
        assert_eq!(end["reason"], "superseded");
        assert_eq!(shop.request_of(&ada, &paid).await["state"], "confirmed");

        let hold = shop.hold_of(&ada, &["A-1-2"]).await;
        let waiting = shop.pay(&ada, &hold, "key-00003", &step).await.expect(202);
        let released = ada.release(&shop.show, &hold).await.expect(200);
        assert_eq!(released["state"], "cancelled");
        let second = waiting["id"].as_str().unwrap();
        shop.payment_in(&ada, second, &["voided"]).await;
        shop.hold_of(&ada, &["A-1-2"]).await;
        eventually(END_LIMIT, async || {
            let charges = shop.gateway.charges().await;
            let open =
                |charge: &&Value| charge["status"] == "authorized" || charge["status"] == "pending";
            charges.iter().find(open).is_none()
        })
        .await;
    });
}

#[test]
fn a_hold_is_no_tool_to_try_cards_with() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let bad = shop.gateway.method(DECLINED_CARD).await;
        for no in 0..10 {
            let key = format!("key-0000{no}");
            shop.pay(&ada, &hold, &key, &bad).await.expect(402);
        }
        let refused = shop.pay(&ada, &hold, "key-00010", &bad).await.expect(409);
        assert_eq!(refused["code"], "too-many-tries");
    });
}

#[test]
fn a_cancelled_booking_is_refunded_and_its_seats_are_on_sale_at_once() {
    run(async |arena| {
        let mut hall = paid_hall();
        hall["refundable_until"] = json!("2099-01-01T00:00:00Z");
        let shop = shop_with(arena, hall, &[]).await;
        let (ada, bob) = (shop.api.buyer("ada"), shop.api.buyer("bob"));
        let method = shop.gateway.method(GOOD_CARD).await;
        let paid = shop.buy(&ada, &["A-1-1"], "key-00001").await;
        let booking = paid["booking"]["id"].as_str().unwrap();
        shop.cancel(&bob, booking, "key-00002").await.expect(404);
        let cancelled = shop.cancel(&ada, booking, "key-00002").await;
        // The reason may be left out, and so may the body.
        let path = format!("/v1/shows/{}/bookings/{booking}/cancel", shop.show);
        let bare = ada.request(Method::POST, &path);
        let again = send(bare.header("idempotency-key", "key-00002")).await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let cancelled = cancelled.expect(200);
        assert_eq!(again.expect(200), cancelled);
        assert_eq!(cancelled["state"], "cancelled");
        assert_eq!(cancelled["payment"]["money"], "refunded");
        assert_eq!(shop.gateway.net(paid["id"].as_str().unwrap()).await, 0);
        assert_eq!(shop.request_of(&ada, &paid).await["state"], "cancelled");
        // The seats are there for the next, and the key is not for another booking.
        let hold = shop.hold_of(&bob, &["A-1-1"]).await;
        let next = shop
            .pay(&bob, &hold, "key-00001", &method)
            .await
            .expect(201);
        let second = shop.buy(&ada, &["A-1-2"], "key-00003").await;
        let second = second["booking"]["id"].as_str().unwrap();
        shop.cancel(&ada, second, "key-00002").await.expect(422);
        assert_eq!(next["booking"]["seats"], json!(["A-1-1"]));
    });
}

#[test]
fn the_show_says_until_when_buyers_may_cancel_and_operators_always_may() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let paid = shop.buy(&ada, &["A-1-1"], "key-00001").await;
        let booking = paid["booking"]["id"].as_str().unwrap();
        let refused = shop.cancel(&ada, booking, "key-00002").await.expect(409);
        assert_eq!(refused["code"], "not-refundable");
        let path = format!("/shows/{}/bookings/{booking}/cancel", shop.show);
        let request = shop.api.operator_request(Method::POST, &path);
        let body = json!({"reason": "the pillar is in the way"});
        let request = request.header("idempotency-key", "operator-1").json(&body);
        let refunded = send(request).await.expect(200);
        assert_eq!(refunded["payment"]["money"], "refunded");
        let seen = shop.booking(&ada, booking).await;
        assert_eq!(seen["cancelled"]["by"], "operator");
        assert_eq!(seen["cancelled"]["reason"], "the pillar is in the way");
    });
}

#[test]
fn what_costs_nothing_takes_the_same_way_without_a_gateway() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let invitation = api.open_show(&show([seated("A", 1, 4)])).await;
        let mut free = paid_show([floor("FLOOR", 5)]);
        free["sections"][0]["price"]["amount"] = 0.into();
        let free = api.open_show(&free).await;
        let ada = api.buyer("ada");
        for (show, wish) in [
            (&invitation, json!({"kind": "seats", "seats": ["A-1-1"]})),
            (
                &free,
                json!({"kind": "general_admission", "section": "FLOOR", "quantity": 2}),
            ),
        ] {
            let held = ada.ask(show, json!([wish])).await;
            let hold = held["hold"]["id"].as_str().unwrap();
            let paid = ada.pay(show, hold, "key-00001", None).await.expect(201);
            assert_eq!(paid["amount"]["amount"], 0);
            assert_eq!(paid["booking"]["state"], "confirmed");
        }
        // What costs something cannot be had without a gateway.
        let paid = api.open_show(&paid_hall()).await;
        let held = ada
            .ask(&paid, json!([{"kind": "seats", "seats": ["A-1-1"]}]))
            .await;
        let hold = held["hold"]["id"].as_str().unwrap();
        let refused = ada.pay(&paid, hold, "key-00001", Some("pm_1")).await;
        assert_eq!(refused.expect(409)["code"], "no-gateway");
    });
}

#[test]
fn a_card_number_never_reaches_the_rows_and_a_missing_method_is_asked_for() {
    run(async |arena| {
        let shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        for card in [GOOD_CARD, "4242 4242 4242 4242"] {
            let refused = shop.pay(&ada, &hold, "key-00001", card).await.expect(422);
            assert_eq!(refused["errors"][0]["pointer"], "/payment_method");
            assert!(!refused.to_string().contains("4242"), "{refused}");
        }
        let missing = ada
            .pay(&shop.show, &hold, "key-00001", None)
            .await
            .expect(422);
        assert_eq!(missing["errors"][0]["pointer"], "/payment_method");
        let unknown = shop
            .pay(&ada, &hold, "key-00002", "pm_unknown")
            .await
            .expect(402);
        assert_eq!(unknown["code"], "payment-failed");
        assert_eq!(count(&arena.pool, "select count(*) from payments").await, 1);
        let method = shop.gateway.method(GOOD_CARD).await;
        shop.pay(&ada, &hold, "key-00003", &method)
            .await
            .expect(201);
    });
}
