//! Processes that are killed, stopped and frozen: nothing that was accepted is lost or doubled, and
//! whoever is left goes on at once.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::time::Instant;

use crate::{
    flood::Flood,
    harness::{
        Answer, Api, Arena, decided_through, eventually, floor, join_lines, open_floors, run, send,
        show, try_send,
    },
};

/// How long a step may take that takes milliseconds.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// One place on the floor, as buyers ask for it and as the log has it.
fn one_place() -> Value {
    json!({"wishes": [{"kind": "general_admission", "section": "FLOOR", "quantity": 1}]})
}

fn one_place_in_the_log() -> Value {
    json!([{"general_admission": {"section": 0, "quantity": 1}}])
}

/// An address for an API that is killed and started again. Below the ports that the system gives to
/// anybody, for one of them might be given away meanwhile.
pub fn address_to_come_back_to() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + std::process::id() as u16 % 8_000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Positions given and decided, in all shows.
pub async fn progress(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select coalesce(sum(i.last_position), 0)::bigint,
            coalesce(sum(p.decided_through), 0)::bigint
        from show_intake i
        join show_progress p on p.show_id = i.show_id",
    )
    .fetch_one(pool)
    .await
}

#[test]
fn a_flood_through_kills_of_everybody_loses_and_doubles_nothing() {
    run(async |arena| {
        let address = address_to_come_back_to();
        let (mut api, client) = arena.api_on(&address, &[]).await;
        let mut workers = [arena.worker(&[]).await, arena.worker(&[]).await];
        let arguments = [
            "--requests",
            "3000",
            "--arrivals",
            "poisson",
            "--rate",
            "500",
        ];
        let mut flood = Flood::start(arena, &client.url, &arguments);
        let mut kills = 0;
        let (mut given, mut decided) = (0, 0);
        while flood.goes_on().await {
            let now = progress(&arena.pool).await.unwrap();
            if now.0 > given + 300 {
                api.kill();
                api = arena.api_on(&address, &[]).await.0;
                given = now.0;
                kills += 1;
            }
            if now.1 > decided + 200 {
                let worker = &mut workers[kills % 2];
                worker.kill();
                *worker = arena.worker(&[]).await;
                decided = now.1;
            }
        }
        assert!(kills >= 5, "only {kills} kills");
        let figures = flood.end_clean().await;
        let broken = &figures["retries"]["connection-broken"];
        assert!(
            broken.as_u64() > Some(0),
            "nobody noticed: {}",
            figures["retries"]
        );
    });
}

/// A gate at which transactions wait as long as it is closed.
struct Gate(PgConnection);

impl Gate {
    /// Where acceptances wait that have done everything but their commit.
    async fn for_acceptances(arena: &Arena) -> Gate {
        Gate::closed(
            arena,
            "create constraint trigger gate after insert on booking_requests
                deferrable initially deferred for each row execute function pass_gate()",
        )
        .await
    }

    /// Where turns wait while they record their outcomes.
    async fn for_turns(arena: &Arena) -> Gate {
        Gate::closed(
            arena,
            "create trigger gate after insert on outcomes
                for each statement execute function pass_gate()",
        )
        .await
    }

    async fn closed(arena: &Arena, trigger: &'static str) -> Gate {
        let mut connection = PgConnection::connect(&arena.database_url()).await.unwrap();
        let function = "create function pass_gate() returns trigger language plpgsql
            as $$ begin perform pg_advisory_xact_lock(1); return null; end $$";
        connection.execute(function).await.unwrap();
        connection.execute(trigger).await.unwrap();
        let mut gate = Gate(connection);
        gate.close().await;
        gate
    }

    async fn close(&mut self) {
        self.0.execute("select pg_advisory_lock(1)").await.unwrap();
    }

    async fn open(&mut self) {
        self.0
            .execute("select pg_advisory_unlock(1)")
            .await
            .unwrap();
    }

    /// Returns when a transaction waits.
    async fn holds_somebody(&self, pool: &PgPool) {
        eventually(STEP_LIMIT, async || at_gate(pool).await > 0).await;
    }
}

