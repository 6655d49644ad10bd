//! Reserving money: what is asked, every state it can end in, and every way of not knowing.

use std::time::Duration;

use serde_json::{Value, json};
use stampede_payments::{
    gateway::{Charge, ChargeStatus, Gateway, GatewayError, Order},
    stripe::Stripe,
};

use crate::{
    PAYMENT, SHOW, assert_look, assert_ours, charge, pairs, recorded, refused, stripe,
    stripe_with_timeout,
    stub::{Stub, Tell},
    unclear,
};

fn order() -> Order {
    Order {
        show_id: SHOW,
        payment_id: PAYMENT,
        amount: 8500,
        currency: "EUR".to_owned(),
        payment_method: "pm_1SaMpLe000000000000001".to_owned(),
    }
}

async fn authorize(told: impl IntoIterator<Item = Tell>) -> (Stub, Result<Charge, GatewayError>) {
    let stub = Stub::start(told).await;
    let answer = stripe(&stub).authorize(&order()).await;
    (stub, answer)
}

/// What becomes of an intent that stands like this after it was made.
async fn made(intent: Value) -> Charge {
    let (_, answer) = authorize([Tell::Json(200, intent)]).await;
    answer.unwrap()
}

#[tokio::test]
async fn an_order_becomes_an_intent_that_is_confirmed_and_captured_by_hand() {
    let (stub, answer) = authorize([Tell::Json(200, recorded("intent_requires_capture"))]).await;
    assert_eq!(answer.unwrap(), charge(ChargeStatus::Authorized, 0, 0));
    let seen = stub.only();
    assert_ours(&seen);
    assert_eq!(seen.line(), "POST /v1/payment_intents");
    assert!(seen.query().is_empty());
    let key = "01980a3c-5e00-7b10-8c33-4f6d2a9b1e55:authorize";
    assert_eq!(seen.header("idempotency-key"), Some(key));
    let form = [
        ("amount", "8500"),
        ("currency", "eur"),
        ("payment_method", "pm_1SaMpLe000000000000001"),
        ("capture_method", "manual"),
        ("confirm", "true"),
        ("automatic_payment_methods[enabled]", "true"),
        ("automatic_payment_methods[allow_redirects]", "never"),
        (
            "metadata[payment_id]",
            "01980a3c-5e00-7b10-8c33-4f6d2a9b1e55",
        ),
        ("metadata[show_id]", "0197f001-2c00-7d44-9a10-6b1c3d5e7f90"),
        ("expand[]", "latest_charge"),
    ];
    assert_eq!(seen.form(), pairs(form));
}

#[tokio::test]
async fn with_a_way_back_buyers_may_be_sent_elsewhere() {
    let stub = Stub::start([Tell::Json(200, recorded("intent_requires_action"))]).await;
    let stripe = stripe(&stub).with_return_url("https://tickets.example/back");
    let charge = stripe.unwrap().authorize(&order()).await.unwrap();
    assert_eq!(charge.status, ChargeStatus::Pending);
    let step = "https://hooks.stripe.com/3d_secure_2/hosted?merchant=acct_made_up";
    assert_eq!(charge.next_action.as_deref(), Some(step));
    let form = stub.only().form();
    let has = |name: &str, value: &str| form.contains(&(name.to_owned(), value.to_owned()));
    assert!(has("automatic_payment_methods[allow_redirects]", "always"));
    assert!(has("return_url", "https://tickets.example/back"));
}

#[tokio::test]
async fn a_step_that_only_stripe_s_script_can_take_has_no_url() {
    let charge = made(recorded("intent_requires_action_in_script")).await;
    assert_eq!(charge.status, ChargeStatus::Pending);
    assert_eq!(charge.next_action, None);
}

#[tokio::test]
async fn a_step_may_have_hosted_instructions() {
    let mut intent = recorded("intent_requires_action");
    let url = "https://payments.stripe.com/instructions/made_up";
    intent["next_action"] = json!({
        "type": "cashapp_handle_redirect_or_display_qr_code",
        "cashapp_handle_redirect_or_display_qr_code": {"hosted_instructions_url": url},
    });
    assert_eq!(made(intent).await.next_action.as_deref(), Some(url));
}

#[tokio::test]
async fn what_the_bank_has_not_answered_yet_is_pending() {
    for status in ["processing", "requires_confirmation"] {
        let mut intent = recorded("intent_processing");
        intent["status"] = json!(status);
        assert_eq!(made(intent).await, charge(ChargeStatus::Pending, 0, 0));
    }
}

#[tokio::test]
async fn an_intent_may_be_captured_at_once() {
    let charge_now = made(recorded("intent_succeeded")).await;
    assert_eq!(charge_now, charge(ChargeStatus::Captured, 8500, 0));
}

#[tokio::test]
async fn a_declined_card_is_a_declined_charge_with_the_bank_s_reason() {
    let (_, answer) = authorize([Tell::Json(402, recorded("error_card_declined"))]).await;
    let mut declined = charge(ChargeStatus::Declined, 0, 0);
    declined.reason = Some("insufficient_funds".to_owned());
    assert_eq!(answer.unwrap(), declined);
}

