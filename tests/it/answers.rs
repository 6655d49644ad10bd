//! Answers: a buyer is never told a wrong thing, and the right one as soon as it is true.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Api, Arena, Buyer, eventually, floor, run, seated, send, show},
    wishes::{best, body, hold_id, id, places, seats},
};

const LIMIT: Duration = Duration::from_secs(10);

fn one_place() -> Value {
    body(&[places("FLOOR", 1)])
}

/// Polls with these headers.
async fn poll_with(
    buyer: &Buyer,
    show: &str,
    request: &str,
    headers: &[(&'static str, &str)],
) -> Answer {
    let mut poll = buyer.request(Method::GET, &format!("/v1/shows/{show}/requests/{request}"));
    for (name, value) in headers {
        poll = poll.header(*name, *value);
    }
    send(poll).await
}

/// Waits until somebody waits in this process; it counts them every second.
async fn until_somebody_waits(api: &Api) {
    eventually(LIMIT, async || {
        let metrics = send_text(api, "/metrics").await;
        let waiters = metrics
            .lines()
            .find_map(|line| line.strip_prefix("stampede_waiters "));
        waiters.is_some_and(|count| count != "0")
    })
    .await;
}

async fn send_text(api: &Api, path: &str) -> String {
    api.request(Method::GET, path)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

fn retry_after(answer: &Answer) -> u64 {
    answer
        .header("retry-after")
        .expect("it says when to come back")
        .parse()
        .unwrap()
}

#[test]
fn a_poll_right_after_the_202_finds_the_request_at_every_replica() {
    run(async |arena| {
        let (_one, first) = arena.api(&[]).await;
        let (_other, second) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = first.open_show(&show([floor("FLOOR", 50)])).await;
        let polling = (0..100).map(async |no| {
            let name = format!("buyer-{no}");
            let (here, there) = (first.buyer(&name), second.buyer(&name));
            let accepted = here.submit(&show, &one_place()).await;
            let location = accepted.header("location").unwrap().to_owned();
            let accepted = accepted.expect(202);
            for buyer in [&here, &there] {
                let found = send(buyer.request(Method::GET, &location))
                    .await
                    .expect(200);
                assert_eq!(found["id"], accepted["id"]);
                assert_eq!(found["position"], accepted["position"]);
            }
        });
        join_all(polling).await;
    });
}

#[test]
fn a_long_poll_is_woken_by_its_turn() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 1)])).await;
        api.sale(&show, "pause").await.expect(200);
        let (ada, bob) = (api.buyer("ada"), api.buyer("bob"));
        let adas = ada.submit(&show, &one_place()).await.expect(202);
        let bobs = bob.submit(&show, &one_place()).await.expect(202);
        let resume = async {
            until_somebody_waits(&api).await;
            api.sale(&show, "resume").await.expect(200);
        };
        let started = Instant::now();
        let (adas, bobs) = (
            ada.poll(&show, id(&adas), 25),
            bob.poll(&show, id(&bobs), 25),
        );
        let (adas, bobs, ()) = tokio::join!(adas, bobs, resume);
        assert!(started.elapsed() < LIMIT);
        for (answer, state) in [(adas, "held"), (bobs, "rejected")] {
            assert_eq!(answer.header("preference-applied"), Some("wait=25"));
            assert_eq!(answer.header("cache-control"), Some("private, no-store"));
            assert_eq!(answer.expect(200)["state"], state);
        }
    });
}

#[test]
fn an_outcome_is_told_at_once() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&["--poll-interval-ms", "1000"]).await;
        let show = api.open_show(&show([floor("FLOOR", 100)])).await;
        let mut durations = Vec::new();
        for no in 0..15 {
            let buyer = api.buyer(&format!("buyer-{no}"));
            let accepted = buyer.submit(&show, &one_place()).await.expect(202);
            let started = Instant::now();
            let answer = buyer.poll(&show, id(&accepted), 20).await.expect(200);
            assert_eq!(answer["state"], "held");
            durations.push(started.elapsed());
        }
        // Without notifications, half of them would wait for a second.
        durations.sort();
        assert!(durations[7] < Duration::from_millis(250), "{durations:?}");
    });
}

