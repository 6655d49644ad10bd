//! Submissions that cannot be meant.

use serde_json::json;

use super::{Cases, Target, good};
use crate::{
    harness::{run, seated, send, show},
    wishes::{body, places},
};

const NOT_JSON: [&str; 11] = [
    "",
    "{",
    "nonsense",
    "wishes=1",
    r#"{"wishes":[]} trailing"#,
    r#"{"wishes":[],}"#,
    r#"{'wishes':[]}"#,
    "{\"wishes\": \"\u{0}\"}",
    r#"{"wishes": "\ud800"}"#,
    "\u{feff}{}",
    r#"{"wishes":[{"kind":"seats","quantity":1e999}]}"#,
];

const NO_SUBMISSION: [&str; 16] = [
    "null",
    "[]",
    "7",
    r#""wishes""#,
    "{}",
    r#"{"wishes":null}"#,
    r#"{"wishes":{}}"#,
    r#"{"wishes":"all"}"#,
    r#"{"wishes":[]}"#,
    r#"{"wishes":[null]}"#,
    r#"{"wishes":[[]]}"#,
    r#"{"wishes":[{}]}"#,
    r#"{"wishes":[{"kind":"seats","seats":["A-1-1"]}],"wishes":[]}"#,
    r#"{"wishes":[{"kind":"seats","seats":["A-1-1"],"price":0}]}"#,
    r#"{"wishes":[{"kind":"seats","seats":["A-1-1"]}],"buyer_id":"eve"}"#,
    r#"{"wishes":[{"kind":"seats","seats":["A-1-1"]}],"":""}"#,
];

/// What stands in the place of a wish.
const NO_WISH: [&str; 19] = [
    r#""kind":"standing""#,
    r#""kind":7"#,
    r#""kind":"Seats","seats":["A-1-1"]"#,
    r#""kind":"seats""#,
    r#""kind":"seats","section":"A","quantity":1"#,
    r#""kind":"best_available","quantity":1"#,
    r#""kind":"best_available","section":"A""#,
    r#""kind":"best_available","section":"Z","quantity":1"#,
    r#""kind":"best_available","section":7,"quantity":1"#,
    r#""kind":"best_available","section":"FLOOR","quantity":1"#,
    r#""kind":"best_available","section":"A","quantity":1,"seats":["A-1-1"]"#,
    r#""kind":"best_available","section":"A","quantity":1,"adjacent":"maybe""#,
    r#""kind":"best_available","section":"A","quantity":1,"adjacent":true"#,
    r#""kind":"general_admission","quantity":1"#,
    r#""kind":"general_admission","section":"FLOOR""#,
    r#""kind":"general_admission","section":"A","quantity":1"#,
    r#""kind":"general_admission","section":"floor","quantity":1"#,
    r#""kind":"general_admission","section":"FL\u0000OOR","quantity":1"#,
    r#""kind":"general_admission","section":"FLOOR","quantity":1,"adjacent":"required""#,
];

/// What stands in the place of the seats.
const NO_SEATS: [&str; 16] = [
    "null",
    "[]",
    r#""A-1-1""#,
    "[1]",
    "[null]",
    r#"[["A-1-1"]]"#,
    r#"[""]"#,
    r#"["A-9-9"]"#,
    r#"["Z-1-1"]"#,
    r#"["a-1-1"]"#,
    r#"["A-1-1 "]"#,
    r#"["A-1-1\u0000"]"#,
    r#"["A\u0301-1-1"]"#,
    "[\"\u{410}-1-1\"]",
    "[\"\u{1f39f}\u{202e}\"]",
    r#"["'; drop table seats; --"]"#,
];

/// What stands in the place of the quantity.
const NO_QUANTITY: [&str; 11] = [
    "null",
    "0",
    "-1",
    "9",
    "1.5",
    r#""1""#,
    "true",
    "[1]",
    "4294967297",
    "9223372036854775808",
    "-9223372036854775809",
];

/// What stands beside the wishes.
const NO_MEANING: [&str; 10] = [
    r#""max_total":4000"#,
    r#""max_total":{"amount":4000}"#,
    r#""max_total":{"amount":-1,"currency":"EUR"}"#,
    r#""max_total":{"amount":40.5,"currency":"EUR"}"#,
    r#""max_total":{"amount":4000,"currency":"USD"}"#,
    r#""max_total":{"amount":4000,"currency":"EUR\u0000"}"#,
    r#""max_total":{"amount":4000,"currency":"EUR","vat":0}"#,
    r#""max_total":{"amount":99999999999999999999,"currency":"EUR"}"#,
    r#""standby":true"#,
    r#""standby":1"#,
];

#[test]
fn a_body_that_is_not_json_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let mut cases = Cases::default();
        for body in NOT_JSON {
            let submission = target.submission().body(body);
            cases.add(400, "invalid-json", body, submission);
        }
        let deep = format!(r#"{{"wishes":{}"#, "[".repeat(5_000));
        let submission = target.submission().body(deep);
        cases.add(400, "invalid-json", "deep", submission);
        let not_utf8 = b"{\"wishes\": \"\xff\xfe\"}".to_vec();
        let submission = target.submission().body(not_utf8);
        cases.add(400, "invalid-json", "not UTF-8", submission);
        let large = format!(r#"{{"wishes":[],"x":"{}"}}"#, "x".repeat(16 * 1024));
        let submission = target.submission().body(large);
        cases.add(413, "body-too-large", "large", submission);
        target.refuses(cases).await;
    });
}