#[tokio::test]
async fn a_decline_without_the_bank_s_reason_has_stripe_s() {
    let mut error = recorded("error_card_declined");
    error["error"]["decline_code"] = Value::Null;
    error["error"]["payment_intent"]["last_payment_error"] = Value::Null;
    let (_, answer) = authorize([Tell::Json(402, error)]).await;
    let charge = answer.unwrap();
    assert_eq!(charge.status, ChargeStatus::Declined);
    assert_eq!(charge.reason.as_deref(), Some("card_declined"));
}

#[tokio::test]
async fn a_card_error_without_an_intent_is_a_refusal() {
    let mut error = recorded("error_card_declined");
    error["error"]["payment_intent"] = Value::Null;
    let (_, answer) = authorize([Tell::Json(402, error)]).await;
    assert_eq!(refused(answer), "insufficient_funds");
}

#[tokio::test]
async fn a_failed_authentication_is_a_decline() {
    let declined = made(recorded("intent_authentication_failed")).await;
    assert_eq!(declined.status, ChargeStatus::Declined);
    let reason = "payment_intent_authentication_failure";
    assert_eq!(declined.reason.as_deref(), Some(reason));
}

#[tokio::test]
async fn a_replayed_answer_is_as_old_as_the_first_call_so_the_intent_is_looked_at() {
    let (stub, answer) = authorize([
        Tell::Replay(200, recorded("intent_requires_action")),
        Tell::Json(200, recorded("intent_requires_capture")),
    ])
    .await;
    assert_eq!(answer.unwrap(), charge(ChargeStatus::Authorized, 0, 0));
    assert_look(&stub.seen()[1]);
}

#[tokio::test]
async fn a_replayed_decline_is_looked_at_too() {
    let (stub, answer) = authorize([
        Tell::Replay(402, recorded("error_card_declined")),
        Tell::Json(200, recorded("intent_canceled")),
    ])
    .await;
    assert_eq!(answer.unwrap(), charge(ChargeStatus::Voided, 0, 0));
    assert_look(&stub.seen()[1]);
}

#[tokio::test]
async fn what_stripe_does_not_accept_is_refused_with_its_code() {
    for (status, error, code) in [
        (404, "error_missing_method", "resource_missing"),
        (400, "error_low_balance", "balance_insufficient"),
        (401, "error_wrong_key", "invalid_request_error"),
    ] {
        let (_, answer) = authorize([Tell::Json(status, recorded(error))]).await;
        assert_eq!(refused(answer), code);
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_unclear() {
    for (status, error) in [
        (409, "error_key_in_use"),
        (409, "error_locked"),
        (400, "error_key_reused"),
        (429, "error_rate_limit"),
        (424, "error_api"),
        (500, "error_api"),
        (503, "error_api"),
    ] {
        let (_, answer) = authorize([Tell::Json(status, recorded(error))]).await;
        let what = unclear(answer);
        assert!(what.contains(&status.to_string()), "{what}");
    }
}

#[tokio::test]
async fn a_recorded_failure_of_an_order_is_not_said_anew() {
    let (stub, answer) = authorize([Tell::Replay(500, recorded("error_api"))]).await;
    unclear(answer);
    stub.only();
}

#[tokio::test]
async fn what_stripe_did_not_say_is_unclear() {
    for told in [
        Tell::Text(403, "<html>blocked by a proxy</html>"),
        Tell::Text(502, "bad gateway"),
        Tell::Text(302, ""),
        Tell::Text(200, "{\"id\":\"pi_3Sa"),
        Tell::Json(200, json!({"id": "pi_1", "object": "payment_intent"})),
        Tell::Close,
    ] {
        let (_, answer) = authorize([told]).await;
        unclear(answer);
    }
}

#[tokio::test]
async fn a_state_that_we_do_not_know_is_unclear() {
    let mut intent = recorded("intent_processing");
    intent["status"] = json!("requires_something_new");
    let (_, answer) = authorize([Tell::Json(200, intent)]).await;
    assert!(unclear(answer).contains("requires_something_new"));
}

#[tokio::test]
async fn no_answer_in_time_is_unclear() {
    let stub = Stub::start([Tell::Silence]).await;
    let stripe = stripe_with_timeout(&stub, Duration::from_millis(100));
    unclear(stripe.authorize(&order()).await);
    assert_eq!(stub.only().line(), "POST /v1/payment_intents");
}

#[tokio::test]
async fn nobody_there_is_unclear_and_the_text_has_no_secret() {
    // Nothing listens at port 1.
    let (key, timeout) = ("sk_test_1".into(), Duration::from_secs(10));
    let stripe = Stripe::new("http://127.0.0.1:1", key, Vec::new(), timeout).unwrap();
    let what = unclear(stripe.authorize(&order()).await);
    assert!(
        !what.contains("sk_test_1") && !what.contains("pm_1"),
        "{what}"
    );
    assert!(!format!("{stripe:?}").contains("sk_test_1"));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let text: &'static str = Box::leak(" ".repeat(9 << 20).into_boxed_str());
    let (_, answer) = authorize([Tell::Text(200, text)]).await;
    assert!(unclear(answer).contains("too long"));
}
