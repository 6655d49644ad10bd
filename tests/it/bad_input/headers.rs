//! Headers that cannot be meant.

use reqwest::{Method, header::HeaderValue};

use super::{Cases, Target, good};
use crate::harness::{run, send};

#[test]
fn an_idempotency_key_that_is_none_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let mut cases = Cases::default();
        cases.add(
            400,
            "idempotency-key-missing",
            "no key",
            target.without_key(),
        );
        let too_long = "k".repeat(256);
        let keys: [&[u8]; 8] = [
            b"",
            b"1234567",
            too_long.as_bytes(),
            b"with a space",
            b"with\ta-tab",
            "schl\u{fc}ssel-0001".as_bytes(),
            b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8",
            "\u{1f39f}\u{1f39f}\u{1f39f}".as_bytes(),
        ];
        for key in keys {
            let value = HeaderValue::from_bytes(key).unwrap();
            let request = target.without_key().header("Idempotency-Key", value);
            cases.add(
                400,
                "idempotency-key-invalid",
                format!("the key {key:?}"),
                request,
            );
        }
        let two = target
            .without_key()
            .header("Idempotency-Key", "key-0001")
            .header("Idempotency-Key", "key-0002");
        cases.add(400, "idempotency-key-invalid", "two keys", two);
        target.refuses(cases).await;
    });
}

#[test]
fn a_body_of_another_type_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let mut cases = Cases::default();
        let untyped = || {
            let requests = target.requests_path();
            let post = target.api.buyer("ada").request(Method::POST, &requests);
            post.header("Idempotency-Key", "key-0001")
                .body(good().to_string())
        };
        cases.add(415, "unsupported-media-type", "no type", untyped());
        for media_type in [
            "",
            "json",
            "text/plain",
            "application/x-www-form-urlencoded",
        ] {
            let request = untyped().header("Content-Type", media_type);
            cases.add(415, "unsupported-media-type", media_type, request);
        }
        target.refuses(cases).await;
    });
}

#[test]
fn a_huge_header_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let mut cases = Cases::default();
        let huge = "x".repeat(20_000);
        for name in [
            "X-Custom",
            "Cookie",
            "Prefer",
            "If-None-Match",
            "Idempotency-Key",
        ] {
            let request = target
                .submission()
                .header(name, &huge)
                .body(good().to_string());
            cases.add(431, "headers-too-large", name, request);
        }
        let path = format!("/v1/shows?{huge}");
        let request = target.api.request(Method::GET, &path);
        cases.add(431, "headers-too-large", "the URL", request);
        target.refuses(cases).await;
    });
}

#[test]
fn a_preference_or_a_tag_that_cannot_be_read_is_none() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let ada = target.api.buyer("ada");
        let accepted = ada.submit(&target.show, &good()).await.expect(202);
        let path = format!(
            "{}/{}",
            target.requests_path(),
            accepted["id"].as_str().unwrap()
        );
        let garbage: [(&str, &[u8]); 12] = [
            ("Prefer", b""),
            ("Prefer", b"wait"),
            ("Prefer", b"wait="),
            ("Prefer", b"wait=soon"),
            ("Prefer", b"wait=-1"),
            ("Prefer", b"wait=1.5"),
            ("Prefer", b"wait=99999999999999999999999"),
            ("Prefer", b";;;,,,===\xff"),
            ("If-None-Match", b""),
            ("If-None-Match", b"\"\"\"\",,W/W/\""),
            ("If-None-Match", b"\xff\xfe"),
            ("X-Forwarded-For", b"\xff, nonsense, 999.1.1.1"),
        ];
        for (name, value) in garbage {
            let value = HeaderValue::from_bytes(value).unwrap();
            let found = send(ada.request(Method::GET, &path).header(name, value)).await;
            assert_eq!(found.expect(200)["state"], "queued", "{name}");
        }
    });
}
