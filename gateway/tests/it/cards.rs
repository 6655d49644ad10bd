//! Cards, payment methods, and what buyers' browsers need.

use serde_json::json;

use crate::harness::{ACCEPTED, id, start};

#[tokio::test]
async fn a_card_can_be_told_what_to_do() {
    let gateway = start().await;
    let number = "5555555555554444";
    assert_eq!(gateway.charge(number).await["status"], "authorized");
    let declines = json!({"authorize": "decline", "reason": "stolen_card"});
    gateway.tell(number, declines).await.expect(200);
    assert_eq!(gateway.charge(number).await["reason"], "stolen_card");
    let cards = gateway.get("/v1/cards").await.expect(200);
    let cards = cards["cards"].as_array().unwrap();
    let told = cards.iter().find(|card| card["number"] == number).unwrap();
    assert_eq!(told["behaviour"]["reason"], "stolen_card");
    assert!(cards.iter().any(|card| card["number"] == ACCEPTED));
}

#[tokio::test]
async fn a_behaviour_with_a_mistake_is_refused() {
    let gateway = start().await;
    for wrong in [
        json!({"authorize": "explode"}),
        json!({"colour": "red"}),
        json!({"answers": {"authorize": {"how": "slow", "ms": 120_001}}}),
        json!({"late_ms": 600_001}),
    ] {
        let reply = gateway.tell(ACCEPTED, wrong).await;
        reply.expect_error(422, "invalid");
    }
    let reply = gateway.tell("4242", json!({})).await;
    reply.expect_error(422, "invalid");
}

#[tokio::test]
async fn a_browser_of_any_origin_may_make_a_payment_method() {
    let gateway = start().await;
    let url = format!("{}/v1/payment-methods", gateway.url);
    let preflight = gateway
        .http
        .request(reqwest::Method::OPTIONS, &url)
        .header("origin", "https://tickets.example")
        .header("access-control-request-method", "POST")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    assert_eq!(preflight.headers()["access-control-allow-methods"], "POST");
    assert_eq!(
        preflight.headers()["access-control-allow-headers"],
        "content-type"
    );
    for (number, status) in [(ACCEPTED, 201), ("12345", 422)] {
        let body = json!({"card_number": number});
        let made = gateway.http.post(&url).json(&body).send().await.unwrap();
        assert_eq!(made.status(), status);
        assert_eq!(made.headers()["access-control-allow-origin"], "*");
    }
}

#[tokio::test]
async fn a_method_and_a_charge_show_no_card_number() {
    let gateway = start().await;
    let charge = gateway.charge(ACCEPTED).await;
    assert!(!charge.to_string().contains(ACCEPTED));
    assert!(id(&charge).starts_with("ch_"));
    assert!(
        charge["payment_method"]
            .as_str()
            .unwrap()
            .starts_with("pm_")
    );
}
