//! Charges without trouble: what can be done with them, keys, and the ledger.

use reqwest::Method;
use serde_json::{Value, json};
use stampede_gateway::Settings;
use uuid::Uuid;

use crate::harness::{ACCEPTED, STEP, id, send, settings, start, start_with};

#[tokio::test]
async fn a_charge_is_authorized_captured_and_refunded() {
    let gateway = start().await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(ACCEPTED, payment_id).await;
    let charge = gateway.authorize(&order, "key").await.expect(201);
    assert_eq!(charge["status"], "authorized");
    assert_eq!(charge["amount"], 8_500);
    assert_eq!(charge["captured"], 0);
    assert_eq!(charge["currency"], "EUR");
    assert_eq!(charge["next_action"], Value::Null);
    assert_eq!(charge["reason"], Value::Null);
    assert_eq!(charge["metadata"], order["metadata"]);
    assert!(charge["created_at"].as_str().unwrap().ends_with('Z'));

    let captured = gateway.step(&charge, "capture").await.expect(200);
    assert_eq!(captured["status"], "captured");
    assert_eq!(captured["captured"], 8_500);
    let refunded = gateway.step(&charge, "refund").await.expect(200);
    assert_eq!(refunded["status"], "refunded");
    assert_eq!(refunded["captured"], 8_500);
    assert_eq!(refunded["refunded"], 8_500);
    assert_eq!(gateway.now(&charge).await, refunded);
}

#[tokio::test]
async fn a_declined_charge_is_an_answer_with_its_reason() {
    let gateway = start().await;
    for (card, reason) in [
        ("4000000000000002", "card_declined"),
        ("4000000000009995", "insufficient_funds"),
    ] {
        let charge = gateway.charge(card).await;
        assert_eq!(charge["status"], "declined");
        assert_eq!(charge["reason"], reason);
        let refused = gateway.step(&charge, "capture").await;
        assert_eq!(refused.body["error"]["detail"], "charge is declined");
        refused.expect_error(409, "wrong_state");
    }
}

#[tokio::test]
async fn the_buyer_takes_a_further_step_on_a_page_of_the_gateway() {
    let gateway = start().await;
    let charge = gateway.charge(STEP).await;
    assert_eq!(charge["status"], "pending");
    let page = charge["next_action"].as_str().unwrap();
    assert_eq!(page, format!("{}/steps/{}", gateway.url, id(&charge)));
    let html = gateway.http.get(page).send().await.unwrap();
    assert!(html.text().await.unwrap().contains("/complete"));

    gateway
        .step(&charge, "capture")
        .await
        .expect_error(409, "wrong_state");
    assert_eq!(gateway.buyer(&charge, "complete").await, 200);
    assert_eq!(gateway.buyer(&charge, "complete").await, 200);
    assert_eq!(gateway.buyer(&charge, "fail").await, 409);
    let completed = gateway.now(&charge).await;
    assert_eq!(completed["status"], "authorized");
    assert_eq!(completed["next_action"], Value::Null);

    let charge = gateway.charge(STEP).await;
    assert_eq!(gateway.buyer(&charge, "fail").await, 200);
    let failed = gateway.now(&charge).await;
    assert_eq!(failed["status"], "declined");
    assert_eq!(failed["reason"], "authentication_failed");

    let charge = gateway.charge(STEP).await;
    gateway.step(&charge, "void").await.expect(200);
    assert_eq!(gateway.buyer(&charge, "complete").await, 409);
}

#[tokio::test]
async fn saying_what_is_already_so_is_no_mistake_and_the_rest_is() {
    let gateway = start().await;
    let captured = gateway.charge(ACCEPTED).await;
    gateway
        .step(&captured, "refund")
        .await
        .expect_error(409, "wrong_state");
    gateway.step(&captured, "capture").await.expect(200);
    gateway.step(&captured, "capture").await.expect(200);
    gateway
        .step(&captured, "void")
        .await
        .expect_error(409, "wrong_state");
    gateway.step(&captured, "refund").await.expect(200);
    let twice = gateway.step(&captured, "refund").await.expect(200);
    assert_eq!(twice["refunded"], 8_500);
    gateway
        .step(&captured, "capture")
        .await
        .expect_error(409, "wrong_state");

    let voided = gateway.charge(ACCEPTED).await;
    gateway.step(&voided, "void").await.expect(200);
    gateway.step(&voided, "void").await.expect(200);
    gateway
        .step(&voided, "capture")
        .await
        .expect_error(409, "wrong_state");
}

