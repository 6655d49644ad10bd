//! What an idle long-poll costs the API process.

use std::time::Duration;

use futures::{StreamExt, future::join_all, stream};
use serde_json::Value;

use crate::{
    harness::{Api, eventually, floor, run, send, show},
    wishes::{body, id, places},
};

/// How many wait, unless STAMPEDE_TEST_LONG_POLLS says otherwise. Each takes an open file on both sides.
const COUNT: usize = 400;

/// 9,000 of them in 400 MiB, with what the process needs anyway.
const BYTES_EACH: u64 = 400 * 1024 * 1024 / 9_000;

/// What a busy process grows by meanwhile, whoever waits: pools, threads, the allocator's pages.
const GROWS_ANYWAY: u64 = 8 * 1024 * 1024;

/// Submissions on their way at once.
const SUBMITTING: usize = 64;

const LIMIT: Duration = Duration::from_secs(25);

async fn waiters(api: &Api) -> usize {
    let metrics = api
        .request(reqwest::Method::GET, "/metrics")
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("stampede_waiters "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[test]
fn idle_long_polls_cost_little_memory_and_are_all_answered() {
    let count = std::env::var("STAMPEDE_TEST_LONG_POLLS");
    let count = count
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(COUNT);
    run(async |arena| {
        let (process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api.open_show(&show([floor("FLOOR", 100)])).await;
        api.sale(&show, "pause").await.expect(200);
        let submissions = (0..count).map(|number| {
            let (buyer, show) = (api.buyer(&format!("buyer-{number}")), show.clone());
            async move {
                let accepted = buyer
                    .submit(&show, &body(&[places("FLOOR", 1)]))
                    .await
                    .expect(202);
                (buyer, id(&accepted).to_owned())
            }
        });
        let accepted: Vec<_> = stream::iter(submissions)
            .buffered(SUBMITTING)
            .collect()
            .await;

        let before = process.resident_bytes();
        let polls = accepted.into_iter().map(|(buyer, request)| {
            let path = format!("/v1/shows/{show}/requests/{request}");
            let poll = buyer
                .request(reqwest::Method::GET, &path)
                .header("Prefer", "wait=30");
            tokio::spawn(send(poll))
        });
        let polls: Vec<_> = polls.collect();
        eventually(LIMIT, async || waiters(&api).await == count).await;
        let growth = process.resident_bytes().saturating_sub(before);
        println!(
            "{count} idle long-polls: {} KiB each",
            growth / 1024 / count as u64
        );
        assert!(
            growth < GROWS_ANYWAY + count as u64 * BYTES_EACH,
            "{growth} bytes for {count}"
        );

        api.sale(&show, "resume").await.expect(200);
        for answer in join_all(polls).await {
            let answer: Value = answer.unwrap().expect(200);
            assert_ne!(answer["state"], "queued", "{answer}");
        }
    });
}
