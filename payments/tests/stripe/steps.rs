//! Capture and void: what is asked, and what is made of an intent that is past them.

use std::time::Duration;

use stampede_payments::gateway::{ChargeStatus, Gateway};

use crate::{
    INTENT, PAYMENT, assert_look, assert_ours, charge, pairs, recorded, refused, stripe,
    stripe_with_timeout,
    stub::{Seen, Stub, Tell},
    unclear,
};

fn assert_step(seen: &Seen, line: &str, form: (&str, &str), step: &str) {
    assert_ours(seen);
    assert_eq!(seen.line(), line);
    assert_eq!(seen.form(), pairs([form]));
    let key = format!("{PAYMENT}:{step}");
    assert_eq!(seen.header("idempotency-key"), Some(key.as_str()));
}

fn assert_capture(seen: &Seen) {
    let line = format!("POST /v1/payment_intents/{INTENT}/capture");
    assert_step(seen, &line, ("expand[]", "latest_charge"), "capture");
}

fn assert_void(seen: &Seen) {
    let line = format!("POST /v1/payment_intents/{INTENT}/cancel");
    assert_step(seen, &line, ("expand[]", "latest_charge"), "void");
}

#[tokio::test]
async fn a_capture_takes_all_of_it() {
    let stub = Stub::start([Tell::Json(200, recorded("intent_succeeded"))]).await;
    let answer = stripe(&stub).capture(PAYMENT, INTENT).await;
    assert_eq!(answer.unwrap(), charge(ChargeStatus::Captured, 8500, 0));
    assert_capture(&stub.only());
}

#[tokio::test]
async fn a_capture_of_what_is_captured_is_fine_and_so_is_one_of_what_was_refunded_since() {
    for (stands, refunded, status) in [
        ("intent_succeeded", 0, ChargeStatus::Captured),
        ("intent_refunded", 8500, ChargeStatus::Refunded),
    ] {
        let stub = Stub::start([
            Tell::Json(400, recorded("error_unexpected_state")),
            Tell::Json(200, recorded(stands)),
        ])
        .await;
        let answer = stripe(&stub).capture(PAYMENT, INTENT).await;
        assert_eq!(answer.unwrap(), charge(status, 8500, refunded));
        let seen = stub.seen();
        assert_capture(&seen[0]);
        assert_look(&seen[1]);
    }
}

#[tokio::test]
async fn a_capture_of_what_was_voided_is_refused() {
    let stub = Stub::start([
        Tell::Json(400, recorded("error_unexpected_state")),
        Tell::Json(200, recorded("intent_canceled")),
    ])
    .await;
    let answer = stripe(&stub).capture(PAYMENT, INTENT).await;
    assert_eq!(refused(answer), "payment_intent_unexpected_state");
    stub.seen();
}

#[tokio::test]
async fn a_capture_that_cannot_be_checked_is_unclear() {
    let stub = Stub::start([
        Tell::Json(400, recorded("error_unexpected_state")),
        Tell::Json(503, recorded("error_api")),
    ])
    .await;
    unclear(stripe(&stub).capture(PAYMENT, INTENT).await);
    stub.seen();
}

#[tokio::test]
async fn a_void_lets_the_reservation_go_and_nothing_was_taken_or_given_back() {
    let stub = Stub::start([Tell::Json(200, recorded("intent_canceled"))]).await;
    let answer = stripe(&stub).void(PAYMENT, INTENT).await;
    assert_eq!(answer.unwrap(), charge(ChargeStatus::Voided, 0, 0));
    assert_void(&stub.only());
}

#[tokio::test]
async fn a_void_of_what_is_voided_is_fine_and_one_of_what_is_captured_is_refused() {
    for (stands, fine) in [("intent_canceled", true), ("intent_succeeded", false)] {
        let stub = Stub::start([
            Tell::Json(400, recorded("error_unexpected_state")),
            Tell::Json(200, recorded(stands)),
        ])
        .await;
        let answer = stripe(&stub).void(PAYMENT, INTENT).await;
        if fine {
            assert_eq!(answer.unwrap(), charge(ChargeStatus::Voided, 0, 0));
        } else {
            assert_eq!(refused(answer), "payment_intent_unexpected_state");
        }
        assert_look(&stub.seen()[1]);
    }
}

#[tokio::test]
async fn a_recorded_failure_of_a_step_does_not_stand_for_a_day() {
    let stub = Stub::start([
        Tell::Replay(500, recorded("error_api")),
        Tell::Json(200, recorded("intent_succeeded")),
    ])
    .await;
    let answer = stripe(&stub).capture(PAYMENT, INTENT).await;
    assert_eq!(answer.unwrap(), charge(ChargeStatus::Captured, 8500, 0));
    let seen = stub.seen();
    assert_capture(&seen[0]);
    assert_eq!(seen[1].form(), seen[0].form());
    assert_eq!(seen[1].header("idempotency-key"), None);
}

#[tokio::test]
async fn a_replayed_capture_is_looked_at_afresh() {
    let stub = Stub::start([
        Tell::Replay(200, recorded("intent_succeeded")),
        Tell::Json(200, recorded("intent_refunded")),
    ])
    .await;
    let answer = stripe(&stub).capture(PAYMENT, INTENT).await;
    assert_eq!(answer.unwrap(), charge(ChargeStatus::Refunded, 8500, 8500));
    assert_look(&stub.seen()[1]);
}

#[tokio::test]
async fn a_step_whose_answer_is_lost_is_unclear() {
    for told in [
        || Tell::Json(500, recorded("error_api")),
        || Tell::Json(429, recorded("error_rate_limit")),
        || Tell::Json(409, recorded("error_locked")),
        || Tell::Close,
        || Tell::Silence,
    ] {
        let stub = Stub::start([told(), told()]).await;
        let stripe = stripe_with_timeout(&stub, Duration::from_millis(200));
        unclear(stripe.capture(PAYMENT, INTENT).await);
        unclear(stripe.void(PAYMENT, INTENT).await);
        let seen = stub.seen();
        assert_capture(&seen[0]);
        assert_void(&seen[1]);
    }
}

#[tokio::test]
async fn steps_on_an_unknown_intent_are_refused() {
    let missing = || Tell::Json(404, recorded("error_missing_intent"));
    let stub = Stub::start([missing(), missing()]).await;
    let stripe = stripe(&stub);
    for answer in [
        stripe.capture(PAYMENT, INTENT).await,
        stripe.void(PAYMENT, INTENT).await,
    ] {
        assert_eq!(refused(answer), "resource_missing");
    }
}
