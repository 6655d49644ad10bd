//! Jobs: payments that got stuck come to their end by themselves, once, whoever dies meanwhile; and what
//! the gateway and we remember of them is the same.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use stampede_shared::store::{across_shows, payments};

use crate::{
    harness::{
        Arena, GOOD_CARD, Gateway, STEP_CARD, binary, eventually, run, run_with_own_postgres, send,
    },
    payments::{Shop, count, paid_hall, shop, shop_with},
};

/// A payment is stuck after half a second, and due jobs are looked for ten times a second.
const QUICK: [&str; 4] = ["--payment-stuck-ms", "500", "--gateway-timeout-ms", "1000"];
const QUICK_WORKER: [&str; 2] = ["--job-interval-ms", "100"];

/// Half a second until it is stuck, a look and some steps of 100 ms each; a busy machine takes longer.
const RESOLVED_LIMIT: Duration = Duration::from_secs(15);

/// A card of a test's own.
const ODD_CARD: &str = "4000000000009995";

async fn quick_worker(arena: &Arena, gateway: &Gateway) -> crate::harness::Process {
    let arguments = [&QUICK[..], &QUICK_WORKER[..]].concat();
    gateway.worker(arena, &arguments).await
}

/// A sale whose worker recovers nothing before the test wants it.
async fn slow_shop(arena: &Arena) -> Shop {
    // The API waits for the gateway until it is killed.
    let patient = ["--payment-stuck-ms", "500", "--gateway-timeout-ms", "60000"];
    let mut shop = shop_with(arena, paid_hall(), &patient).await;
    shop.worker.stop().await;
    shop.worker = shop
        .gateway
        .worker(arena, &["--job-interval-ms", "60000"])
        .await;
    shop
}

async fn states(pool: &PgPool) -> BTreeMap<String, i64> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select state, count(*) from payments group by state")
            .fetch_all(pool)
            .await
            .unwrap();
    rows.into_iter().collect()
}

async fn all_in(pool: &PgPool, state: &str, number: i64) -> bool {
    states(pool).await == BTreeMap::from([(state.to_owned(), number)])
}

#[test]
fn a_payment_that_hangs_while_the_server_is_killed_is_resolved_in_time() {
    run(async |arena| {
        let mut shop = slow_shop(arena).await;
        let cases = [
            ("A-1-1", json!({"authorize": {"how": "hang_before"}})),
            ("A-1-2", json!({"authorize": {"how": "hang_after"}})),
            ("A-1-3", json!({"capture": {"how": "hang_before"}})),
            ("A-1-4", json!({"capture": {"how": "hang_after"}})),
        ];
        let ada = shop.api.buyer("ada");
        let mut calls = Vec::new();
        for (number, (seat, answers)) in cases.into_iter().enumerate() {
            let hold = shop.hold_of(&ada, &[seat]).await;
            let card = format!("400000000000{number:04}");
            let method = shop
                .gateway
                .card_that(&card, json!({"authorize": "accept", "answers": answers}))
                .await;
            let key = format!("key-0000{number}");
            let payment = ada.payment(&shop.show, &hold, &key, Some(&method));
            calls.push(tokio::spawn(payment.send()));
        }
        eventually(RESOLVED_LIMIT, async || {
            let written = count(&arena.pool, "select count(*) from payments").await;
            written == 4 && shop.gateway.charges().await.len() >= 3
        })
        .await;
        shop.api_process.kill();
        for call in calls {
            call.await.unwrap().ok();
        }
        let killed = Instant::now();
        shop.worker.kill();
        let _worker = quick_worker(arena, &shop.gateway).await;
        eventually(RESOLVED_LIMIT, async || {
            all_in(&arena.pool, "captured", 4).await
        })
        .await;
        eprintln!("resolved in {:?}", killed.elapsed());
        let charges = shop.gateway.charges().await;
        assert_eq!(charges.len(), 4, "{charges:?}");
        for charge in &charges {
            assert_eq!(charge["captured"], 5_000, "{charge}");
            assert_eq!(charge["refunded"], 0, "{charge}");
        }
        assert_eq!(reconcile(arena, &shop.gateway, &[]).await, (0, json!([])));
    });
}

