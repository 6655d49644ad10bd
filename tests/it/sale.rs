//! The sale: when it takes requests, when it decides them, and what an operator's word does to them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    harness::{Api, Arena, Buyer, eventually, floor, run, show},
    wishes::{body, hold_id, id, places},
};

const LIMIT: Duration = Duration::from_secs(10);

fn one_place() -> Value {
    body(&[places("FLOOR", 1)])
}

fn hall_with(times: &[(&str, DateTime<Utc>)]) -> Value {
    let mut hall = show([floor("FLOOR", 5)]);
    for (name, time) in times {
        hall[name] = json!(time);
    }
    hall
}

fn in_ms(ms: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::milliseconds(ms)
}

async fn count(arena: &Arena, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(&arena.pool)
        .await
        .unwrap()
}

/// That many buyers, one after the other; each with what it was answered.
async fn line_up(api: &Api, show: &str, buyers: usize) -> Vec<(Buyer, Value)> {
    let mut line = Vec::new();
    for no in 0..buyers {
        let buyer = api.buyer(&format!("buyer-{no}"));
        let accepted = buyer.submit(show, &one_place()).await.expect(202);
        line.push((buyer, accepted));
    }
    line
}

/// What became of all of them, in their order.
async fn outcomes(show: &str, line: &[(Buyer, Value)]) -> Vec<Value> {
    join_all(
        line.iter()
            .map(|(buyer, accepted)| buyer.outcome(show, id(accepted))),
    )
    .await
}

/// A turn of another show that begins after this call and is over when it returns: what that worker
/// had to do before, it has done.
async fn let_the_worker_look(api: &Api) {
    let other = api.open_show(&show([floor("FLOOR", 1)])).await;
    api.buyer("somebody")
        .ask(&other, json!([places("FLOOR", 1)]))
        .await;
}

#[test]
fn before_the_opening_nothing_is_accepted() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let opens_at = in_ms(3_600_000);
        let (ada, known) = (api.buyer("ada"), hall_with(&[("opens_at", opens_at)]));
        let show = api.create_show(&known).await;
        let refused = ada.submit(&show, &one_place()).await;
        let retry_after: i64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((3_590..=3_601).contains(&retry_after), "{retry_after}");
        let refused = refused.expect(409);
        assert_eq!(refused["code"], "sale-not-open");
        let said: DateTime<Utc> = refused["opens_at"].as_str().unwrap().parse().unwrap();
        assert!(
            (said - opens_at).abs() < TimeDelta::milliseconds(1),
            "{said} {opens_at}"
        );

        let show = api.create_show(&hall_with(&[])).await;
        let refused = ada.submit(&show, &one_place()).await.expect(409);
        assert_eq!(refused["code"], "sale-not-open");
        assert!(refused["opens_at"].is_null());
        assert_eq!(
            count(arena, "select count(*) from booking_requests").await,
            0
        );
    });
}

#[test]
fn a_sale_opens_by_itself_at_its_time() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let opens_at = in_ms(700);
        let show = api.create_show(&hall_with(&[("opens_at", opens_at)])).await;
        let ada = api.buyer("ada");
        ada.submit_with_key(&show, "the-opening", &one_place())
            .await
            .expect(409);
        eventually(LIMIT, async || {
            ada.submit_with_key(&show, "the-opening", &one_place())
                .await
                .status
                == 202
        })
        .await;
        let accepted = ada
            .submit_with_key(&show, "the-opening", &one_place())
            .await
            .expect(202);
        let outcome = ada.outcome(&show, id(&accepted)).await;
        assert_eq!(outcome["state"], "held");
        let accepted_at: DateTime<Utc> = outcome["accepted_at"].as_str().unwrap().parse().unwrap();
        assert!(
            accepted_at >= opens_at - TimeDelta::milliseconds(1),
            "{accepted_at} {opens_at}"
        );
        eventually(LIMIT, async || {
            api.get(&format!("/v1/shows/{show}")).await.expect(200)["sale"]["state"] == "open"
        })
        .await;
    });
}

#[test]
fn a_paused_sale_keeps_positions_and_decides_none() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&["--turn-size", "3"]).await;
        let show = api.open_show(&hall_with(&[])).await;
        let paused = api.sale(&show, "pause").await.expect(200);
        assert_eq!(paused["sale"]["state"], "paused");
        assert_eq!(paused["sale"]["reason"], "because the test says so");
        let line = line_up(&api, &show, 12).await;
        let_the_worker_look(&api).await;
        assert_eq!(count(arena, "select count(*) from outcomes").await, 1);
        for (no, (buyer, accepted)) in (1..).zip(&line) {
            let queued = buyer.poll(&show, id(accepted), 0).await.expect(200);
            assert_eq!(
                (&queued["state"], &queued["position"]),
                (&json!("queued"), &json!(no))
            );
            assert_eq!(queued["place_in_line"], no);
        }

        api.sale(&show, "resume").await.expect(200);
        for (no, outcome) in (1..).zip(outcomes(&show, &line).await) {
            assert_eq!(outcome["position"], no);
            assert_eq!(outcome["state"] == "held", no <= 5, "{outcome}");
        }
    });
}