async fn at_gate(pool: &PgPool) -> i64 {
    count(
        pool,
        "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event = 'advisory'",
    )
    .await
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

const IN_THE_LOG: &str = "select count(*) from booking_requests";

const SESSIONS_OF_THE_API: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'stampede api'";

/// Sends one buyer's submission in the background.
fn submit_in_background(
    client: &Api,
    show: &str,
    buyer: &str,
) -> tokio::task::JoinHandle<reqwest::Result<Answer>> {
    let buyer = client.buyer(buyer);
    tokio::spawn(try_send(buyer.submission(
        show,
        "the-only-key",
        &one_place(),
    )))
}

#[test]
fn a_place_is_told_only_when_it_is_committed_and_an_unknown_one_is_found_by_its_key() {
    run(async |arena| {
        let (mut api, client) = arena.api(&[]).await;
        let show = client.open_show(&show([floor("FLOOR", 10)])).await;
        let mut gate = Gate::for_acceptances(arena).await;

        // The commit outlives the API that asked for it.
        let submission = submit_in_background(&client, &show, "alice");
        gate.holds_somebody(&arena.pool).await;
        api.kill();
        let told = submission.await.unwrap();
        assert!(told.is_err(), "told before the commit: {told:?}");
        gate.open().await;
        eventually(STEP_LIMIT, async || {
            count(&arena.pool, SESSIONS_OF_THE_API).await == 0
        })
        .await;
        assert_eq!(count(&arena.pool, IN_THE_LOG).await, 1);
        let (mut api, client) = arena.api(&[]).await;
        let again = submit_in_background(&client, &show, "alice")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.expect(202)["position"], 1);

        // This one goes down with it.
        gate.close().await;
        let submission = submit_in_background(&client, &show, "bob");
        gate.holds_somebody(&arena.pool).await;
        api.kill();
        assert!(submission.await.unwrap().is_err());
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where datname = current_database() and application_name = 'stampede api'";
        assert!(count(&arena.pool, cut).await > 0);
        gate.open().await;
        eventually(STEP_LIMIT, async || {
            count(&arena.pool, SESSIONS_OF_THE_API).await == 0
        })
        .await;
        assert_eq!(count(&arena.pool, IN_THE_LOG).await, 1);
        let (_api, client) = arena.api(&[]).await;
        let again = submit_in_background(&client, &show, "bob")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(again.header("idempotency-replayed"), None);
        assert_eq!(again.expect(202)["position"], 2);
        assert_eq!(count(&arena.pool, IN_THE_LOG).await, 2);
    });
}

#[test]
fn an_api_that_is_asked_to_stop_answers_what_it_has_accepted() {
    run(async |arena| {
        let (mut api, client) = arena.api(&[]).await;
        let show = client.open_show(&show([floor("FLOOR", 100)])).await;
        let waiting = client.buyer("early");
        let accepted = waiting.submit(&show, &one_place()).await.expect(202);
        let request = accepted["id"].as_str().unwrap().to_owned();
        let mut gate = Gate::for_acceptances(arena).await;
        let submissions: Vec<_> = (0..20)
            .map(|n| submit_in_background(&client, &show, &format!("buyer-{n}")))
            .collect();
        gate.holds_somebody(&arena.pool).await;
        let path = format!("/v1/shows/{show}/requests/{request}");
        let poll = waiting
            .request(Method::GET, &path)
            .header("Prefer", "wait=25");
        let poll = tokio::spawn(send(poll));
        eventually(STEP_LIMIT, async || waiters(&client).await == Some(1)).await;

        let asked = Instant::now();
        api.signal("TERM");
        let undecided = poll.await.unwrap().expect(200);
        assert_eq!(undecided["state"], "queued");
        gate.open().await;
        let mut told = 0;
        for submission in submissions {
            // Who was not read yet sees a closed connection, never half an answer.
            if let Ok(answer) = submission.await.unwrap() {
                answer.expect(202);
                told += 1;
            }
        }
        assert!(told > 0);
        assert_eq!(count(&arena.pool, IN_THE_LOG).await, 1 + told);
        let status = api.exit().await;
        assert!(status.success(), "{status}: {}", api.stderr());
        assert!(
            asked.elapsed() < Duration::from_secs(5),
            "{:?}",
            asked.elapsed()
        );
    });
}