#[test]
fn a_wait_without_news_ends_in_its_time() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 1)])).await;
        let ada = api.buyer("ada");
        let request = ada.submit(&show, &one_place()).await.expect(202);
        let started = Instant::now();
        let answer = ada.poll(&show, id(&request), 1).await;
        assert!(started.elapsed() >= Duration::from_secs(1));
        assert_eq!(answer.header("preference-applied"), Some("wait=1"));
        let tag = answer.header("etag").unwrap().to_owned();
        assert_eq!(answer.expect(200)["state"], "queued");

        let started = Instant::now();
        let path = format!("/v1/shows/{show}/requests/{}?wait=1", id(&request));
        let again = ada
            .request(Method::GET, &path)
            .header("If-None-Match", &tag);
        let again = send(again).await;
        assert_eq!(again.status, 304);
        assert!(started.elapsed() >= Duration::from_secs(1));
    });
}

#[test]
fn a_tag_lasts_as_long_as_the_state() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 1)])).await;
        let ada = api.buyer("ada");
        let request = ada.submit(&show, &one_place()).await.expect(202);
        let poll = async |tag: &str, wait: &str| {
            let headers = [("If-None-Match", tag), ("Prefer", wait)];
            poll_with(&ada, &show, id(&request), &headers).await
        };
        let queued = ada.poll(&show, id(&request), 0).await;
        let queued_tag = queued.header("etag").unwrap().to_owned();
        let unchanged = poll(&queued_tag, "").await;
        assert_eq!(
            (unchanged.status.as_u16(), &unchanged.body),
            (304, &Value::Null)
        );
        assert_eq!(unchanged.header("etag"), Some(&*queued_tag));
        assert!(unchanged.header("retry-after").is_some());
        for other in ["\"other\"", "W/\"held\", \"other\"", "nonsense"] {
            assert_eq!(poll(other, "").await.status, 200, "{other}");
        }

        // With a tag, a wait ends when the state is another one, also after the decision.
        let _worker = arena.worker(&[]).await;
        let held = poll(&queued_tag, "wait=20").await;
        let held_tag = held.header("etag").unwrap().to_owned();
        let held = held.expect(200);
        assert_eq!(held["state"], "held");
        assert_eq!(poll(&held_tag, "").await.status, 304);
        let confirming = async {
            until_somebody_waits(&api).await;
            ada.confirm(&show, hold_id(&held)).await.expect(200);
        };
        let started = Instant::now();
        let (confirmed, ()) = tokio::join!(poll(&held_tag, "wait=25"), confirming);
        assert_eq!(confirmed.header("retry-after"), None);
        assert_eq!(confirmed.expect(200)["state"], "confirmed");
        assert!(started.elapsed() < LIMIT);
    });
}

#[test]
fn what_all_may_see_has_tags_and_is_fit_for_a_cdn() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api
            .open_show(&show([seated("A", 1, 3), floor("FLOOR", 9)]))
            .await;
        let paths = ["", "/availability", "/seats", "/seats?section=A", "/queue"]
            .map(|path| format!("/v1/shows/{show}{path}"));
        let mut tags = Vec::new();
        for path in &paths {
            let answer = api.get(path).await;
            let cacheable = "public, max-age=1, stale-while-revalidate=5";
            assert_eq!(answer.header("cache-control"), Some(cacheable), "{path}");
            tags.push(answer.header("etag").unwrap().to_owned());
            answer.expect(200);
        }
        let if_none_match = async |path: &str, tag: &str| {
            send(api.request(Method::GET, path).header("If-None-Match", tag)).await
        };
        for (path, tag) in paths.iter().zip(&tags) {
            let unchanged = if_none_match(path, tag).await;
            assert_eq!(
                (unchanged.status.as_u16(), &unchanged.body),
                (304, &Value::Null),
                "{path}"
            );
        }
        api.buyer("ada").ask(&show, json!([best("A", 1)])).await;
        for (path, tag) in paths.iter().zip(&tags).skip(1) {
            eventually(LIMIT, async || if_none_match(path, tag).await.status == 200).await;
        }
        // The show itself is as it was until its sale changes.
        assert_eq!(if_none_match(&paths[0], &tags[0]).await.status, 304);
        api.sale(&show, "pause").await.expect(200);
        assert_eq!(if_none_match(&paths[0], &tags[0]).await.status, 200);
    });
}

