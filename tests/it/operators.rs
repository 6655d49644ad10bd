//! Operators: who may do what, how shows are made, and which words make sense to a sale.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Api, Arena, eventually, floor, run, seated, send, show},
    wishes::id,
};

/// Longer than a revoked key may live on.
const REVOKED_WITHIN: Duration = Duration::from_secs(15);

/// A new key; its id and the key itself.
async fn make_key(api: &Api, role: &str) -> (String, String) {
    let body = json!({"name": format!("the {role}"), "role": role});
    let made = api.operate(Method::POST, "/api-keys", Some(&body)).await;
    assert_eq!(made.header("cache-control"), Some("private, no-store"));
    let made = made.expect(201);
    (
        id(&made).to_owned(),
        made["key"].as_str().unwrap().to_owned(),
    )
}

/// The same process as the holder of that key sees it.
fn with_key(api: &Api, key: &str) -> Api {
    Api::new(&api.url, key)
}

fn problem(answer: Answer, status: u16) -> Value {
    answer.expect(status)["code"].clone()
}

#[test]
fn each_role_may_do_what_it_is_for() {
    run(async |arena| {
        let (_process, admin) = arena.api(&[]).await;
        let (_, viewer) = make_key(&admin, "viewer").await;
        let (_, operator) = make_key(&admin, "operator").await;
        let (viewer, operator) = (with_key(&admin, &viewer), with_key(&admin, &operator));
        let hall = show([floor("FLOOR", 1)]);
        let key = json!({"name": "one more", "role": "admin"});

        for api in [&viewer, &operator, &admin] {
            api.operate(Method::GET, "/shows", None).await.expect(200);
        }
        let created = operator.create_show(&hall).await;
        operator.sale(&created, "open").await.expect(200);

        let before: i64 = count(arena, "select count(*) from shows").await;
        assert_eq!(
            problem(
                viewer.operate(Method::POST, "/shows", Some(&hall)).await,
                403
            ),
            "forbidden"
        );
        assert_eq!(
            problem(viewer.sale(&created, "close").await, 403),
            "forbidden"
        );
        for api in [&viewer, &operator] {
            for (method, path) in [
                (Method::GET, "/api-keys".to_owned()),
                (Method::POST, "/api-keys".to_owned()),
                (Method::GET, "/webhooks".to_owned()),
                (Method::POST, "/webhooks".to_owned()),
                (Method::DELETE, format!("/api-keys/{}", uuid::Uuid::nil())),
            ] {
                assert_eq!(
                    problem(api.operate(method, &path, Some(&key)).await, 403),
                    "forbidden"
                );
            }
        }
        assert_eq!(count(arena, "select count(*) from shows").await, before);
        assert_eq!(count(arena, "select count(*) from api_keys").await, 3);
        let sale = "select count(*) from show_intake where sale_state = 'open'";
        assert_eq!(count(arena, sale).await, 1);
    });
}

async fn count(arena: &Arena, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(&arena.pool)
        .await
        .unwrap()
}

#[test]
fn buyers_are_no_operators_and_operators_no_buyers() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 1)])).await;
        let (_, key) = make_key(&api, "admin").await;
        let list = api.request(Method::GET, "/v1/operator/shows");
        let refused = send(list.bearer_auth(api.buyer("ada").token)).await;
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(problem(refused, 401), "unauthorized");
        let requests = api.request(Method::GET, &format!("/v1/shows/{show}/requests"));
        let refused = send(requests.bearer_auth(key)).await;
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(problem(refused, 401), "unauthorized");
    });
}

#[test]
fn a_key_is_shown_once_and_kept_as_a_hash() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let (key_id, key) = make_key(&api, "viewer").await;
        assert!(key.starts_with("sk_") && key.len() > 40, "{key}");
        let list = api
            .operate(Method::GET, "/api-keys", None)
            .await
            .expect(200);
        assert!(!list.to_string().contains(&key));
        let listed = list["api_keys"].as_array().unwrap();
        let found = listed.iter().find(|it| id(it) == key_id).unwrap();
        assert_eq!(
            (&found["name"], &found["role"]),
            (&json!("the viewer"), &json!("viewer"))
        );
        assert!(found["revoked_at"].is_null());
        let rows: Vec<String> = sqlx::query_scalar("select k::text from api_keys k")
            .fetch_all(&arena.pool)
            .await
            .unwrap();
        assert!(rows.iter().all(|row| !row.contains(&key)));
    });
}