#[test]
fn what_is_accepted_after_a_pause_waits_even_for_a_turn_that_had_begun() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show = api.open_show(&hall_with(&[])).await;
        // The turn has read that the sale is open and stops at the inventory.
        let mut blocking = arena.pool.begin().await.unwrap();
        sqlx::query("select from show_inventory for update")
            .execute(&mut *blocking)
            .await
            .unwrap();
        let early = line_up(&api, &show, 1).await;
        let _worker = arena.worker(&[]).await;
        let waiting = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        eventually(LIMIT, async || count(arena, waiting).await > 0).await;

        api.sale(&show, "pause").await.expect(200);
        let late = api.buyer("late");
        let accepted = late.submit(&show, &one_place()).await.expect(202);
        blocking.rollback().await.unwrap();
        assert_eq!(outcomes(&show, &early).await[0]["state"], "held");
        let_the_worker_look(&api).await;
        assert_eq!(
            late.poll(&show, id(&accepted), 0).await.expect(200)["state"],
            "queued"
        );
    });
}

#[test]
fn a_close_rejects_the_undecided_and_refuses_the_new() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&["--turn-size", "3"]).await;
        let show = api.open_show(&hall_with(&[])).await;
        let early = api.buyer("early");
        let held = early.ask(&show, json!([places("FLOOR", 1)])).await;
        api.sale(&show, "pause").await.expect(200);
        let line = line_up(&api, &show, 8).await;
        line[7].0.cancel(&show, id(&line[7].1)).await.expect(200);

        assert_eq!(
            api.sale(&show, "close").await.expect(200)["sale"]["state"],
            "closed"
        );
        let outcomes = outcomes(&show, &line).await;
        for outcome in &outcomes[..7] {
            assert_eq!(outcome["state"], "rejected", "{outcome}");
            assert_eq!(outcome["reason"], "sale_closed");
        }
        assert_eq!(outcomes[7]["state"], "cancelled");
        let refused = early.submit(&show, &one_place()).await.expect(409);
        assert_eq!(refused["code"], "sale-closed");
        assert_eq!(refused["detail"], "because the test says so");

        // What was won before is not lost, and a close is final.
        let confirmed = early.confirm(&show, hold_id(&held)).await.expect(200);
        assert_eq!(confirmed["state"], "confirmed");
        for command in ["open", "pause", "resume"] {
            let refused = api.sale(&show, command).await.expect(409);
            assert_eq!(refused["code"], "sale-command-refused", "{command}");
        }
        api.sale(&show, "close").await.expect(200);
    });
}

#[test]
fn at_the_closing_time_nothing_new_is_accepted_and_the_line_is_decided() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = api
            .open_show(&hall_with(&[("closes_at", in_ms(1_200))]))
            .await;
        api.sale(&show, "pause").await.expect(200);
        let line = line_up(&api, &show, 6).await;
        let late = api.buyer("late");
        eventually(LIMIT, async || {
            late.submit(&show, &one_place()).await.status == 409
        })
        .await;
        let refused = late.submit(&show, &one_place()).await.expect(409);
        assert_eq!(refused["code"], "sale-closed");
        api.sale(&show, "resume").await.expect(200);
        for (no, outcome) in outcomes(&show, &line).await.iter().enumerate() {
            let expected = if no < 5 { "held" } else { "rejected" };
            assert_eq!(outcome["state"], expected, "{outcome}");
            assert_ne!(outcome["reason"], "sale_closed");
        }
        late.submit(&show, &one_place()).await.expect(409);
    });
}

#[test]
fn no_position_is_given_after_the_close() {
    run(async |arena| {
        let (_one, first) = arena.api(&[]).await;
        let (_other, second) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show = first.open_show(&show([floor("FLOOR", 1_000)])).await;
        let last_position = "select last_position from show_intake";
        let submitting = (0..300).map(async |no| {
            let api = [&first, &second][no % 2];
            let buyer = api.buyer(&format!("buyer-{no}"));
            let answer = buyer.submit(&show, &one_place()).await;
            (buyer, answer)
        });
        // The close comes when some are in.
        let closing = async {
            eventually(LIMIT, async || count(arena, last_position).await > 0).await;
            first.sale(&show, "close").await.expect(200);
            count(arena, last_position).await
        };
        let (answers, at_the_close) = tokio::join!(join_all(submitting), closing);
        assert_eq!(count(arena, last_position).await, at_the_close);

        let mut accepted = 0;
        for (buyer, answer) in answers {
            if answer.status == 202 {
                accepted += 1;
                let outcome = buyer.outcome(&show, id(&answer.body)).await;
                let fits = outcome["state"] == "held" || outcome["reason"] == "sale_closed";
                assert!(fits, "{outcome}");
            } else {
                assert_eq!(answer.expect(409)["code"], "sale-closed");
            }
        }
        assert_eq!(accepted, at_the_close);
        assert_eq!(
            count(arena, "select count(*) from outcomes").await,
            at_the_close
        );
    });
}
