//! Limits: how much one buyer, one address and one show may ask, and how long a line may be.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Api, Arena, eventually, floor, run, send, show},
    wishes::{body, id, places},
};

fn one_place() -> Value {
    body(&[places("FLOOR", 1)])
}

fn hall() -> Value {
    show([floor("FLOOR", 1_000)])
}

async fn count_requests(arena: &Arena) -> i64 {
    let statement = "select count(*) from booking_requests";
    sqlx::query_scalar(statement)
        .fetch_one(&arena.pool)
        .await
        .unwrap()
}

/// That it was one too many for this limit, of so many an hour.
#[track_caller]
fn one_too_many(answer: Answer, limit: &str, count: u32) {
    let policy = format!("\"{limit}\";q={count};w=3600");
    assert_eq!(answer.header("ratelimit-policy"), Some(&*policy));
    let state = answer.header("ratelimit").unwrap();
    assert!(state.starts_with(&format!("\"{limit}\";r=0;t=")), "{state}");
    let retry_after: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(
        (1..=3_600 / count + 1).contains(&retry_after),
        "{retry_after}"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.expect(429)["code"], "rate-limited");
}

#[test]
fn a_buyer_may_submit_so_often() {
    run(async |arena| {
        let (_process, api) = arena.api(&["--rate-buyer", "5/3600"]).await;
        let show = api.open_show(&hall()).await;
        let (ada, bob) = (api.buyer("ada"), api.buyer("bob"));
        let mut last = Value::Null;
        for left in (0..5).rev() {
            let answer = ada.submit(&show, &one_place()).await;
            assert_eq!(
                answer.header("ratelimit-policy"),
                Some("\"buyer\";q=5;w=3600")
            );
            let state = answer.header("ratelimit").unwrap();
            assert!(
                state.starts_with(&format!("\"buyer\";r={left};t=")),
                "{state}"
            );
            last = answer.expect(202);
        }
        one_too_many(ada.submit(&show, &one_place()).await, "buyer", 5);
        assert_eq!(count_requests(arena).await, 5);

        // She still sees what became of hers, and others do not wait for her.
        for _ in 0..40 {
            ada.poll(&show, id(&last), 0).await.expect(200);
        }
        bob.submit(&show, &one_place()).await.expect(202);
        for _ in 0..10 {
            ada.poll(&show, id(&last), 0).await.expect(200);
        }
        one_too_many(ada.poll(&show, id(&last), 0).await, "buyer-reads", 50);
    });
}

/// A submission of a new buyer that came past these proxies.
async fn submit_from(api: &Api, show: &str, forwarded_for: &[&str]) -> Answer {
    let buyer = api.buyer(&uuid::Uuid::now_v7().to_string());
    let mut submission = buyer.submission(show, "key-0001", &one_place());
    for line in forwarded_for {
        submission = submission.header("X-Forwarded-For", *line);
    }
    send(submission).await
}

#[test]
fn an_address_may_submit_so_often_and_cannot_invent_others() {
    run(async |arena| {
        let (_process, api) = arena.api(&["--rate-address", "3/3600"]).await;
        let show = api.open_show(&hall()).await;
        for forwarded in ["1.1.1.1", "2.2.2.2", "3.3.3.3"] {
            submit_from(&api, &show, &[forwarded]).await.expect(202);
        }
        for forwarded in [&["4.4.4.4"][..], &[], &["127.0.0.1"]] {
            one_too_many(submit_from(&api, &show, forwarded).await, "address", 3);
        }
        assert_eq!(count_requests(arena).await, 3);
        one_too_many(
            send(api.request(Method::POST, "/v1/buyers")).await,
            "address",
            3,
        );
    });
}

#[test]
fn behind_trusted_proxies_the_client_counts() {
    run(async |arena| {
        let trusted = "127.0.0.0/8,10.0.0.0/8";
        let settings = ["--rate-address", "2/3600", "--trusted-proxies", trusted];
        let (_process, api) = arena.api(&settings).await;
        let show = api.open_show(&hall()).await;
        let submit = async |lines: &[&str]| submit_from(&api, &show, lines).await;

        submit(&["1.1.1.1"]).await.expect(202);
        // What stands to the left of the client is the client's own invention.
        submit(&["9.9.9.9, 1.1.1.1, 10.0.0.7"]).await.expect(202);
        for lines in [
            &["8.8.8.8, 1.1.1.1"][..],
            &["7.7.7.7", "1.1.1.1"],
            &["1.1.1.1, 10.1.2.3"],
        ] {
            one_too_many(submit(lines).await, "address", 2);
        }
        submit(&["2.2.2.2"]).await.expect(202);

        // One IPv6 client has a whole /64.
        submit(&["2001:db8:0:1::1"]).await.expect(202);
        submit(&["2001:db8:0:1:ffff::2"]).await.expect(202);
        one_too_many(submit(&["2001:db8:0:1::3"]).await, "address", 2);
        submit(&["2001:db8:0:2::1"]).await.expect(202);
    });
}

#[test]
fn a_show_takes_so_many() {
    run(async |arena| {
        let (_process, api) = arena.api(&["--rate-show", "3/3600"]).await;
        let (show, other) = (api.open_show(&hall()).await, api.open_show(&hall()).await);
        for _ in 0..3 {
            submit_from(&api, &show, &[]).await.expect(202);
        }
        one_too_many(submit_from(&api, &show, &[]).await, "show", 3);
        submit_from(&api, &other, &[]).await.expect(202);
        assert_eq!(count_requests(arena).await, 4);
    });
}

#[test]
fn the_allowance_comes_back() {
    run(async |arena| {
        let (_process, api) = arena.api(&["--rate-buyer", "4/2"]).await;
        let show = api.open_show(&hall()).await;
        let ada = api.buyer("ada");
        eventually(Duration::from_secs(5), async || {
            ada.submit(&show, &one_place()).await.status == 429
        })
        .await;
        eventually(Duration::from_secs(5), async || {
            ada.submit(&show, &one_place()).await.status == 202
        })
        .await;
    });
}

#[test]
fn a_full_line_takes_nobody() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let mut hall = hall();
        hall["queue_limit"] = json!(3);
        let show = api.open_show(&hall).await;
        api.sale(&show, "pause").await.expect(200);
        let submitting = (0..20).map(async |no| {
            let buyer = api.buyer(&format!("buyer-{no}"));
            let answer = buyer.submit_with_key(&show, "key-0001", &one_place()).await;
            (buyer, answer)
        });
        let (accepted, refused): (Vec<_>, Vec<_>) = join_all(submitting)
            .await
            .into_iter()
            .partition(|(_, answer)| answer.status == 202);
        assert_eq!(accepted.len(), 3);
        assert_eq!(count_requests(arena).await, 3);
        for (_, answer) in &refused {
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(answer.clone().expect(503)["code"], "queue-full");
        }

        // Who is in the line and is not sure is told so.
        let (inside, first) = &accepted[0];
        let again = inside
            .submit_with_key(&show, "key-0001", &one_place())
            .await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.expect(202)["id"], first.body["id"]);

        // The line moves, and the same key is taken now.
        api.sale(&show, "resume").await.expect(200);
        let (outside, _) = &refused[0];
        eventually(Duration::from_secs(10), async || {
            outside
                .submit_with_key(&show, "key-0001", &one_place())
                .await
                .status
                == 202
        })
        .await;
    });
}