#[test]
fn a_revoked_key_is_refused() {
    run(async |arena| {
        let (_one, api) = arena.api(&[]).await;
        let (_other, replica) = arena.api(&[]).await;
        let (key_id, key) = make_key(&api, "operator").await;
        let known = with_key(&api, &key);
        known.operate(Method::GET, "/shows", None).await.expect(200);
        for _ in 0..2 {
            let revoked = api
                .operate(Method::DELETE, &format!("/api-keys/{key_id}"), None)
                .await;
            assert_eq!(revoked.status, 204);
        }
        // Where it was not seen lately, at once; where it was, soon.
        let elsewhere = with_key(&replica, &key);
        let refused = elsewhere.operate(Method::GET, "/shows", None).await;
        assert_eq!(problem(refused, 401), "unauthorized");
        eventually(REVOKED_WITHIN, async || {
            known.operate(Method::GET, "/shows", None).await.status == 401
        })
        .await;
        let list = api
            .operate(Method::GET, "/api-keys", None)
            .await
            .expect(200);
        let revoked = list["api_keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| id(it) == key_id);
        assert!(revoked.unwrap()["revoked_at"].is_string(), "{list}");
    });
}

#[test]
fn a_show_is_shown_as_it_was_made() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let mut hall = show([floor("FLOOR", 600)]);
        hall["opens_at"] = json!("2060-01-01T10:00:00Z");
        hall["closes_at"] = json!("2060-01-02T10:00:00Z");
        hall["sections"].as_array_mut().unwrap().push(json!({
            "name": "A", "kind": "seated", "price": {"amount": 8_500, "currency": "EUR"},
            "rows": [
                {"seats": [{"label": "A-1", "x": 1.5, "y": 2.25}, null, {"label": "A-2"}]},
                {"seats": [{"label": "A-3", "rank": 0}]},
            ],
        }));
        let created = api.operate(Method::POST, "/shows", Some(&hall)).await;
        let location = created.header("location").unwrap().to_owned();
        let created = created.expect(201);
        assert_eq!(location, format!("/v1/shows/{}", id(&created)));
        let shown = api.get(&location).await.expect(200);
        for name in [
            "name",
            "currency",
            "buyer_limit",
            "hold_seconds",
            "opens_at",
            "closes_at",
        ] {
            assert_eq!(shown[name], hall[name], "{name}");
        }
        assert_eq!(shown["sale"], json!({"state": "scheduled", "reason": null}));
        assert!(shown["server_time"].is_string());
        let sections = json!([
            {"name": "FLOOR", "kind": "general_admission", "capacity": 600,
             "price": {"amount": 3_000, "currency": "EUR"},
             "fee": {"amount": 0, "currency": "EUR"}, "categories": []},
            {"name": "A", "kind": "seated", "capacity": 3,
             "price": {"amount": 8_500, "currency": "EUR"},
             "fee": {"amount": 0, "currency": "EUR"}, "categories": []},
        ]);
        assert_eq!(shown["sections"], sections);
        let seats = api.get(&format!("{location}/seats")).await.expect(200);
        let labels: Vec<_> = seats["seats"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["label"])
            .collect();
        assert_eq!(labels, ["A-1", "A-2", "A-3"]);
        assert_eq!(
            (&seats["seats"][0]["x"], &seats["seats"][0]["y"]),
            (&json!(1.5), &json!(2.25))
        );
    });
}

#[test]
fn shows_are_listed_page_by_page() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.insert(0, api.create_show(&show([floor("FLOOR", 1)])).await);
        }
        let mut listed = Vec::new();
        let mut next = json!("/v1/shows?limit=2");
        while let Some(path) = next.as_str() {
            let page = api.get(path).await.expect(200);
            let shows = page["shows"].as_array().unwrap().iter();
            listed.extend(shows.map(|it| id(it).to_owned()));
            next = page["next"].clone();
        }
        assert_eq!(listed, made);
    });
}