#[test]
fn two_workers_push_each_payment_once_and_double_nothing() {
    run(async |arena| {
        let mut hall = paid_hall();
        hall["buyer_limit"] = json!(50);
        let gateway = arena.gateway(&[]).await;
        // The API dies before it hears from the gateway.
        let (mut api_process, api) = gateway.api(arena, &QUICK).await;
        let mut worker = gateway.worker(arena, &["--job-interval-ms", "60000"]).await;
        let show = api.open_show(&hall).await;
        let ada = api.buyer("ada");
        let behaviour = json!({
            "authorize": "accept",
            "answers": {"authorize": {"how": "hang_after"}},
            "callbacks": ["never"],
        });
        let method = gateway.card_that(ODD_CARD, behaviour).await;
        let mut calls = Vec::new();
        for number in 0..30 {
            let wish = json!([{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]);
            let held = ada.ask(&show, wish).await;
            let hold = held["hold"]["id"].as_str().unwrap();
            let key = format!("key-000{number:02}");
            let payment = ada.payment(&show, hold, &key, Some(&method));
            calls.push(tokio::spawn(payment.send()));
        }
        eventually(RESOLVED_LIMIT, async || gateway.charges().await.len() == 30).await;
        api_process.kill();
        worker.kill();
        for call in calls {
            call.await.unwrap().ok();
        }
        // On a busy machine the worker may have looked for work only after the first payments came.
        let pushed = "select count(*) from apalis.jobs where job_type = 'recover_payment'";
        let before = count(&arena.pool, pushed).await;
        // None of them is due for a while, and then all at once.
        sqlx::query("update payments set recover_at = now() + interval '1 second'")
            .execute(&arena.pool)
            .await
            .unwrap();
        let arguments = ["--job-interval-ms", "50", "--payment-stuck-ms", "30000"];
        let _workers = [
            gateway.worker(arena, &arguments).await,
            gateway.worker(arena, &arguments).await,
        ];
        eventually(RESOLVED_LIMIT, async || {
            all_in(&arena.pool, "captured", 30).await
        })
        .await;
        assert_eq!(count(&arena.pool, pushed).await - before, 30);
        let charges = gateway.charges().await;
        assert_eq!(charges.len(), 30);
        assert!(charges.iter().all(|charge| charge["captured"] == 3_000));
    });
}

#[test]
fn the_queues_go_on_after_crashes_of_postgres() {
    run_with_own_postgres(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let (_api_process, api) = gateway.api(arena, &QUICK).await;
        let mut worker = quick_worker(arena, &gateway).await;
        let show = api.open_show(&paid_hall()).await;
        let ada = api.buyer("ada");
        let behaviour =
            json!({"authorize": "accept", "answers": {"capture": {"how": "error_before"}}});
        let method = gateway.card_that(ODD_CARD, behaviour).await;
        for round in 1..=4 {
            let seat = format!("A-1-{round}");
            let held = ada
                .ask(&show, json!([{"kind": "seats", "seats": [seat]}]))
                .await;
            let hold = held["hold"]["id"].as_str().unwrap();
            let key = format!("key-0000{round}");
            // The capture fails, so a job has to do it, after the crash.
            let wait = ada.payment(&show, hold, &key, Some(&method));
            send(wait.header("prefer", "wait=0")).await.expect(202);
            arena.crash_postgres().await;
            eventually(RESOLVED_LIMIT, async || {
                let captured = "select count(*) from payments where state = 'captured'";
                let captured = sqlx::query_scalar::<_, i64>(captured).fetch_one(&arena.pool);
                captured.await.is_ok_and(|captured| captured == round)
            })
            .await;
        }
        assert!(worker.is_running());
        worker.stop().await;
    });
}

