//! Credentials that prove nothing.

use chrono::Utc;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};

use super::{Cases, Target};
use crate::harness::{BUYER_SECRET, run};

/// `{"alg":"none","typ":"JWT"}` and `{"sub":"ada","exp":4102444800}`
const NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
const CLAIMS: &str = "eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9";

fn sign(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn good_claims() -> Value {
    json!({"sub": "ada", "exp": Utc::now().timestamp() + 3_600})
}

fn good_token() -> String {
    sign(Algorithm::HS256, BUYER_SECRET, &good_claims())
}

#[test]
fn claims_that_do_not_suffice_are_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let (now, later) = (Utc::now().timestamp(), Utc::now().timestamp() + 3_600);
        let mut cases = Cases::default();
        for (what, claims) in [
            ("expired", json!({"sub": "ada", "exp": now - 3_600})),
            ("no exp", json!({"sub": "ada"})),
            ("exp as text", json!({"sub": "ada", "exp": "tomorrow"})),
            ("exp below zero", json!({"sub": "ada", "exp": -1})),
            ("exp null", json!({"sub": "ada", "exp": null})),
            (
                "not valid yet",
                json!({"sub": "ada", "exp": later, "nbf": later}),
            ),
            ("no sub", json!({"exp": later})),
            ("sub null", json!({"sub": null, "exp": later})),
            ("sub empty", json!({"sub": "", "exp": later})),
            ("sub a number", json!({"sub": 7, "exp": later})),
            ("sub with NUL", json!({"sub": "a\u{0}da", "exp": later})),
            (
                "sub with a line break",
                json!({"sub": "ada\r\nX: y", "exp": later}),
            ),
            (
                "sub too long",
                json!({"sub": "a".repeat(201), "exp": later}),
            ),
            ("a list", json!(["ada"])),
            (
                "large and without sub",
                json!({"exp": later, "x": "x".repeat(8_000)}),
            ),
        ] {
            let token = sign(Algorithm::HS256, BUYER_SECRET, &claims);
            let request = target.without_token().bearer_auth(token);
            cases.add(401, "unauthorized", what, request);
        }
        target.refuses(cases).await;
    });
}

#[test]
fn a_token_that_nobody_signed_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let (good_claims, good_token) = (good_claims(), good_token());
        let (signed, signature) = good_token.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let other_secret = "another secret, which is long enough";
        let mut cases = Cases::default();
        cases.add(401, "unauthorized", "no token", target.without_token());
        for token in [
            String::new(),
            "garbage".to_owned(),
            "..".to_owned(),
            "a!.b!.c!".to_owned(),
            "sk_0123456789012345678901234567890123456789012".to_owned(),
            format!("{NONE}.{CLAIMS}."),
            format!("{NONE}.{CLAIMS}"),
            format!("{NONE}.{CLAIMS}.{signature}"),
            format!("{header}.{CLAIMS}.{signature}"),
            format!("{signed}."),
            signed.to_owned(),
            format!("{good_token} {good_token}"),
            format!("{good_token}."),
            sign(Algorithm::HS256, other_secret, &good_claims),
            sign(Algorithm::HS256, "", &good_claims),
            sign(Algorithm::HS512, BUYER_SECRET, &good_claims),
        ] {
            let request = target.without_token().bearer_auth(&token);
            cases.add(401, "unauthorized", token, request);
        }
        let values: [&[u8]; 6] = [
            b"",
            b"Bearer",
            b"Basic YWRhOmFkYQ==",
            b"Bearer\xff\xfe",
            b"Token x",
            b"\xff",
        ];
        for value in values {
            let authorization = HeaderValue::from_bytes(value).unwrap();
            let request = target
                .without_token()
                .header("Authorization", authorization);
            cases.add(401, "unauthorized", format!("{value:?}"), request);
        }
        let huge = target.without_token().bearer_auth("x".repeat(20_000));
        cases.add(431, "headers-too-large", "huge", huge);
        target.refuses(cases).await;
    });
}

#[test]
fn an_operators_key_that_nobody_gave_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let (buyer, long) = (good_token(), format!("sk_{}", "x".repeat(8_000)));
        let mut cases = Cases::default();
        for path in ["/v1/operator/shows", "/v1/operator/api-keys"] {
            let request = target.api.request(Method::GET, path);
            cases.add(401, "unauthorized", path, request);
            for key in [
                "",
                "sk_",
                "sk_nobody_has_this_key",
                "nonsense",
                &buyer,
                &long,
            ] {
                let request = target.api.request(Method::GET, path).bearer_auth(key);
                cases.add(401, "unauthorized", format!("{path} with {key}"), request);
            }
        }
        target.refuses(cases).await;
    });
}