#[tokio::test]
async fn a_key_does_a_thing_once_and_gives_the_answer_of_then() {
    let gateway = start().await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(ACCEPTED, payment_id).await;
    let first = gateway.authorize(&order, "key").await.expect(201);
    gateway.step(&first, "capture").await.expect(200);
    let again = gateway.authorize(&order, "key").await.expect(201);
    assert_eq!(again, first);
    assert_eq!(gateway.of_payment(payment_id).await.len(), 1);

    let mut other = order.clone();
    other["amount"] = json!(8_501);
    gateway
        .authorize(&other, "key")
        .await
        .expect_error(422, "key_reused");
    send(gateway.step_request(&first, "refund", "key"))
        .await
        .expect_error(422, "key_reused");
}

#[tokio::test]
async fn twenty_calls_at_once_with_one_key_make_one_charge() {
    let gateway = start().await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(ACCEPTED, payment_id).await;
    let calls = (0..20).map(|_| gateway.authorize(&order, "key"));
    let replies = futures::future::join_all(calls).await;
    let made = gateway.of_payment(payment_id).await;
    assert_eq!(made.len(), 1);
    for reply in replies {
        assert_eq!(reply.expect(201), made[0]);
    }
}

#[tokio::test]
async fn a_gateway_that_remembers_no_keys_makes_a_second_charge() {
    let gateway = start_with(Settings {
        key_memory_seconds: 0,
        ..settings()
    })
    .await;
    let payment_id = Uuid::now_v7();
    let order = gateway.order(ACCEPTED, payment_id).await;
    let first = gateway.authorize(&order, "key").await.expect(201);
    let second = gateway.authorize(&order, "key").await.expect(201);
    assert_eq!(gateway.of_payment(payment_id).await, [first, second]);
}

#[tokio::test]
async fn what_cannot_be_a_charge_is_refused() {
    let gateway = start().await;
    let order = gateway.order(ACCEPTED, Uuid::now_v7()).await;
    for (field, value) in [
        ("amount", json!(0)),
        ("amount", json!(-1)),
        ("amount", json!(1.5)),
        ("currency", json!("eur")),
        ("payment_method", json!("tok_1")),
        ("metadata", json!({"payment_id": "mine"})),
    ] {
        let mut wrong = order.clone();
        wrong[field] = value;
        gateway
            .authorize(&wrong, "key")
            .await
            .expect_error(422, "invalid");
    }
    let mut unknown = order.clone();
    unknown["payment_method"] = json!(format!("pm_{}", Uuid::now_v7().simple()));
    gateway
        .authorize(&unknown, "key")
        .await
        .expect_error(404, "unknown_payment_method");
    let no_key = gateway.request(Method::POST, "/v1/charges").json(&order);
    send(no_key).await.expect_error(400, "missing_key");
    gateway
        .get(&format!("/v1/charges/ch_{}", Uuid::now_v7().simple()))
        .await
        .expect_error(404, "unknown_charge");
    gateway
        .get("/v1/charges?limit=501")
        .await
        .expect_error(422, "invalid");
    gateway.get("/v2").await.expect_error(404, "unknown_url");
}

#[tokio::test]
async fn only_the_secret_key_opens_what_is_not_for_buyers() {
    let gateway = start().await;
    for key in ["", "sk_tes", "sk_test2"] {
        let url = format!("{}/v1/charges", gateway.url);
        let request = gateway.http.get(url).bearer_auth(key);
        send(request).await.expect_error(401, "unauthorized");
    }
    for path in ["/", "/livez"] {
        let url = format!("{}{path}", gateway.url);
        assert_eq!(gateway.http.get(url).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn the_ledger_has_every_charge_once_the_oldest_first() {
    let gateway = start().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(gateway.charge(ACCEPTED).await);
    }
    let since = made[2]["created_at"].as_str().unwrap();
    let (mut read, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/charges?since={since}&limit=2{after}");
        let mut page = gateway.get(&path).await.expect(200);
        read.append(page["charges"].as_array_mut().unwrap());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(read, made[2..]);
    let whole = gateway.get("/v1/charges").await.expect(200);
    assert_eq!(whole["charges"].as_array().unwrap(), &made);
    assert_eq!(whole["next"], Value::Null);
}