#[test]
fn a_body_that_cannot_be_meant_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let mut bodies: Vec<String> = NO_SUBMISSION.map(str::to_owned).into();
        bodies.extend(NO_WISH.map(|wish| format!(r#"{{"wishes":[{{{wish}}}]}}"#)));
        let wish = r#"{"wishes":[{"kind":"#;
        bodies.extend(NO_SEATS.map(|seats| format!(r#"{wish}"seats","seats":{seats}}}]}}"#)));
        for kind in [
            r#""best_available","section":"A""#,
            r#""general_admission","section":"FLOOR""#,
        ] {
            let with = |quantity| format!(r#"{wish}{kind},"quantity":{quantity}}}]}}"#);
            bodies.extend(NO_QUANTITY.map(with));
        }
        bodies.extend(NO_MEANING.map(|rest| format!(r#"{{{rest},{}"#, &good().to_string()[1..])));
        let twice = ["A-1-1", "A-1-1"];
        let nine: Vec<String> = (1..=9).map(|seat| format!("A-1-{seat}")).collect();
        let long = ["A".repeat(9_000)];
        for seats in [json!(twice), json!(nine), json!(long)] {
            bodies.push(body(&[json!({"kind": "seats", "seats": seats})]).to_string());
        }
        bodies.push(body(&vec![places("FLOOR", 1); 11]).to_string());

        let mut cases = Cases::default();
        for body in bodies {
            let shown: String = body.chars().take(120).collect();
            cases.add(422, "invalid-body", shown, target.submission().body(body));
        }
        target.refuses(cases).await;
    });
}

#[test]
fn what_is_of_another_show_or_another_request_is_refused() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let (api, show_id) = (&target.api, &target.show);
        let other_show = api.open_show(&show([seated("Z", 1, 1)])).await;
        let ada = api.buyer("ada");
        ada.submit_with_key(show_id, "used-key", &good())
            .await
            .expect(202);

        let mut cases = Cases::default();
        let other_wishes = body(&[places("FLOOR", 2)]);
        let reused = ada.submission(show_id, "used-key", &other_wishes);
        cases.add(
            422,
            "idempotency-key-reused",
            "a key with other wishes",
            reused,
        );
        let foreign = ada.submission(&other_show, "key-0001", &good());
        cases.add(422, "invalid-body", "a section of another show", foreign);
        let foreign = body(&[json!({"kind": "seats", "seats": ["Z-1-1"]})]);
        let foreign = ada.submission(show_id, "key-0001", &foreign);
        cases.add(422, "invalid-body", "a seat of another show", foreign);
        target.refuses(cases).await;
    });
}

#[test]
fn the_pointer_says_what_is_wrong_with_a_body() {
    run(async |arena| {
        let target = Target::new(arena).await;
        let two_wishes = json!([
            {"kind": "best_available", "section": "A", "quantity": 0},
            {"kind": "seats", "seats": ["A-1-1", "no", "A-1-2", "none"]},
        ]);
        let twice = json!([{"kind": "seats", "seats": ["A-1-1", "A-1-1"]}]);
        let number = json!([{"kind": "seats", "seats": ["A-1-1", 7]}]);
        for (wishes, pointers) in [
            (number, vec!["/wishes/0/seats/1"]),
            (twice, vec!["/wishes/0/seats/1"]),
            (
                two_wishes,
                vec![
                    "/wishes/0/quantity",
                    "/wishes/1/seats/1",
                    "/wishes/1/seats/3",
                ],
            ),
        ] {
            let submission = target
                .submission()
                .body(json!({ "wishes": wishes }).to_string());
            let problem = send(submission).await.expect(422);
            let errors = problem["errors"].as_array().unwrap().iter();
            let found: Vec<_> = errors.map(|it| it["pointer"].as_str().unwrap()).collect();
            assert_eq!(found, pointers, "{problem}");
        }
    });
}

#[test]
fn a_strange_but_proper_name_is_just_a_name() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let mut hall = show([seated("Балкон 🎟", 1, 2)]);
        hall["name"] = json!("Ünïcödé \"quoted\" <b>'; drop table shows; --");
        let show = api.open_show(&hall).await;
        let shown = api.get(&format!("/v1/shows/{show}")).await.expect(200);
        assert_eq!(shown["name"], hall["name"]);
        for name in [
            "Ада 🎟",
            "'; drop table holds; --",
            "a b",
            "\"",
            "\u{202e}ada",
            "ada ",
        ] {
            let buyer = api.buyer(name);
            let wish = json!({"kind": "seats", "seats": ["Балкон 🎟-1-1"]});
            let held = buyer.ask(&show, json!([wish])).await;
            assert_eq!(held["state"], "held", "{name}: {held}");
            buyer
                .cancel(&show, held["id"].as_str().unwrap())
                .await
                .expect(200);
        }
        let requests = format!("/v1/shows/{show}/requests");
        let list = api.buyer("ada").request(reqwest::Method::GET, &requests);
        assert_eq!(send(list).await.expect(200)["requests"], json!([]));
    });
}
