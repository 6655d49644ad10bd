//! Stripe on the wire: what is sent to it, and what is made of its answers.
//!
//! The answers in `recorded/` have the shapes that Stripe documents for the pinned version of its API;
//! the ids and texts in them are made up.

#![expect(clippy::unwrap_used, reason = "a test says what it means with unwrap")]

mod authorize;
mod callbacks;
mod finding;
mod ledger;
mod refunds;
mod steps;
mod stub;

use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use stampede_payments::{
    gateway::{Charge, ChargeStatus, GatewayError},
    stripe::Stripe,
};
use uuid::{Uuid, uuid};

use self::stub::{Seen, Stub};

/// Our ids in the metadata of everything that is recorded.
const PAYMENT: Uuid = uuid!("01980a3c-5e00-7b10-8c33-4f6d2a9b1e55");
const SHOW: Uuid = uuid!("0197f001-2c00-7d44-9a10-6b1c3d5e7f90");

/// The recorded intent.
const INTENT: &str = "pi_3SaMpLe0000000000000001";

const SECRETS: [&str; 2] = ["whsec_new", "whsec_old"];

/// A recorded answer.
fn recorded(name: &str) -> Value {
    let path = format!("{}/tests/recorded/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn stripe(stub: &Stub) -> Stripe {
    stripe_with_timeout(stub, Duration::from_secs(10))
}

fn stripe_with_timeout(stub: &Stub, timeout: Duration) -> Stripe {
    let secrets = SECRETS.map(SecretString::from).to_vec();
    Stripe::new(&stub.url, SecretString::from("sk_test_1"), secrets, timeout).unwrap()
}

/// Names and values, as a request has them.
fn pairs<const N: usize>(of: [(&str, &str); N]) -> Vec<(String, String)> {
    of.map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// The recorded charge, standing thus.
fn charge(status: ChargeStatus, captured: i64, refunded: i64) -> Charge {
    Charge {
        gateway_id: INTENT.to_owned(),
        status,
        captured,
        refunded,
        currency: "EUR".to_owned(),
        next_action: None,
        reason: None,
        payment_id: Some(PAYMENT),
        show_id: Some(SHOW),
    }
}

/// The code of a refusal; panics at anything else.
fn refused<T: std::fmt::Debug>(answer: Result<T, GatewayError>) -> String {
    match answer {
        Err(GatewayError::Refused { code, .. }) => code,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// What was unclear; panics at anything else.
fn unclear<T: std::fmt::Debug>(answer: Result<T, GatewayError>) -> String {
    match answer {
        Err(GatewayError::Unclear(what)) => what,
        other => panic!("not unclear: {other:?}"),
    }
}

/// Panics unless the request carries our key and the version whose shapes we know.
fn assert_ours(seen: &Seen) {
    assert_eq!(seen.header("authorization"), Some("Bearer sk_test_1"));
    assert_eq!(seen.header("stripe-version"), Some("2025-09-30.clover"));
}

/// Panics unless the request is a look at the recorded intent.
fn assert_look(seen: &Seen) {
    assert_ours(seen);
    assert_eq!(seen.line(), format!("GET /v1/payment_intents/{INTENT}"));
    assert_eq!(seen.query(), pairs([("expand[]", "latest_charge")]));
    assert_eq!(seen.header("idempotency-key"), None);
}
