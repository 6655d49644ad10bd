//! Cards that make calls go wrong.

use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Running, eventually, send, start};

/// Sends a call that is expected to get no answer, and stops waiting.
async fn hangs(request: RequestBuilder) {
    let request = request.timeout(Duration::from_millis(300));
    let error = request.send().await.expect_err("an answer");
    assert!(error.is_timeout(), "{error}");
}

/// A number of the well-known table.
fn card(step: u8, trouble: u8) -> String {
    format!("400000000001{step:02}{trouble:02}")
}

/// What a charge has to be before a step, and what it is after it.
async fn before(gateway: &Running, step: &str, card: &str) -> Value {
    let charge = gateway.charge(card).await;
    if step == "refund" {
        gateway.step(&charge, "capture").await.expect(200);
    }
    gateway.now(&charge).await
}

const STEPS: [(u8, &str, &str); 3] = [
    (2, "capture", "captured"),
    (3, "void", "voided"),
    (4, "refund", "refunded"),
];

#[tokio::test]
async fn an_authorization_hangs_without_effect_and_can_be_repeated() {
    let gateway = start().await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(&card(1, 1), payment_id).await;
    hangs(gateway.authorization(&order, "key")).await;
    assert_eq!(gateway.of_payment(payment_id).await.len(), 0);
    gateway.authorize(&order, "key").await.expect(201);
    assert_eq!(gateway.of_payment(payment_id).await.len(), 1);
}

#[tokio::test]
async fn an_authorization_hangs_after_its_effect_and_its_key_finds_it() {
    let gateway = start().await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(&card(1, 2), payment_id).await;
    hangs(gateway.authorization(&order, "key")).await;
    let made = gateway.of_payment(payment_id).await;
    assert_eq!(made[0]["status"], "authorized");
    let again = gateway.authorize(&order, "key").await.expect(201);
    assert_eq!([again], *made);
}

#[tokio::test]
async fn an_authorization_fails_before_or_after_its_effect() {
    let gateway = start().await;
    for (trouble, made) in [(3, 0), (4, 1)] {
        let payment_id = Uuid::now_v7();
        let order = gateway.order(&card(1, trouble), payment_id).await;
        let key = payment_id.to_string();
        gateway
            .authorize(&order, &key)
            .await
            .expect_error(500, "told_to_fail");
        assert_eq!(gateway.of_payment(payment_id).await.len(), made);
        gateway.authorize(&order, &key).await.expect(201);
        assert_eq!(gateway.of_payment(payment_id).await.len(), 1);
    }
}

#[tokio::test]
async fn later_steps_hang_before_or_after_their_effect() {
    let gateway = start().await;
    for (number, step, done) in STEPS {
        for trouble in [1, 2] {
            let charge = before(&gateway, step, &card(number, trouble)).await;
            let key = Uuid::now_v7().to_string();
            hangs(gateway.step_request(&charge, step, &key)).await;
            let was = charge["status"].as_str().unwrap();
            let expected = if trouble == 1 { was } else { done };
            assert_eq!(gateway.now(&charge).await["status"], expected, "{step}");
            let again = send(gateway.step_request(&charge, step, &key)).await;
            assert_eq!(again.expect(200)["status"], done);
        }
    }
}

#[tokio::test]
async fn later_steps_fail_before_or_after_their_effect() {
    let gateway = start().await;
    for (number, step, done) in STEPS {
        for trouble in [3, 4] {
            let charge = before(&gateway, step, &card(number, trouble)).await;
            let reply = gateway.step(&charge, step).await;
            reply.expect_error(500, "told_to_fail");
            let was = charge["status"].as_str().unwrap();
            let expected = if trouble == 3 { was } else { done };
            assert_eq!(gateway.now(&charge).await["status"], expected, "{step}");
            let again = gateway.step(&charge, step).await.expect(200);
            assert_eq!(again["status"], done);
        }
    }
}

#[tokio::test]
async fn a_slow_call_takes_its_effect_although_the_client_left() {
    let gateway = start().await;
    let slow = json!({"answers": {"authorize": {"how": "slow", "ms": 2_000}}});
    gateway.tell("5555555555554444", slow).await.expect(200);
    let payment_id = Uuid::now_v7();
    let order = gateway.order("5555555555554444", payment_id).await;
    hangs(gateway.authorization(&order, "key")).await;
    assert_eq!(gateway.of_payment(payment_id).await.len(), 0);
    let made = eventually(async || gateway.of_payment(payment_id).await.pop()).await;
    let again = gateway.authorize(&order, "key").await.expect(201);
    assert_eq!(again, made);
}

#[tokio::test]
async fn a_slow_call_is_answered_in_the_end() {
    let gateway = start().await;
    for (step, name) in [(2, "capture"), (3, "void")] {
        let charge = gateway.charge(&card(step, 5)).await;
        let start = Instant::now();
        gateway.step(&charge, name).await.expect(200);
        assert!(start.elapsed() >= Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_card_goes_wrong_as_often_as_it_is_told_for_each_payment() {
    let gateway = start().await;
    let number = "5555555555554444";
    let twice = json!({"answers": {"authorize": {"how": "error_before", "times": 2}}});
    gateway.tell(number, twice).await.expect(200);
    for _ in 0..2 {
        let payment_id = Uuid::now_v7();
        let order = gateway.order(number, payment_id).await;
        let key = payment_id.to_string();
        for status in [500, 500, 201, 201] {
            gateway.authorize(&order, &key).await.expect(status);
        }
    }
}

#[tokio::test]
async fn a_card_that_forgets_keys_is_charged_twice_by_who_does_not_look() {
    let gateway = start().await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order("4000000000010501", payment_id).await;
    let reply = gateway.authorize(&order, "key").await;
    reply.expect_error(500, "told_to_fail");
    gateway.authorize(&order, "key").await.expect(201);
    let made = gateway.of_payment(payment_id).await;
    assert_eq!(made.len(), 2);
    assert_ne!(made[0]["id"], made[1]["id"]);
}

#[tokio::test]
async fn a_card_captures_at_once() {
    let gateway = start().await;
    let charge = gateway.charge("4000000000010601").await;
    assert_eq!(charge["status"], "captured");
    assert_eq!(charge["captured"], 8_500);
    gateway
        .step(&charge, "void")
        .await
        .expect_error(409, "wrong_state");

    let payment_id = Uuid::now_v7();
    let order = gateway.order("4000000000010602", payment_id).await;
    hangs(gateway.authorization(&order, "key")).await;
    let made = gateway.of_payment(payment_id).await;
    assert_eq!(made[0]["status"], "captured");
}

#[tokio::test]
async fn a_hanging_call_does_not_keep_the_gateway_from_stopping() {
    let gateway = start().await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(&card(1, 2), payment_id).await;
    let call = tokio::spawn(gateway.authorization(&order, "key").send());
    eventually(async || gateway.of_payment(payment_id).await.pop()).await;
    let start = Instant::now();
    gateway.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5));
    call.await.unwrap().expect_err("an answer");
}

#[tokio::test]
async fn a_refused_step_of_a_troubled_card_does_nothing() {
    let gateway = start().await;
    let charge = gateway.charge(&card(4, 4)).await;
    // The trouble is that of the answer; before a capture there is nothing to give back.
    send(gateway.step_request(&charge, "refund", "key"))
        .await
        .expect_error(409, "wrong_state");
    assert_eq!(gateway.now(&charge).await["status"], "authorized");
}