#[test]
fn an_event_that_nobody_applied_makes_a_final_payment_be_looked_at() {
    run(async |arena| {
        let shop = shop_with(arena, paid_hall(), &QUICK).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let quiet = json!({"authorize": "accept", "callbacks": ["never"]});
        let method = shop.gateway.card_that(ODD_CARD, quiet).await;
        let paid = shop
            .pay(&ada, &hold, "key-00001", &method)
            .await
            .expect(201);
        let charge = shop.gateway.charges().await[0]["id"].clone();
        let charge = charge.as_str().unwrap();
        shop.gateway.meddle(charge, "refund").await;
        // As an API stores it that dies before it looks.
        sqlx::query(
            "insert into gateway_events (
                show_id, gateway, event_id, payment_id, charge_id, received_at
            )
            select show_id, 'simulated', 'ev_1', payment_id, charge_id, now() - interval '1 minute'
            from payments",
        )
        .execute(&arena.pool)
        .await
        .unwrap();
        let id = paid["id"].as_str().unwrap();
        shop.payment_in(&ada, id, &["refunded"]).await;
        eventually(RESOLVED_LIMIT, async || {
            let left = "select count(*) from gateway_events where applied_at is null";
            count(&arena.pool, left).await == 0
        })
        .await;
        let living = "select count(*) from bookings where state <> 'cancelled'";
        assert_eq!(count(&arena.pool, living).await, 0);
    });
}

#[test]
fn a_cancelled_show_refunds_everyone_although_its_worker_dies() {
    run(async |arena| {
        let mut shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let method = shop.gateway.method(GOOD_CARD).await;
        for (number, seat) in ["A-1-1", "A-1-2", "A-1-3"].into_iter().enumerate() {
            let hold = shop.hold_of(&ada, &[seat]).await;
            let key = format!("key-0000{number}");
            shop.pay(&ada, &hold, &key, &method).await.expect(201);
        }
        shop.hold_of(&ada, &["A-1-4"]).await;
        shop.worker.kill();
        let body = json!({"reason": "the band is ill"});
        let path = format!("/shows/{}/cancel", shop.show);
        let request = shop.api.operator_request(Method::POST, &path).json(&body);
        let cancelled = send(request.header("idempotency-key", "cancel-the-show")).await;
        assert!(cancelled.status.is_success(), "{}", cancelled.body);
        let arguments = [&QUICK[..], &QUICK_WORKER[..]].concat();
        let dying = ["cancel_show_before_commit", "cancel_show_after_commit"];
        for point in dying {
            let failing = format!("{point}=return");
            let mut worker = shop
                .gateway
                .worker_failing(arena, &failing, &arguments)
                .await;
            eventually(RESOLVED_LIMIT, || std::future::ready(!worker.is_running())).await;
            // The show is taken for half a minute; the next worker need not wait for that.
            sqlx::query("update show_inventory set clear_at = now()")
                .execute(&arena.pool)
                .await
                .unwrap();
        }
        let _worker = quick_worker(arena, &shop.gateway).await;
        eventually(RESOLVED_LIMIT, async || {
            all_in(&arena.pool, "refunded", 3).await
        })
        .await;
        let cleared = "select count(*) from show_inventory where cleared_at is not null";
        eventually(RESOLVED_LIMIT, async || {
            count(&arena.pool, cleared).await == 1
        })
        .await;
        let held = "select count(*) from holds where state in ('held', 'confirmed')";
        assert_eq!(count(&arena.pool, held).await, 0);
        for charge in shop.gateway.charges().await {
            assert_eq!(charge["refunded"], charge["captured"], "{charge}");
        }
        assert_eq!(reconcile(arena, &shop.gateway, &[]).await, (0, json!([])));
    });
}

