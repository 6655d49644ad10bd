//! What operators cannot mean. Shows that cannot be made are in the tests of operators.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::{Cases, Target};
use crate::harness::run;

const NO_COMMANDS: [&str; 10] = [
    "{}",
    "[]",
    r#"{"command":"explode"}"#,
    r#"{"command":"OPEN"}"#,
    r#"{"command":null}"#,
    r#"{"command":7}"#,
    r#"{"command":"pause","reason":7}"#,
    r#"{"command":"pause","reason":""}"#,
    r#"{"command":"pause","reason":"a\u0000b"}"#,
    r#"{"command":"pause","because":"x"}"#,
];

const NO_KEYS: [&str; 5] = [
    r#"{"name":"x"}"#,
    r#"{"role":"viewer"}"#,
    r#"{"name":"","role":"viewer"}"#,
    r#"{"name":"a\u0000b","role":"viewer"}"#,
    r#"{"name":"x","role":"emperor"}"#,
];

const NO_WEBHOOKS: [&str; 14] = [
    "{}",
    r#"{"url":"https://example.com"}"#,
    r#"{"event_types":["*"]}"#,
    r#"{"url":7,"event_types":["*"]}"#,
    r#"{"url":"https://example.com","event_types":"*"}"#,
    r#"{"url":"https://example.com","event_types":[]}"#,
    r#"{"url":"https://example.com","event_types":["request.met"]}"#,
    r#"{"url":"https://example.com","event_types":["*","request.held"]}"#,
    r#"{"url":"https://example.com","event_types":["*"],"secret":"mine"}"#,
    r#"{"url":"https://example.com","event_types":["*"],"show_id":"7"}"#,
    r#"{"url":"http://example.com","event_types":["*"]}"#,
    r#"{"url":"https://ada:secret@example.com","event_types":["*"]}"#,
    r#"{"url":"https://169.254.169.254/latest","event_types":["*"]}"#,
    r#"{"url":"a\u0000b","event_types":["*"]}"#,
];

#[test]
fn an_operators_body_that_cannot_be_meant_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let sale = format!("/shows/{}/sale", target.show);
        let post = |path: &str, body: &str| {
            let post = target.api.operator_request(Method::POST, path);
            post.header("Content-Type", "application/json")
                .body(body.to_owned())
        };
        let mut cases = Cases::default();
        for path in ["/shows", "/api-keys", "/webhooks", &sale] {
            for body in ["", "{", "nonsense"] {
                cases.add(
                    400,
                    "invalid-json",
                    format!("{path} {body}"),
                    post(path, body),
                );
            }
        }
        let long_reason = json!({"command": "pause", "reason": "x".repeat(501)}).to_string();
        let commands = NO_COMMANDS.into_iter().chain([&long_reason[..]]);
        let bodies = commands.map(|body| (&sale[..], body));
        let bodies = bodies.chain(NO_KEYS.map(|body| ("/api-keys", body)));
        let bodies = bodies.chain(NO_WEBHOOKS.map(|body| ("/webhooks", body)));
        for (path, body) in bodies.chain(["{}", "[]", "null"].map(|body| ("/shows", body))) {
            cases.add(
                422,
                "invalid-body",
                format!("{path} {body}"),
                post(path, body),
            );
        }
        let absent = format!("/shows/{}/sale", Uuid::now_v7());
        let open = post(&absent, r#"{"command":"open"}"#);
        cases.add(404, "not-found", "no such show", open);
        let absent = format!("/api-keys/{}", Uuid::now_v7());
        let revoke = target.api.operator_request(Method::DELETE, &absent);
        cases.add(404, "not-found", "no such key", revoke);
        let webhook = format!("/webhooks/{}", Uuid::now_v7());
        for (method, what) in [
            (Method::DELETE, ""),
            (Method::POST, "/enable"),
            (Method::POST, "/rotate-secret"),
            (Method::GET, "/deliveries"),
            (Method::POST, "/deliveries/7/redeliver"),
        ] {
            let path = format!("{webhook}{what}");
            let absent = target.api.operator_request(method, &path);
            cases.add(404, "not-found", path, absent);
        }
        target.refuses(cases).await;
    });
}

#[test]
fn what_is_wrong_with_a_webhook_is_said_with_a_pointer() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let body = json!({
            "url": "http://localhost/",
            "event_types": ["request.held", "request.met", "request.held"],
            "show_id": Uuid::now_v7(),
        });
        let refused = target.api.operate(Method::POST, "/webhooks", Some(&body));
        let refused = refused.await.expect(422);
        let errors = refused["errors"].as_array().unwrap();
        let pointers: Vec<&str> = errors
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        let expected = ["/url", "/event_types/1", "/event_types/2", "/show_id"];
        assert_eq!(pointers, expected);
    });
}
