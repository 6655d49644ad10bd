//! Finding a charge again: by Stripe's id, by the search, and by the list while the search may lag.

use serde_json::{Value, json};
use stampede_payments::gateway::{Charge, ChargeStatus, Gateway, GatewayError};
use uuid::{NoContext, Timestamp, Uuid};

use crate::{
    INTENT, PAYMENT, SHOW, assert_look, assert_ours, charge, pairs, recorded, refused, stripe,
    stub::{Seen, Stub, Tell},
    unclear,
};

fn page(object: &str, has_more: bool, data: &[Value]) -> Tell {
    Tell::Json(
        200,
        json!({"object": object, "url": "/v1/payment_intents", "has_more": has_more, "data": data}),
    )
}

fn found(data: &[Value]) -> Tell {
    page("search_result", false, data)
}

fn listed(has_more: bool, data: &[Value]) -> Tell {
    page("list", has_more, data)
}

/// The recorded intent under another id, for another payment.
fn of_payment(id: &str, payment_id: Uuid, name: &str) -> Value {
    let mut intent = recorded(name);
    intent["id"] = json!(id);
    intent["metadata"]["payment_id"] = json!(payment_id);
    intent["latest_charge"] = json!("ch_not_expanded");
    intent
}

async fn find(
    payment_id: Uuid,
    gateway_id: Option<&str>,
    told: impl IntoIterator<Item = Tell>,
) -> (Vec<Seen>, Result<Option<Charge>, GatewayError>) {
    let stub = Stub::start(told).await;
    let answer = stripe(&stub).find(payment_id, gateway_id).await;
    (stub.seen(), answer)
}

fn assert_search(seen: &Seen, payment_id: Uuid) {
    assert_ours(seen);
    assert_eq!(seen.line(), "GET /v1/payment_intents/search");
    let query = format!("metadata['payment_id']:'{payment_id}'");
    let query = pairs([("query", &query), ("limit", "100")]);
    assert_eq!(seen.query(), query);
}

/// The query for a part of the list, in seconds from when an id was made.
fn part(payment_id: Uuid, from: i64, to: i64) -> Vec<(String, String)> {
    let minted = payment_id.get_timestamp().unwrap().to_unix().0;
    let at = |seconds: i64| minted.checked_add_signed(seconds).unwrap().to_string();
    pairs([
        ("limit", "100"),
        ("created[gte]", &at(from)),
        ("created[lte]", &at(to)),
    ])
}

/// The id of a payment that was made so many seconds ago.
fn minted_ago(seconds: u64) -> Uuid {
    let (now, nanos) = Uuid::now_v7().get_timestamp().unwrap().to_unix();
    let then = Timestamp::from_unix(NoContext, now - seconds, nanos);
    Uuid::new_v7(then)
}

#[tokio::test]
async fn a_charge_is_found_by_stripe_s_id_however_it_stands() {
    for (name, expected) in [
        ("intent_processing", charge(ChargeStatus::Pending, 0, 0)),
        (
            "intent_requires_capture",
            charge(ChargeStatus::Authorized, 0, 0),
        ),
        ("intent_succeeded", charge(ChargeStatus::Captured, 8500, 0)),
        (
            "intent_partly_refunded",
            charge(ChargeStatus::Captured, 8500, 2000),
        ),
        (
            "intent_refunded",
            charge(ChargeStatus::Refunded, 8500, 8500),
        ),
        ("intent_canceled", charge(ChargeStatus::Voided, 0, 0)),
    ] {
        let told = [Tell::Json(200, recorded(name))];
        let (seen, answer) = find(PAYMENT, Some(INTENT), told).await;
        assert_eq!(answer.unwrap(), Some(expected), "{name}");
        assert_look(&seen[0]);
    }
}

#[tokio::test]
async fn a_declined_charge_is_found_with_its_reason() {
    let told = [Tell::Json(200, recorded("intent_declined"))];
    let (_, answer) = find(PAYMENT, Some(INTENT), told).await;
    let found = answer.unwrap().unwrap();
    assert_eq!(found.status, ChargeStatus::Declined);
    assert_eq!(found.reason.as_deref(), Some("insufficient_funds"));
}