#[test]
fn a_payment_that_stays_stuck_is_looked_up_less_and_less_often_but_every_hour() {
    run(async |arena| {
        let mut shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let method = shop.gateway.method(GOOD_CARD).await;
        shop.pay(&ada, &hold, "key-00001", &method)
            .await
            .expect(201);
        shop.worker.stop().await;
        let show_id = shop.show.parse().unwrap();
        let stuck = Duration::from_secs(30);
        for (recoveries, pause_s) in [
            (0, 30),
            (1, 60),
            (3, 240),
            (6, 1_920),
            (7, 3_600),
            (90, 3_600),
        ] {
            let mut tx = arena.pool.begin().await.unwrap();
            sqlx::query("update payments set recover_at = now(), recoveries = $1")
                .bind(recoveries)
                .execute(&mut *tx)
                .await
                .unwrap();
            let due = payments::take_due(&mut tx, show_id, stuck, 10)
                .await
                .unwrap();
            assert_eq!(due.len(), 1);
            let again = payments::take_due(&mut tx, show_id, stuck, 10)
                .await
                .unwrap();
            assert!(again.is_empty());
            let left = "select extract(epoch from recover_at - now())::bigint from payments";
            let left: i64 = sqlx::query_scalar(left).fetch_one(&mut *tx).await.unwrap();
            assert_eq!(left, pause_s, "after {recoveries}");
        }
    });
}

#[test]
fn while_its_seats_are_kept_a_payment_is_looked_up_as_often_as_ever() {
    run(async |arena| {
        let mut shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let method = shop.gateway.method(STEP_CARD).await;
        shop.pay(&ada, &hold, "key-00001", &method)
            .await
            .expect(202);
        shop.worker.stop().await;
        let show_id = shop.show.parse().unwrap();
        let stuck = Duration::from_secs(30);
        // (how long the seats are still kept, the pause)
        for (kept_s, pause_s) in [(600, 30), (10, 10), (-1, 1_920)] {
            let mut tx = arena.pool.begin().await.unwrap();
            let keep = "update holds
                set expires_at = now() - interval '1 hour', kept_until = now() + make_interval(secs => $1)";
            sqlx::query(keep)
                .bind(f64::from(kept_s))
                .execute(&mut *tx)
                .await
                .unwrap();
            sqlx::query("update payments set recover_at = now(), recoveries = 6")
                .execute(&mut *tx)
                .await
                .unwrap();
            let due = payments::take_due(&mut tx, show_id, stuck, 10)
                .await
                .unwrap();
            assert_eq!(due.len(), 1);
            let left = "select extract(epoch from recover_at - now())::bigint from payments";
            let left: i64 = sqlx::query_scalar(left).fetch_one(&mut *tx).await.unwrap();
            assert_eq!(left, pause_s, "kept for {kept_s} s");
            tx.rollback().await.unwrap();
        }
    });
}

#[test]
fn the_show_whose_payment_has_been_due_for_longest_comes_first() {
    run(async |arena| {
        let mut shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let method = shop.gateway.method(GOOD_CARD).await;
        let mut shows = vec![shop.show.clone()];
        for _ in 0..2 {
            shows.push(shop.api.open_show(&paid_hall()).await);
        }
        for show in &shows {
            let wish = json!([{"kind": "seats", "seats": ["A-1-1"]}]);
            let held = ada.ask(show, wish).await;
            let hold = held["hold"]["id"].as_str().unwrap();
            let paid = ada.pay(show, hold, "key-00001", Some(&method)).await;
            paid.expect(201);
        }
        shop.worker.stop().await;
        let order: Vec<uuid::Uuid> = [2, 0, 1].map(|at: usize| shows[at].parse().unwrap()).into();
        for (show_id, ago_s) in order.iter().zip([30.0, 20.0, 10.0]) {
            let due = "update payments set recover_at = now() - make_interval(secs => $1)
                where show_id = $2";
            let due = sqlx::query(due).bind(ago_s).bind(show_id);
            due.execute(&arena.pool).await.unwrap();
        }
        for limit in 1..=3_usize {
            let found = across_shows::shows_with_payments_to_recover(&arena.pool, limit as i64);
            assert_eq!(found.await.unwrap(), order[..limit]);
        }
    });
}

