//! Refunds: what is asked, that one which failed is asked for again, and that none is asked for twice.

use std::time::Duration;

use serde_json::{Value, json};
use stampede_payments::gateway::{Charge, ChargeStatus, Gateway, GatewayError};

use crate::{
    INTENT, PAYMENT, SHOW, assert_look, assert_ours, charge, pairs, recorded, refused, stripe,
    stripe_with_timeout,
    stub::{Seen, Stub, Tell},
    unclear,
};

const REFUND: &str = "re_3SaMpLe0000000000000001";

fn ok(name: &str) -> Tell {
    Tell::Json(200, recorded(name))
}

async fn refund(told: impl IntoIterator<Item = Tell>) -> (Vec<Seen>, Result<Charge, GatewayError>) {
    let stub = Stub::start(told).await;
    let answer = stripe(&stub).refund(PAYMENT, INTENT).await;
    (stub.seen(), answer)
}

fn refunded() -> Charge {
    charge(ChargeStatus::Refunded, 8500, 8500)
}

fn assert_asked(seen: &Seen, key: Option<&str>) {
    assert_ours(seen);
    assert_eq!(seen.line(), "POST /v1/refunds");
    let form = pairs([
        ("payment_intent", INTENT),
        ("metadata[payment_id]", &PAYMENT.to_string()),
        ("metadata[show_id]", &SHOW.to_string()),
    ]);
    assert_eq!(seen.form(), form);
    assert_eq!(seen.header("idempotency-key"), key);
}

fn assert_asked_once(seen: &Seen) {
    assert_asked(seen, Some(&format!("{PAYMENT}:refund")));
}

fn assert_asked_anew(seen: &Seen) {
    assert_asked(seen, None);
}

fn assert_refund_looked_at(seen: &Seen) {
    assert_ours(seen);
    assert_eq!(seen.line(), format!("GET /v1/refunds/{REFUND}"));
}

#[tokio::test]
async fn a_refund_gives_all_of_it_back_and_carries_our_ids() {
    for answered in ["refund_succeeded", "refund_pending"] {
        let told = [ok("intent_succeeded"), ok(answered), ok("intent_refunded")];
        let (seen, answer) = refund(told).await;
        assert_eq!(answer.unwrap(), refunded());
        assert_look(&seen[0]);
        assert_asked_once(&seen[1]);
        assert_look(&seen[2]);
    }
}

#[tokio::test]
async fn a_refund_of_an_intent_that_lost_its_metadata_carries_what_we_know() {
    let mut bare = recorded("intent_succeeded");
    bare["metadata"] = json!({});
    let told = [
        Tell::Json(200, bare),
        ok("refund_succeeded"),
        ok("intent_refunded"),
    ];
    let (seen, answer) = refund(told).await;
    assert_eq!(answer.unwrap(), refunded());
    let form = pairs([
        ("payment_intent", INTENT),
        ("metadata[payment_id]", &PAYMENT.to_string()),
    ]);
    assert_eq!(seen[1].form(), form);
}