#[test]
fn a_show_that_cannot_be_is_refused_with_pointers() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let price = "/sections/0/price";
        for (place, value, pointer) in [
            ("/name", json!(""), "/name"),
            ("/name", json!("a\u{0}b"), "/name"),
            ("/name", json!(7), "/name"),
            ("/name", json!("x".repeat(201)), "/name"),
            ("/currency", json!("euro"), "/currency"),
            ("/buyer_limit", json!(0), "/buyer_limit"),
            ("/buyer_limit", json!("8"), "/buyer_limit"),
            ("/hold_seconds", json!(0), "/hold_seconds"),
            ("/hold_seconds", json!(86_401), "/hold_seconds"),
            ("/queue_limit", json!(0), "/queue_limit"),
            ("/opens_at", json!("tomorrow"), "/opens_at"),
            ("/closes_at", json!("2059-12-31T00:00:00Z"), "/closes_at"),
            ("/closes_at", json!("0001-01-01T00:00:00Z"), "/closes_at"),
            ("/sections", json!([]), "/sections"),
            ("/sections/0/kind", json!("standing"), "/sections/0/kind"),
            ("/sections/0/name", json!(" "), "/sections/0/name"),
            ("/sections/1/name", json!("A"), "/sections/1/name"),
            (
                price,
                json!({"amount": -1, "currency": "EUR"}),
                "/sections/0/price/amount",
            ),
            (
                price,
                json!({"amount": 1, "currency": "USD"}),
                "/sections/0/price/currency",
            ),
            (price, json!(null), "/sections/0/price"),
            ("/sections/0/rows", json!([]), "/sections/0/rows"),
            (
                "/sections/0/rows/0/seats/1/label",
                json!("A-1-1"),
                "/sections/0/rows/0/seats/1/label",
            ),
            (
                "/sections/0/rows/0/seats/1/label",
                json!(""),
                "/sections/0/rows/0/seats/1/label",
            ),
            (
                "/sections/0/rows/0/seats/1",
                json!("A-1-2"),
                "/sections/0/rows/0/seats/1",
            ),
            (
                "/sections/0/rows/0/seats/1/x",
                json!("left"),
                "/sections/0/rows/0/seats/1/x",
            ),
            ("/sections/1/capacity", json!(0), "/sections/1/capacity"),
            ("/sections/1/capacity", json!(null), "/sections/1/capacity"),
            (
                "/sections/1/capacity",
                json!(1_000_001),
                "/sections/1/capacity",
            ),
        ] {
            let mut hall = show([seated("A", 1, 3), floor("FLOOR", 5)]);
            hall["opens_at"] = json!("2060-01-01T00:00:00Z");
            hall["closes_at"] = json!(null);
            *hall.pointer_mut(place).unwrap() = value.clone();
            let refused = api
                .operate(Method::POST, "/shows", Some(&hall))
                .await
                .expect(422);
            assert_eq!(refused["code"], "invalid-body");
            assert_eq!(
                refused["errors"][0]["pointer"], pointer,
                "{place} {value}: {refused}"
            );
        }
        let mut unknown = show([floor("FLOOR", 5)]);
        unknown["discount"] = json!(true);
        let refused = api
            .operate(Method::POST, "/shows", Some(&unknown))
            .await
            .expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "/discount", "{refused}");
        assert_eq!(count(arena, "select count(*) from shows").await, 0);
    });
}

#[test]
fn a_sale_obeys_the_words_that_make_sense() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let states = [
            // (the commands that lead there, what each command gives there)
            (&[][..], ["open", "refused", "refused", "closed"]),
            (&["open"], ["open", "paused", "open", "closed"]),
            (&["open", "pause"], ["refused", "paused", "open", "closed"]),
            (&["close"], ["refused", "refused", "refused", "closed"]),
        ];
        for (path, expected) in states {
            for (command, expected) in ["open", "pause", "resume", "close"]
                .into_iter()
                .zip(expected)
            {
                let show = api.create_show(&show([floor("FLOOR", 5)])).await;
                for before in path {
                    api.sale(&show, before).await.expect(200);
                }
                let answer = api.sale(&show, command).await;
                let shown = api.get(&format!("/v1/shows/{show}")).await.expect(200);
                if expected == "refused" {
                    assert_eq!(
                        problem(answer, 409),
                        "sale-command-refused",
                        "{path:?} {command}"
                    );
                } else {
                    let told = answer.expect(200);
                    assert_eq!(told["sale"]["state"], expected, "{path:?} {command}");
                    assert_eq!(shown["sale"], told["sale"]);
                }
            }
        }
    });
}