#[test]
fn a_job_of_a_day_that_has_failed_is_tried_again_in_another_hour() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let jobs = async |status: &'static str| -> i64 {
            let jobs =
                "select count(*) from apalis.jobs where job_type = 'reconcile' and status = $1";
            let jobs = sqlx::query_scalar(jobs).bind(status);
            jobs.fetch_one(&arena.pool).await.unwrap()
        };
        // Nobody listens there.
        let deaf = [
            &gateway.settings()[..2],
            &["--gateway-url".into(), "http://127.0.0.1:9".into()],
        ];
        let mut deaf = deaf.concat();
        deaf.extend(gateway.settings()[4..].iter().cloned());
        deaf.extend(QUICK_WORKER.map(str::to_owned));
        let deaf: Vec<&str> = deaf.iter().map(String::as_str).collect();
        let mut worker = arena.worker(&deaf).await;
        eventually(RESOLVED_LIMIT, async || {
            jobs("Failed").await + jobs("Killed").await == 1
        })
        .await;
        worker.stop().await;
        let mut worker = quick_worker(arena, &gateway).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        worker.stop().await;
        assert_eq!(jobs("Done").await, 0, "once an hour");
        execute(
            &arena.pool,
            "update apalis.jobs set idempotency_key = idempotency_key || ' of another hour'
            where job_type = 'reconcile'",
        )
        .await;
        for _ in 0..2 {
            let mut worker = quick_worker(arena, &gateway).await;
            eventually(RESOLVED_LIMIT, async || jobs("Done").await == 1).await;
            worker.stop().await;
        }
        let all = "select count(*) from apalis.jobs where job_type = 'reconcile'";
        assert_eq!(count(&arena.pool, all).await, 2);
    });
}

#[test]
fn the_jobs_of_a_day_are_done_once() {
    run(async |arena| {
        let gateway = arena.gateway(&[]).await;
        let workers = [
            quick_worker(arena, &gateway).await,
            quick_worker(arena, &gateway).await,
            quick_worker(arena, &gateway).await,
        ];
        eventually(RESOLVED_LIMIT, async || {
            let done = "select count(*) from apalis.jobs
                where job_type in ('reconcile', 'prune') and status = 'Done'";
            count(&arena.pool, done).await >= 2
        })
        .await;
        let days = "select count(*) - count(distinct (job_type, idempotency_key)) from apalis.jobs";
        assert_eq!(count(&arena.pool, days).await, 0);
        // Two, or four around midnight.
        assert!(count(&arena.pool, "select count(*) from apalis.jobs").await <= 4);
        for mut worker in workers {
            worker.stop().await;
        }
    });
}

/// What `stampede reconcile` finds: its exit code and the mismatches.
async fn reconcile(arena: &Arena, gateway: &Gateway, arguments: &[&str]) -> (i32, Value) {
    let mut command: Command = binary();
    command
        .env("DATABASE_URL", arena.database_url())
        .arg("reconcile")
        .args(gateway.settings())
        .args(["--json", "-"])
        .args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("running reconcile");
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{errors}"));
    let told = report["mismatched"].as_array().unwrap();
    assert_eq!(report["mismatches"], told.len(), "{report}");
    let told: Vec<&Value> = told.iter().map(|mismatch| &mismatch["what"]).collect();
    (output.status.code().unwrap(), json!(told))
}

