//! URLs, parameters and methods that there are not.

use reqwest::Method;
use uuid::Uuid;

use super::{Cases, Target, good};
use crate::harness::{run, send};

const NO_IDS: [&str; 9] = [
    "x",
    "1",
    "-",
    "%00",
    "%ff%fe",
    "%2e%2e",
    "%F0%9F%8E%9F",
    "a%2Fb",
    "null",
];

const NO_URLS: [&str; 13] = [
    "/",
    "/v1",
    "/v1/",
    "/v1/shows/",
    "//v1/shows",
    "/v2/shows",
    "/v1/operator",
    "/v1/operator/nothing",
    "/v1/buyers/ada",
    "/.env",
    "/docs/../secret",
    "/livez/x",
    "/%00",
];

#[test]
fn a_url_that_names_nothing_is_not_found() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let (ada, absent) = (target.api.buyer("ada"), Uuid::now_v7().to_string());
        let (show, requests) = (&target.show, target.requests_path());
        let mut cases = Cases::default();
        for id in NO_IDS.into_iter().chain([&absent[..8], &absent]) {
            for (method, path) in [
                (Method::GET, format!("/v1/shows/{id}")),
                (Method::GET, format!("/v1/shows/{id}/availability")),
                (Method::GET, format!("/v1/shows/{id}/seats")),
                (Method::GET, format!("/v1/shows/{id}/queue")),
                (Method::GET, format!("/v1/shows/{id}/requests")),
                (Method::GET, format!("/v1/shows/{id}/requests/{absent}")),
                (Method::GET, format!("{requests}/{id}")),
                (Method::GET, format!("{requests}/{id}?wait=1")),
                (Method::DELETE, format!("{requests}/{id}")),
                (Method::GET, format!("/v1/shows/{show}/payments/{id}")),
                (Method::GET, format!("/v1/shows/{show}/bookings/{id}")),
                (Method::DELETE, format!("/v1/shows/{show}/holds/{id}")),
            ] {
                let request = ada.request(method.clone(), &path);
                cases.add(404, "not-found", format!("{method} {path}"), request);
            }
            let payment = ada.payment(show, id, "key-0001", None);
            cases.add(404, "not-found", format!("paying for {id}"), payment);
            let submission = ada.submission(id, "key-0001", &good());
            cases.add(404, "not-found", format!("submitting to {id}"), submission);
        }
        for path in NO_URLS {
            cases.add(
                404,
                "not-found",
                path,
                target.api.request(Method::GET, path),
            );
        }
        for section in ["Z", "%00", "FLOOR", "", "%ff"] {
            let path = format!("/v1/shows/{show}/seats?section={section}");
            let request = target.api.request(Method::GET, &path);
            cases.add(404, "not-found", path, request);
        }
        target.refuses(cases).await;
    });
}

#[test]
fn a_parameter_that_cannot_be_meant_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let ada = target.api.buyer("ada");
        let accepted = ada.submit(&target.show, &good()).await.expect(202);
        let request = format!(
            "{}/{}",
            target.requests_path(),
            accepted["id"].as_str().unwrap()
        );
        let seats = format!("/v1/shows/{}/seats", target.show);
        let huge = "99999999999999999999";
        let mut cases = Cases::default();
        for (path, name, values) in [
            (
                "/v1/shows",
                "limit",
                &["0", "-1", "101", "x", "", "1&limit=2", huge][..],
            ),
            ("/v1/shows", "before", &["x", "", "%00", "1"]),
            (&seats, "since", &["x", "", "1.5", "%ff", huge]),
            (&request, "wait", &["x", "-1", "%00", huge]),
        ] {
            for value in values {
                let path = format!("{path}?{name}={value}");
                let request = ada.request(Method::GET, &path);
                cases.add(400, "invalid-parameter", path, request);
            }
        }
        target.refuses(cases).await;
    });
}

#[test]
fn a_method_that_a_resource_lacks_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let (show, requests, nil) = (&target.show, target.requests_path(), Uuid::nil());
        let mut cases = Cases::default();
        for (methods, path) in [
            (&["POST", "DELETE", "PUT"][..], "/v1/shows".to_owned()),
            (&["DELETE", "PATCH"], format!("/v1/shows/{show}")),
            (&["POST"], format!("/v1/shows/{show}/queue")),
            (&["PUT", "DELETE", "PATCH"], requests.clone()),
            (&["PUT", "POST"], format!("{requests}/{nil}")),
            (&["GET"], format!("/v1/shows/{show}/holds/{nil}/payments")),
            (&["GET"], "/v1/buyers".to_owned()),
            (&["GET"], format!("/v1/operator/shows/{show}/sale")),
            (&["POST", "TRACE", "OPTIONS", "BREW"], "/livez".to_owned()),
        ] {
            for method in methods {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let request = target
                    .api
                    .buyer("ada")
                    .request(method.clone(), &path)
                    .json(&good());
                cases.add(
                    405,
                    "method-not-allowed",
                    format!("{method} {path}"),
                    request,
                );
            }
        }
        let refused = send(target.api.request(Method::DELETE, "/livez")).await;
        assert_eq!(refused.header("allow"), Some("GET,HEAD"));
        target.refuses(cases).await;
    });
}
