//! Believing Stripe's events, or not.

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use stampede_payments::{
    gateway::{About, Callback, CallbackError, ChargeStatus, Gateway},
    stripe::Stripe,
};

use crate::{
    INTENT, PAYMENT, SECRETS, SHOW, recorded, stripe,
    stub::{Stub, Tell},
};

const SENT_AT: i64 = 1_780_000_001;

fn signed(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{SENT_AT}.").as_bytes());
    mac.update(body);
    let tag = mac.finalize().into_bytes();
    let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={SENT_AT},v1={tag},v0=of_no_use")
}

async fn deaf() -> Stripe {
    stripe(&Stub::start(std::iter::empty::<Tell>()).await)
}

fn sent(stripe: &Stripe, header: Option<&str>, body: &[u8]) -> Result<Callback, CallbackError> {
    sent_after(stripe, header, body, 2)
}

fn sent_after(
    stripe: &Stripe,
    header: Option<&str>,
    body: &[u8],
    seconds: i64,
) -> Result<Callback, CallbackError> {
    let now: DateTime<Utc> = DateTime::from_timestamp(SENT_AT + seconds, 0).unwrap();
    let of = |name: &str| {
        header
            .filter(|_| name == "stripe-signature")
            .map(str::to_owned)
    };
    stripe.check_callback(&of, body, now)
}

fn body(event: &Value) -> Vec<u8> {
    serde_json::to_vec(event).unwrap()
}

async fn about(event: &Value) -> Option<About> {
    let body = body(event);
    let header = signed(SECRETS[0], &body);
    let callback = sent(&deaf().await, Some(&header), &body).unwrap();
    assert_eq!(callback.event_id, event["id"].as_str().unwrap());
    callback.about
}

#[tokio::test]
async fn events_of_an_intent_and_of_its_charge_and_refund_are_about_our_payment() {
    let ours = About {
        show_id: SHOW,
        payment_id: PAYMENT,
        gateway_id: INTENT.to_owned(),
        told: None,
    };
    for (name, told) in [
        ("event_intent_capturable", Some(ChargeStatus::Authorized)),
        ("event_charge_refunded", None),
        ("event_refund_failed", None),
    ] {
        let ours = About {
            told,
            ..ours.clone()
        };
        assert_eq!(about(&recorded(name)).await, Some(ours), "{name}");
    }
}

#[tokio::test]
async fn events_of_other_things_are_about_nothing_of_ours() {
    for name in ["event_dispute", "event_balance"] {
        assert_eq!(about(&recorded(name)).await, None, "{name}");
    }
}

#[tokio::test]
async fn whatever_comes_of_a_refund_is_told_but_not_that_it_was_made() {
    let mut event = recorded("event_refund_failed");
    for (kind, is_told) in [
        ("refund.failed", true),
        ("refund.updated", true),
        ("charge.refund.updated", true),
        ("refund.created", false),
    ] {
        event["type"] = kind.into();
        let about = about(&event).await;
        assert_eq!(about.is_some(), is_told, "{kind}");
        assert!(about.is_none_or(|about| about.told.is_none()), "{kind}");
    }
}

#[tokio::test]
async fn events_of_strangers_charges_are_about_nothing_of_ours() {
    for (name, metadata) in [
        ("event_intent_capturable", serde_json::json!({})),
        (
            "event_charge_refunded",
            serde_json::json!({"payment_id": "5"}),
        ),
        ("event_charge_refunded", Value::Null),
        ("event_refund_failed", serde_json::json!({})),
    ] {
        let mut event = recorded(name);
        event["data"]["object"]["metadata"] = metadata;
        assert_eq!(about(&event).await, None);
    }
    for name in ["event_charge_refunded", "event_refund_failed"] {
        let mut event = recorded(name);
        event["data"]["object"]["payment_intent"] = Value::Null;
        assert_eq!(about(&event).await, None, "{name}");
    }
}

#[tokio::test]
async fn either_secret_will_do_and_no_other() {
    let stripe = deaf().await;
    let body = body(&recorded("event_charge_refunded"));
    for secret in SECRETS {
        assert!(sent(&stripe, Some(&signed(secret, &body)), &body).is_ok());
    }
    let forged = signed("whsec_forged", &body);
    let answer = sent(&stripe, Some(&forged), &body);
    assert_eq!(answer, Err(CallbackError::WrongSignature));
}

#[tokio::test]
async fn a_changed_or_old_or_unsigned_event_is_not_believed() {
    let stripe = deaf().await;
    let body = body(&recorded("event_charge_refunded"));
    let header = signed(SECRETS[1], &body);
    let mut changed = body.clone();
    changed.push(b' ');
    let answer = sent(&stripe, Some(&header), &changed);
    assert_eq!(answer, Err(CallbackError::WrongSignature));
    for (seconds, expected) in [(300, None), (301, Some(CallbackError::TooOld))] {
        let answer = sent_after(&stripe, Some(&header), &body, seconds);
        assert_eq!(answer.err(), expected, "{seconds}");
    }
    for header in [None, Some(""), Some("t=1")] {
        let answer = sent(&stripe, header, &body);
        assert_eq!(answer, Err(CallbackError::NoSignature));
    }
}

#[tokio::test]
async fn what_is_signed_but_no_event_is_unreadable() {
    let stripe = deaf().await;
    let mut not_an_event = recorded("event_charge_refunded");
    not_an_event["object"] = "v2.core.event".into();
    let bodies = [
        b"nonsense".to_vec(),
        b"{}".to_vec(),
        body(&recorded("intent_succeeded")),
        body(&not_an_event),
    ];
    for body in bodies {
        let header = signed(SECRETS[0], &body);
        let answer = sent(&stripe, Some(&header), &body);
        assert_eq!(answer, Err(CallbackError::Unreadable));
    }
}

#[tokio::test]
async fn the_gateway_says_who_it_is_and_how_long_it_remembers_keys() {
    let stripe = deaf().await;
    assert_eq!(stripe.name(), "stripe");
    // Less than the 24 hours after which Stripe forgets them.
    assert_eq!(stripe.keys_last().as_secs(), 23 * 3_600);
}

#[test]
fn a_url_that_is_none_is_refused() {
    for url in [
        "",
        "api.stripe.com",
        "ftp://api.stripe.com",
        "data:text/plain,x",
    ] {
        let timeout = std::time::Duration::from_secs(1);
        let stripe = Stripe::new(url, "sk_test_1".into(), Vec::new(), timeout);
        assert!(stripe.is_err(), "{url}");
    }
}