#[test]
fn the_seat_map_tells_what_changed_since() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api
            .open_show(&show([seated("A", 1, 3), seated("B", 2, 2)]))
            .await;
        let seats_of = async |query: &str| {
            api.get(&format!("/v1/shows/{show}/seats{query}"))
                .await
                .expect(200)
        };
        let all = seats_of("").await;
        assert_eq!(all["seats"].as_array().unwrap().len(), 7);
        let first = &all["seats"][0];
        assert_eq!(
            (&first["label"], &first["section"]),
            (&json!("A-1-1"), &json!("A"))
        );
        assert_eq!((&first["x"], &first["y"]), (&json!(1.0), &json!(1.0)));
        assert_eq!(first["status"], "available");
        assert_eq!(
            seats_of("?section=B").await["seats"]
                .as_array()
                .unwrap()
                .len(),
            4
        );

        let since = format!("?since={}", all["version"]);
        assert_eq!(seats_of(&since).await["seats"], json!([]));
        let ada = api.buyer("ada");
        let held = ada.ask(&show, json!([seats(&["B-2-1"])])).await;
        ada.ask(&show, json!([seats(&["A-1-2"])])).await;
        ada.confirm(&show, hold_id(&held)).await.expect(200);
        let changed = json!([
            {"label": "A-1-2", "status": "held"},
            {"label": "B-2-1", "status": "booked"},
        ]);
        eventually(LIMIT, async || seats_of(&since).await["seats"] == changed).await;
        let in_b = seats_of(&format!("{since}&section=B")).await;
        assert_eq!(
            in_b["seats"],
            json!([{"label": "B-2-1", "status": "booked"}])
        );
    });
}

#[test]
fn the_place_in_line_counts_those_ahead() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 100)])).await;
        let mut line = Vec::new();
        for place in 1..=5 {
            let buyer = api.buyer(&format!("buyer-{place}"));
            let accepted = buyer.submit(&show, &one_place()).await.expect(202);
            assert_eq!(accepted["place_in_line"], place);
            line.push((buyer, accepted));
        }
        let queue = api
            .get(&format!("/v1/shows/{show}/queue"))
            .await
            .expect(200);
        assert_eq!(
            (&queue["head"], &queue["available"]),
            (&json!(0), &json!(100))
        );
        eventually(LIMIT, async || {
            let queue = api
                .get(&format!("/v1/shows/{show}/queue"))
                .await
                .expect(200);
            (&queue["tail"], &queue["waiting"]) == (&json!(5), &json!(5))
        })
        .await;
        let _worker = arena.worker(&[]).await;
        for (buyer, accepted) in &line {
            let decided = buyer.outcome(&show, id(accepted)).await;
            assert!(
                decided["place_in_line"].is_null() && decided["eta"].is_null(),
                "{decided}"
            );
        }
        eventually(LIMIT, async || {
            let queue = api
                .get(&format!("/v1/shows/{show}/queue"))
                .await
                .expect(200);
            queue["head"] == 5 && queue["waiting"] == 0 && queue["decided_per_s"].is_number()
        })
        .await;
        let next = api
            .buyer("next")
            .submit(&show, &one_place())
            .await
            .expect(202);
        assert_eq!(
            (&next["position"], &next["place_in_line"]),
            (&json!(6), &json!(1))
        );
    });
}

