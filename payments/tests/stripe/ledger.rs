//! Reading Stripe's ledger, page by page.

use chrono::DateTime;
use serde_json::json;
use stampede_payments::gateway::{ChargeStatus, Gateway};

use crate::{
    INTENT, assert_ours, charge, pairs, recorded, stripe,
    stub::{Stub, Tell},
    unclear,
};

#[tokio::test]
async fn the_ledger_is_read_in_pages_of_a_hundred_with_the_money_of_each() {
    let mut strangers = recorded("intent_requires_capture");
    strangers["id"] = json!("pi_of_a_stranger");
    strangers["metadata"] = json!({});
    strangers["currency"] = json!("jpy");
    let first = [recorded("intent_canceled"), strangers];
    let second = [recorded("intent_refunded")];
    let stub = Stub::start([
        Tell::Json(
            200,
            json!({"object": "list", "has_more": true, "data": first}),
        ),
        Tell::Json(
            200,
            json!({"object": "list", "has_more": false, "data": second}),
        ),
    ])
    .await;
    let stripe = stripe(&stub);
    let since = DateTime::parse_from_rfc3339("2026-05-28T20:26:40.9Z").unwrap();

    let page = stripe.ledger(since.to_utc(), None).await.unwrap();
    assert_eq!(page.charges[0], charge(ChargeStatus::Voided, 0, 0));
    assert_eq!(page.charges[1].status, ChargeStatus::Authorized);
    assert_eq!(page.charges[1].payment_id, None);
    assert_eq!(page.charges[1].currency, "JPY");
    assert_eq!(page.next.as_deref(), Some("pi_of_a_stranger"));

    let page = stripe.ledger(since.to_utc(), page.next.as_deref()).await;
    let page = page.unwrap();
    assert_eq!(page.charges, [charge(ChargeStatus::Refunded, 8500, 8500)]);
    assert_eq!(page.charges[0].gateway_id, INTENT);
    assert_eq!(page.next, None);

    let seen = stub.seen();
    let query = pairs([
        ("limit", "100"),
        ("created[gte]", "1780000000"),
        ("expand[]", "data.latest_charge"),
    ]);
    for request in &seen {
        assert_ours(request);
        assert_eq!(request.line(), "GET /v1/payment_intents");
    }
    assert_eq!(seen[0].query(), query);
    let after = pairs([("starting_after", "pi_of_a_stranger")]);
    assert_eq!(seen[1].query(), [query, after].concat());
}

#[tokio::test]
async fn an_empty_ledger_has_no_next_page() {
    let page = json!({"object": "list", "has_more": false, "data": []});
    let stub = Stub::start([Tell::Json(200, page)]).await;
    let page = stripe(&stub).ledger(DateTime::UNIX_EPOCH, None).await;
    let page = page.unwrap();
    assert!(page.charges.is_empty() && page.next.is_none());
}

#[tokio::test]
async fn a_page_that_does_not_come_is_unclear_and_not_the_end() {
    for status in [429, 500] {
        let stub = Stub::start([Tell::Json(status, recorded("error_api"))]).await;
        unclear(stripe(&stub).ledger(DateTime::UNIX_EPOCH, None).await);
    }
}