#[tokio::test]
async fn a_refund_of_what_is_refunded_is_not_asked_for() {
    let (seen, answer) = refund([ok("intent_refunded")]).await;
    assert_eq!(answer.unwrap(), refunded());
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn a_refund_of_what_was_refunded_just_now_is_fine() {
    let told = [
        ok("intent_succeeded"),
        Tell::Json(400, recorded("error_already_refunded")),
        ok("intent_refunded"),
    ];
    let (seen, answer) = refund(told).await;
    assert_eq!(answer.unwrap(), refunded());
    assert_look(&seen[2]);
}

#[tokio::test]
async fn a_refund_counts_only_as_far_as_the_charge_says() {
    for (stands, refunded) in [("intent_succeeded", 0), ("intent_partly_refunded", 2000)] {
        let told = [
            ok("intent_succeeded"),
            Tell::Replay(200, recorded("refund_pending")),
            ok("refund_pending"),
            ok(stands),
        ];
        let (seen, answer) = refund(told).await;
        let expected = charge(ChargeStatus::Captured, 8500, refunded);
        assert_eq!(answer.unwrap(), expected);
        assert_refund_looked_at(&seen[2]);
    }
}

#[tokio::test]
async fn a_refund_that_failed_at_once_is_refused() {
    let (seen, answer) = refund([ok("intent_succeeded"), ok("refund_failed")]).await;
    assert_eq!(refused(answer), "refund_failed");
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_refund_that_our_balance_does_not_cover_is_refused_now_and_tried_anew_later() {
    let low = || recorded("error_low_balance");
    let (seen, answer) = refund([ok("intent_succeeded"), Tell::Json(400, low())]).await;
    assert_eq!(refused(answer), "balance_insufficient");
    assert_asked_once(&seen[1]);

    let told = [
        ok("intent_succeeded"),
        Tell::Replay(400, low()),
        ok("refund_succeeded"),
        ok("intent_refunded"),
    ];
    let (seen, answer) = refund(told).await;
    assert_eq!(answer.unwrap(), refunded());
    assert_asked_once(&seen[1]);
    assert_asked_anew(&seen[2]);
}

#[tokio::test]
async fn a_refund_that_failed_later_is_seen_and_asked_for_anew() {
    // The charge stands as captured again, and Stripe repeats what it answered then: mostly a success.
    for (then, failed_as) in [
        ("refund_succeeded", "failed"),
        ("refund_pending", "canceled"),
        ("refund_failed", "failed"),
    ] {
        let mut failed = recorded("refund_failed");
        failed["status"] = json!(failed_as);
        let told = [
            ok("intent_succeeded"),
            Tell::Replay(200, recorded(then)),
            Tell::Json(200, failed),
            ok("refund_succeeded"),
            ok("intent_refunded"),
        ];
        let (seen, answer) = refund(told).await;
        assert_eq!(answer.unwrap(), refunded(), "{then}");
        assert_asked_once(&seen[1]);
        assert_refund_looked_at(&seen[2]);
        assert_asked_anew(&seen[3]);
        assert_look(&seen[4]);
    }
}

#[tokio::test]
async fn a_refund_that_fails_again_is_refused_again() {
    let told = [
        ok("intent_succeeded"),
        Tell::Replay(200, recorded("refund_succeeded")),
        ok("refund_failed"),
        ok("refund_failed"),
    ];
    let (_, answer) = refund(told).await;
    assert_eq!(refused(answer), "refund_failed");
}

#[tokio::test]
async fn a_recorded_refund_that_cannot_be_looked_at_is_not_asked_for_anew() {
    let told = [
        ok("intent_succeeded"),
        Tell::Replay(200, recorded("refund_succeeded")),
        Tell::Json(500, recorded("error_api")),
    ];
    let (seen, answer) = refund(told).await;
    unclear(answer);
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn a_refund_whose_answer_is_lost_is_unclear() {
    for told in [
        || Tell::Json(500, recorded("error_api")),
        || Tell::Json(429, recorded("error_rate_limit")),
        || Tell::Json(409, recorded("error_locked")),
        || Tell::Close,
        || Tell::Silence,
    ] {
        // Of the look before it, and of the refund itself.
        let stub = Stub::start([told(), ok("intent_succeeded"), told()]).await;
        let stripe = stripe_with_timeout(&stub, Duration::from_millis(200));
        unclear(stripe.refund(PAYMENT, INTENT).await);
        unclear(stripe.refund(PAYMENT, INTENT).await);
        let seen = stub.seen();
        assert_look(&seen[0]);
        assert_asked_once(&seen[2]);
    }
}

#[tokio::test]
async fn a_refund_of_an_unknown_intent_is_refused() {
    let missing = Tell::Json(404, recorded("error_missing_intent"));
    let (_, answer) = refund([missing]).await;
    assert_eq!(refused(answer), "resource_missing");
}

#[test]
fn the_recorded_event_is_of_the_recorded_refund() {
    let event = recorded("event_refund_failed");
    let Value::Object(refund) = &event["data"]["object"] else {
        panic!("no refund");
    };
    assert_eq!(refund["id"], REFUND);
    assert_eq!(Value::Object(refund.clone()), recorded("refund_failed"));
}