#[test]
fn the_far_end_of_the_line_is_told_to_come_back_later() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 100)])).await;
        // Nobody decides here; a line that moves by one a second was measured before.
        sqlx::query("update show_progress set decided_per_s = 1")
            .execute(&arena.pool)
            .await
            .unwrap();
        // Answers may be a moment old.
        let path = format!("/v1/shows/{show}/queue");
        eventually(LIMIT, async || {
            api.get(&path).await.expect(200)["decided_per_s"].is_number()
        })
        .await;
        let mut paces = Vec::new();
        for place in 1..=60 {
            let buyer = api.buyer(&format!("buyer-{place}"));
            let answer = buyer.submit(&show, &one_place()).await;
            let pace = retry_after(&answer);
            let accepted = answer.expect(202);
            assert_eq!(accepted["eta"]["seconds"], place);
            let polled = buyer.poll(&show, id(&accepted), 0).await;
            // Both have their own jitter of a quarter.
            assert!(
                retry_after(&polled).abs_diff(pace) <= 7,
                "{pace} {polled:?}"
            );
            paces.push(pace);
        }
        assert!(paces[0] <= 2, "{paces:?}");
        assert!((10..=13).contains(&paces[19]), "{paces:?}");
        assert!((24..=30).contains(&paces[59]), "{paces:?}");
    });
}

#[test]
fn there_is_no_estimate_while_the_sale_is_paused() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let worker = arena.worker(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 100)])).await;
        let ada = api.buyer("ada");
        ada.ask(&show, json!([places("FLOOR", 1)])).await;
        drop(worker);
        let accepted = ada.submit(&show, &one_place()).await.expect(202);
        assert!(accepted["eta"]["seconds"].is_u64(), "{accepted}");

        api.sale(&show, "pause").await.expect(200);
        let answer = ada.submit(&show, &one_place()).await;
        assert!(retry_after(&answer) >= 1);
        let paused = answer.expect(202);
        assert!(paused["eta"].is_null(), "{paused}");
        let polled = ada.poll(&show, id(&paused), 0).await.expect(200);
        assert!(polled["eta"].is_null(), "{polled}");
        assert_eq!(polled["place_in_line"], 2);
        api.sale(&show, "resume").await.expect(200);
        let polled = ada.poll(&show, id(&paused), 0).await.expect(200);
        assert!(polled["eta"]["seconds"].is_u64(), "{polled}");
    });
}

/// Where nobody says anything.
fn deaf(arena: &Arena) -> String {
    let url = arena.database_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/postgres")
}

#[test]
fn everyone_is_answered_without_notifications() {
    run(async |arena| {
        let deaf = deaf(arena);
        let deaf = ["--listen-database-url", deaf.as_str()];
        let (_one, first) = arena.api(&deaf).await;
        let (_other, second) = arena.api(&deaf).await;
        let _worker = arena.worker(&deaf).await;
        let show = first.open_show(&show([floor("FLOOR", 5)])).await;
        let asking = (0..20).map(async |no| {
            let name = format!("buyer-{no}");
            let accepted = first
                .buyer(&name)
                .submit(&show, &one_place())
                .await
                .expect(202);
            let started = Instant::now();
            let answer = second
                .buyer(&name)
                .poll(&show, id(&accepted), 20)
                .await
                .expect(200);
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{:?}",
                started.elapsed()
            );
            assert_ne!(answer["state"], "queued");
            (name, answer)
        });
        let answers = join_all(asking).await;
        let held: Vec<_> = answers
            .iter()
            .filter(|(_, it)| it["state"] == "held")
            .collect();
        assert_eq!(held.len(), 5);

        // What comes after the decision is seen too, even if another process did it.
        let (name, request) = held[0];
        let (here, there) = (first.buyer(name), second.buyer(name));
        let headers = [("If-None-Match", "W/\"held\""), ("Prefer", "wait=25")];
        let waiting = poll_with(&there, &show, id(request), &headers);
        let confirming = async {
            until_somebody_waits(&second).await;
            here.confirm(&show, hold_id(request)).await.expect(200);
        };
        let (answer, ()) = tokio::join!(waiting, confirming);
        assert_eq!(answer.expect(200)["state"], "confirmed");
    });
}