/// How many wait for an outcome, as the API counts them once a second.
pub async fn waiters(client: &Api) -> Option<u64> {
    let response = client.request(Method::GET, "/metrics").send().await.ok()?;
    let metrics = response.text().await.ok()?;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("stampede_waiters"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_worker_that_is_asked_to_stop_ends_its_turn_first() {
    run(async |arena| {
        let show = open_floors(&arena.pool, 1, 1_000).await[0];
        join_lines(&arena.pool, &[show], 200, &one_place_in_the_log()).await;
        let mut gate = Gate::for_turns(arena).await;
        let mut worker = arena.worker(&["--turn-size", "10"]).await;
        gate.holds_somebody(&arena.pool).await;
        let asked = Instant::now();
        worker.signal("TERM");
        eventually(STEP_LIMIT, async || {
            worker.stderr().contains("worker drains")
        })
        .await;
        assert!(worker.is_running());
        gate.open().await;
        let status = worker.exit().await;
        assert!(status.success(), "{status}: {}", worker.stderr());
        let elapsed = asked.elapsed();
        assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
        let decided = decided_through(&arena.pool, show).await;
        // One turn more may have been on its way to a handler.
        assert!(decided == 10 || decided == 20, "{decided}");
        let outcomes = count(&arena.pool, "select count(*) from outcomes").await;
        assert_eq!(outcomes, decided);
    });
}

#[test]
fn an_idle_worker_stops_at_once() {
    run(async |arena| {
        let mut worker = arena.worker(&[]).await;
        let asked = Instant::now();
        worker.stop().await;
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
    });
}

/// Workers that have done all of a turn but its commit.
async fn turns_before_commit(pool: &PgPool) -> i64 {
    count(
        pool,
        "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'stampede worker'
            and state = 'idle in transaction' and query like '%pg_notify%'",
    )
    .await
}

/// Workers that have left a show to another worker.
const TURNS_GIVEN_UP: &str = "select count(*) from pg_stat_activity
    where datname = current_database() and application_name = 'stampede worker'
        and state = 'idle' and query = 'ROLLBACK'";

#[test]
fn the_next_outcome_comes_within_a_second_of_a_kill() {
    run(async |arena| {
        let (_api, client) = arena.api(&[]).await;
        let show = client.open_show(&show([floor("FLOOR", 100)])).await;
        for round in 0..3 {
            let mut first = arena
                .worker_failing("turn_before_commit=1*sleep(2500)", &[])
                .await;
            let buyer = client.buyer(&format!("buyer-{round}"));
            let accepted = buyer.submit(&show, &one_place()).await.expect(202);
            let request = accepted["id"].as_str().unwrap();
            eventually(STEP_LIMIT, async || {
                turns_before_commit(&arena.pool).await == 1
            })
            .await;
            let second = arena.worker(&[]).await;
            // The second has looked and found the show taken.
            eventually(STEP_LIMIT, async || {
                count(&arena.pool, TURNS_GIVEN_UP).await > 0
            })
            .await;
            let waiting = buyer.poll(&show, request, 0).await.expect(200);
            assert_eq!(waiting["state"], "queued");

            first.kill();
            let killed = Instant::now();
            let outcome = buyer.outcome(&show, request).await;
            assert!(
                killed.elapsed() < Duration::from_secs(1),
                "{:?}",
                killed.elapsed()
            );
            assert_eq!(outcome["state"], "held");
            drop(second);
        }
    });
}

#[test]
fn a_worker_frozen_in_its_transaction_is_overtaken_and_harmless_when_it_wakes() {
    run(async |arena| {
        let show = open_floors(&arena.pool, 1, 150).await[0];
        join_lines(&arena.pool, &[show], 100, &one_place_in_the_log()).await;
        let mut frozen = arena
            .worker_failing("turn_before_commit=1*sleep(2000)", &[])
            .await;
        eventually(STEP_LIMIT, async || {
            turns_before_commit(&arena.pool).await == 1
        })
        .await;
        frozen.signal("STOP");
        let since = Instant::now();
        let mut other = arena.worker(&[]).await;
        assert_eq!(decided_through(&arena.pool, show).await, 0);
        let overtaken = Duration::from_secs(6);
        eventually(overtaken, async || {
            decided_through(&arena.pool, show).await == 100
        })
        .await;
        assert!(since.elapsed() < overtaken, "{:?}", since.elapsed());

        // It wakes up in the middle of the turn that the other one has taken.
        frozen.signal("CONT");
        join_lines(&arena.pool, &[show], 20, &one_place_in_the_log()).await;
        eventually(STEP_LIMIT, async || {
            decided_through(&arena.pool, show).await == 120
        })
        .await;
        other.stop().await;
        // 30 places are left. It goes on where the line is, on the inventory as it is.
        join_lines(&arena.pool, &[show], 40, &one_place_in_the_log()).await;
        eventually(STEP_LIMIT, async || {
            decided_through(&arena.pool, show).await == 160
        })
        .await;
        let held = "select count(*) from outcomes where state = 'held' and position <= 150";
        assert_eq!(count(&arena.pool, held).await, 150);
        assert_eq!(
            count(&arena.pool, "select count(*) from outcomes").await,
            160
        );
        frozen.stop().await;
    });
}

#[test]
fn an_api_frozen_in_its_transaction_is_overtaken_and_harmless_when_it_wakes() {
    run(async |arena| {
        let (mut frozen, client) = arena.api(&[]).await;
        let show = client.open_show(&show([floor("FLOOR", 100)])).await;
        let mut gate = Gate::for_acceptances(arena).await;
        let late = submit_in_background(&client, &show, "alice");
        gate.holds_somebody(&arena.pool).await;
        frozen.signal("STOP");
        // Its commit happens without it; nobody has to wait for it.
        gate.open().await;
        let (_api, other) = arena.api(&[]).await;
        let bob = submit_in_background(&other, &show, "bob")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(bob.expect(202)["position"], 2);
        frozen.signal("CONT");
        assert_eq!(late.await.unwrap().unwrap().expect(202)["position"], 1);
        frozen.stop().await;
    });
}