#[tokio::test]
async fn a_decline_that_was_voided_since_has_no_reason_any_more() {
    let mut intent = recorded("intent_declined");
    intent["status"] = json!("canceled");
    let (_, answer) = find(PAYMENT, Some(INTENT), [Tell::Json(200, intent)]).await;
    let expected = charge(ChargeStatus::Voided, 0, 0);
    assert_eq!(answer.unwrap(), Some(expected));
}

#[tokio::test]
async fn an_intent_that_nobody_tried_to_pay_is_pending() {
    let mut intent = recorded("intent_processing");
    intent["status"] = json!("requires_payment_method");
    let (_, answer) = find(PAYMENT, Some(INTENT), [Tell::Json(200, intent)]).await;
    assert_eq!(answer.unwrap().unwrap().status, ChargeStatus::Pending);
}

#[tokio::test]
async fn money_that_is_not_told_is_not_guessed() {
    let mut intent = recorded("intent_refunded");
    intent["latest_charge"] = json!("ch_not_expanded");
    let (_, answer) = find(PAYMENT, Some(INTENT), [Tell::Json(200, intent)]).await;
    assert!(unclear(answer).contains("ch_not_expanded"));
}

#[tokio::test]
async fn an_unknown_id_is_none_but_an_unknown_page_is_not() {
    let told = [Tell::Json(404, recorded("error_missing_intent"))];
    let (_, answer) = find(PAYMENT, Some(INTENT), told).await;
    assert_eq!(answer.unwrap(), None);

    let told = [Tell::Text(404, "<html>not here</html>")];
    let (_, answer) = find(PAYMENT, Some(INTENT), told).await;
    unclear(answer);
}

#[tokio::test]
async fn without_an_id_the_charge_is_searched_by_ours_and_then_looked_at() {
    let told = [
        found(&[of_payment(INTENT, PAYMENT, "intent_requires_capture")]),
        Tell::Json(200, recorded("intent_succeeded")),
    ];
    let (seen, answer) = find(PAYMENT, None, told).await;
    let expected = charge(ChargeStatus::Captured, 8500, 0);
    assert_eq!(answer.unwrap(), Some(expected));
    assert_search(&seen[0], PAYMENT);
    assert_look(&seen[1]);
}

#[tokio::test]
async fn of_several_the_one_with_the_money_counts() {
    let several = [
        of_payment("pi_canceled", PAYMENT, "intent_canceled"),
        of_payment("pi_declined", PAYMENT, "intent_declined"),
        of_payment(INTENT, PAYMENT, "intent_requires_capture"),
        of_payment("pi_processing", PAYMENT, "intent_processing"),
    ];
    let look = Tell::Json(200, recorded("intent_requires_capture"));
    let (seen, answer) = find(PAYMENT, None, [found(&several), look]).await;
    assert_eq!(answer.unwrap().unwrap().gateway_id, INTENT);
    assert_look(&seen[1]);
}

#[tokio::test]
async fn what_the_search_does_not_know_after_an_hour_is_not_there() {
    // The recorded payment's id says that it was made long ago.
    let (seen, answer) = find(PAYMENT, None, [found(&[])]).await;
    assert_eq!(answer.unwrap(), None);
    assert_search(&seen[0], PAYMENT);
}

#[tokio::test]
async fn the_charge_of_another_payment_is_not_ours() {
    let other = of_payment("pi_other", Uuid::now_v7(), "intent_requires_capture");
    let (_, answer) = find(PAYMENT, None, [found(&[other])]).await;
    assert_eq!(answer.unwrap(), None);
}

#[tokio::test]
async fn a_young_payment_that_the_search_does_not_know_is_looked_for_in_the_list() {
    let young = Uuid::now_v7();
    let other = of_payment("pi_other", PAYMENT, "intent_requires_capture");
    let ours = of_payment(INTENT, young, "intent_requires_capture");
    let told = [
        found(&[]),
        listed(true, &[other.clone(), other.clone()]),
        listed(false, &[other, ours]),
        Tell::Json(200, recorded("intent_requires_capture")),
    ];
    let (seen, answer) = find(young, None, told).await;
    assert_eq!(answer.unwrap().unwrap().status, ChargeStatus::Authorized);
    assert_search(&seen[0], young);
    assert_eq!(seen[1].line(), "GET /v1/payment_intents");
    let first = part(young, -60, 30);
    assert_eq!(seen[1].query(), first);
    let second = [first, pairs([("starting_after", "pi_other")])].concat();
    assert_eq!(seen[2].query(), second);
    assert_look(&seen[3]);
}