#[test]
fn reconciliation_is_clean_after_a_sale_and_finds_every_meddling() {
    run(async |arena| {
        let mut shop = shop(arena).await;
        let ada = shop.api.buyer("ada");
        let good = shop.gateway.method(GOOD_CARD).await;
        let hold = shop.hold_of(&ada, &["A-1-1"]).await;
        let quiet = json!({"authorize": "accept", "callbacks": ["never"]});
        let method = shop.gateway.card_that(ODD_CARD, quiet).await;
        shop.pay(&ada, &hold, "key-00001", &method)
            .await
            .expect(201);
        let other = shop.hold_of(&ada, &["A-1-2"]).await;
        shop.pay(&ada, &other, "key-00002", &good).await.expect(201);
        // Nobody repairs what is broken on purpose.
        shop.worker.stop().await;
        let clean = (0, json!([]));
        assert_eq!(reconcile(arena, &shop.gateway, &["--all"]).await, clean);
        assert_eq!(
            reconcile(arena, &shop.gateway, &["--show", &shop.show]).await,
            clean
        );

        let first = "payment_id = (select min(payment_id::text)::uuid from payments)";
        // (what is done to our rows, what undoes it, what is found)
        let sabotages = [
            (
                format!("update payments set amount = amount - 1 where {first}"),
                format!("update payments set amount = amount + 1 where {first}"),
                "captured 5000, not 4999",
            ),
            (
                format!("update payments set currency = 'CHF' where {first}"),
                format!("update payments set currency = 'EUR' where {first}"),
                "it is in EUR, not CHF",
            ),
            (
                format!("update payments set charge_id = charge_id || 'x' where {first}"),
                format!("update payments set charge_id = rtrim(charge_id, 'x') where {first}"),
                "the gateway does not have the charge",
            ),
            (
                format!("update bookings set payment_id = null where {first}"),
                "update bookings b set payment_id = p.payment_id from payments p \
                where p.hold_id = b.hold_id"
                    .to_owned(),
                "it is captured and its booking is none",
            ),
        ];
        for (sabotage, repair, expected) in sabotages {
            execute(&arena.pool, &sabotage).await;
            let (code, found) = reconcile(arena, &shop.gateway, &[]).await;
            assert_eq!(code, 1, "{sabotage}");
            let found = found.as_array().unwrap();
            assert!(
                found.iter().any(|what| what == expected),
                "{sabotage}: {found:?}"
            );
            execute(&arena.pool, &repair).await;
        }
        assert_eq!(reconcile(arena, &shop.gateway, &[]).await, clean);

        // At the gateway: a charge that nobody asked for, and one that was given back.
        let order = json!({
            "amount": 100, "currency": "EUR", "payment_method": method,
            "metadata": {"show_id": shop.show, "payment_id": uuid::Uuid::now_v7()},
        });
        let request = shop
            .gateway
            .request(Method::POST, "/v1/charges")
            .json(&order);
        let made = send(request.header("idempotency-key", "meddling"))
            .await
            .expect(201);
        assert_eq!(
            reconcile(arena, &shop.gateway, &[]).await,
            clean,
            "nothing is taken yet"
        );
        shop.gateway
            .meddle(made["id"].as_str().unwrap(), "capture")
            .await;
        let (code, found) = reconcile(arena, &shop.gateway, &[]).await;
        let foreign = "the gateway has a charge for a payment that is not ours";
        assert_eq!((code, found), (1, json!([foreign])));
        shop.gateway
            .meddle(made["id"].as_str().unwrap(), "refund")
            .await;
        assert_eq!(reconcile(arena, &shop.gateway, &[]).await, clean);

        let charges = shop.gateway.charges().await;
        shop.gateway
            .meddle(charges[0]["id"].as_str().unwrap(), "refund")
            .await;
        let (code, found) = reconcile(arena, &shop.gateway, &[]).await;
        let refunded = "captured here, refunded 5000 at the gateway";
        assert_eq!((code, found), (1, json!([refunded])));
    });
}

async fn execute(pool: &PgPool, statement: &str) {
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    let done = sqlx::query(statement).execute(pool).await.unwrap();
    assert!(done.rows_affected() > 0);
}