#[test]
fn replicas_share_the_line() {
    run(async |arena| {
        let (_one, first) = arena.api(&[]).await;
        let (_other, second) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = first.open_show(&show([floor("FLOOR", 5)])).await;
        let (here, there) = (first.buyer("ada"), second.buyer("ada"));
        let accepted = here.submit(&show, &one_place()).await.expect(202);
        let held = there.poll(&show, id(&accepted), 20).await.expect(200);
        assert_eq!(held["state"], "held");

        let headers = [("If-None-Match", "W/\"held\""), ("Prefer", "wait=25")];
        let waiting = poll_with(&here, &show, id(&accepted), &headers);
        let cancelling = async {
            until_somebody_waits(&first).await;
            there.release(&show, hold_id(&held)).await.expect(200);
        };
        let (answer, ()) = tokio::join!(waiting, cancelling);
        assert_eq!(answer.expect(200)["state"], "cancelled");

        // An operator's word at one counts at the other.
        first.sale(&show, "close").await.expect(200);
        let refused = there.submit(&show, &one_place()).await.expect(409);
        assert_eq!(refused["code"], "sale-closed");
    });
}

#[test]
fn a_long_poll_ends_when_the_hold_expires() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&["--sweep-interval-ms", "3600000"]).await;
        let mut hall = show([floor("FLOOR", 5)]);
        hall["hold_seconds"] = json!(1);
        let show = api.open_show(&hall).await;
        let ada = api.buyer("ada");
        let held = ada.ask(&show, json!([places("FLOOR", 1)])).await;
        let headers = [("If-None-Match", "W/\"held\""), ("Prefer", "wait=25")];
        let started = Instant::now();
        let expired = poll_with(&ada, &show, id(&held), &headers)
            .await
            .expect(200);
        assert_eq!(expired["state"], "expired");
        assert!(started.elapsed() < LIMIT);
    });
}

#[test]
fn a_buyer_sees_their_own_requests_only() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 4)])).await;
        let (ada, bob) = (api.buyer("ada"), api.buyer("bob"));
        let list = async |buyer: &Buyer| {
            let path = format!("/v1/shows/{show}/requests");
            let answer = send(buyer.request(Method::GET, &path)).await;
            assert_eq!(answer.header("cache-control"), Some("private, no-store"));
            answer.expect(200)["requests"].as_array().unwrap().clone()
        };
        assert!(list(&ada).await.is_empty());
        let first = ada.ask(&show, json!([places("FLOOR", 3)])).await;
        let bobs = bob.ask(&show, json!([places("FLOOR", 1)])).await;
        let second = ada.ask(&show, json!([places("FLOOR", 3)])).await;
        assert_eq!(second["state"], "rejected");
        assert_eq!(list(&ada).await, [second, first]);
        assert_eq!(list(&bob).await, [bobs]);
    });
}

#[test]
fn an_anonymous_buyer_can_buy() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 4)])).await;
        let buyer = send(api.request(Method::POST, "/v1/buyers"))
            .await
            .expect(201);
        let submission = api
            .request(Method::POST, &format!("/v1/shows/{show}/requests"))
            .bearer_auth(buyer["token"].as_str().unwrap())
            .header("Idempotency-Key", "key-0001")
            .json(&one_place());
        assert_eq!(send(submission).await.expect(202)["position"], 1);
        let (_closed, closed) = arena.api(&["--anonymous-buyers", "false"]).await;
        send(closed.request(Method::POST, "/v1/buyers"))
            .await
            .expect(404);
    });
}