#[tokio::test]
async fn what_a_busy_sale_made_since_does_not_hide_an_older_intent() {
    // However much was made after the first half minute: it is not in the first part, which has few pages.
    let older = minted_ago(40 * 60);
    let other = of_payment("pi_other", PAYMENT, "intent_requires_capture");
    let ours = of_payment(INTENT, older, "intent_requires_capture");
    let others = (0..9).map(|_| listed(true, std::slice::from_ref(&other)));
    let told = std::iter::once(found(&[]))
        .chain(others)
        .chain([listed(true, &[ours])])
        .chain([Tell::Json(200, recorded("intent_requires_capture"))]);
    let (seen, answer) = find(older, None, told.collect::<Vec<_>>()).await;
    assert_eq!(answer.unwrap().unwrap().gateway_id, INTENT);
    for asked in &seen[1..=10] {
        assert_eq!(asked.query()[..3], part(older, -60, 30));
    }
}

#[tokio::test]
async fn an_intent_that_recovery_made_late_is_found_in_a_later_part() {
    let older = minted_ago(40 * 60);
    let ours = of_payment(INTENT, older, "intent_requires_capture");
    let told = [
        found(&[]),
        listed(false, &[]),
        listed(false, &[]),
        listed(false, &[ours]),
        Tell::Json(200, recorded("intent_requires_capture")),
    ];
    let (seen, answer) = find(older, None, told).await;
    assert_eq!(answer.unwrap().unwrap().gateway_id, INTENT);
    // No second is left out, and the last part ends when the search knows.
    for (asked, (from, to)) in seen[1..=3].iter().zip([(-60, 30), (31, 900), (901, 3_660)]) {
        assert_eq!(asked.query(), part(older, from, to));
    }
}

#[tokio::test]
async fn a_young_payment_that_is_not_in_the_list_either_is_not_there() {
    // Of a payment of this minute, nothing can be in the last part.
    let told = [found(&[]), listed(false, &[]), listed(false, &[])];
    let (_, answer) = find(Uuid::now_v7(), None, told).await;
    assert_eq!(answer.unwrap(), None);
}

#[tokio::test]
async fn a_list_that_is_too_long_to_read_is_unclear() {
    let other = of_payment("pi_other", PAYMENT, "intent_requires_capture");
    let page = |has_more| listed(has_more, std::slice::from_ref(&other));
    // In one part, and in all of them together.
    for first_part in [10, 6] {
        let pages = (1..=10).map(|number| page(number != first_part || first_part == 10));
        let told: Vec<Tell> = std::iter::once(found(&[])).chain(pages).collect();
        let (seen, answer) = find(Uuid::now_v7(), None, told).await;
        unclear(answer);
        assert_eq!(seen.len(), 11);
    }
}

#[tokio::test]
async fn a_search_that_fails_says_nothing() {
    let told = [Tell::Json(429, recorded("error_rate_limit"))];
    let (_, answer) = find(PAYMENT, None, told).await;
    unclear(answer);
    let told = [Tell::Json(401, recorded("error_wrong_key"))];
    let (_, answer) = find(PAYMENT, None, told).await;
    assert_eq!(refused(answer), "invalid_request_error");
}

#[tokio::test]
async fn our_ids_are_read_from_the_metadata_and_only_if_they_are_ids() {
    let mut intent = recorded("intent_succeeded");
    intent["metadata"] = json!({"payment_id": "not an id", "show_id": SHOW});
    let (_, answer) = find(PAYMENT, Some(INTENT), [Tell::Json(200, intent)]).await;
    let found = answer.unwrap().unwrap();
    assert_eq!((found.payment_id, found.show_id), (None, Some(SHOW)));
}
