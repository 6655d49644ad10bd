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
        for path in ["/shows", "/api-keys", &sale] {
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
        target.refuses(cases).await;
    });
}
