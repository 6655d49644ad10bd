//! The guards themselves. Several of them keep each promise, so a test of the whole would not notice
//! that one is gone; these do.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{PgConnection, PgPool, Postgres, Transaction, postgres::PgDatabaseError};
use stampede_shared::store::{
    Database, DatabaseSettings, show_intake, show_inventory, show_progress,
};
use stampede_worker::{TurnResult, TurnTaker};
use uuid::Uuid;

use crate::{
    harness::{Api, Arena, eventually, floor, run, seated, show},
    wishes::{body, hold_id, places, seats},
};

const LIMIT: Duration = Duration::from_secs(10);

async fn database(arena: &Arena) -> Database {
    let settings = DatabaseSettings {
        database_url: arena.database_url(),
        listen_database_url: None,
    };
    Database::connect(&settings, 3, "guards").await.unwrap()
}

async fn open_show(api: &Api) -> Uuid {
    let show = show([floor("FLOOR", 100), seated("A", 1, 2)]);
    api.open_show(&show).await.parse().unwrap()
}

/// A transaction that does not wait for locks.
async fn impatient(database: &Database) -> Transaction<'static, Postgres> {
    let mut tx = database.begin().await.unwrap();
    sqlx::query("set local lock_timeout = '50ms'")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx
}

/// That it gave up waiting for a lock.
#[track_caller]
fn waited<T: std::fmt::Debug>(result: sqlx::Result<T>) {
    let error = result.expect_err("it did not wait for the lock");
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("55P03"), "{error}");
}

#[test]
fn positions_are_given_by_one_at_a_time() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let (show_id, database) = (open_show(&api).await, database(arena).await);
        let mut first = database.begin().await.unwrap();
        assert!(
            show_intake::lock(&mut first, show_id)
                .await
                .unwrap()
                .is_some()
        );
        let mut second = impatient(&database).await;
        waited(show_intake::lock(&mut second, show_id).await);
    });
}

#[test]
fn a_turn_is_taken_by_one_worker_and_the_others_do_not_wait() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let (show_id, database) = (open_show(&api).await, database(arena).await);
        let submission = body(&[places("FLOOR", 1)]);
        api.buyer("ada")
            .submit(&show_id.to_string(), &submission)
            .await
            .expect(202);
        let mut first = database.begin().await.unwrap();
        assert!(
            show_progress::lock(&mut first, show_id)
                .await
                .unwrap()
                .is_some()
        );
        let turns = TurnTaker::new(database);
        let busy = tokio::time::timeout(Duration::from_secs(1), turns.decide(show_id, 10));
        let busy = busy
            .await
            .expect("it waits for the turn of another")
            .unwrap();
        assert!(matches!(busy, TurnResult::Busy), "{busy:?}");
        first.rollback().await.unwrap();
        let decided = turns.decide(show_id, 10).await.unwrap();
        assert!(
            matches!(
                decided,
                TurnResult::Decided {
                    decided: 1,
                    more: false
                }
            ),
            "{decided:?}"
        );
    });
}

#[test]
fn what_a_show_sells_changes_by_one_at_a_time() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let (show_id, database) = (open_show(&api).await, database(arena).await);
        let mut first = database.begin().await.unwrap();
        assert!(
            show_inventory::lock(&mut first, show_id)
                .await
                .unwrap()
                .is_some()
        );
        let mut second = impatient(&database).await;
        waited(show_inventory::lock(&mut second, show_id).await);
    });
}

#[test]
fn shows_do_not_wait_for_each_other() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let (one, other) = (open_show(&api).await, open_show(&api).await);
        let database = database(arena).await;
        let mut first = database.begin().await.unwrap();
        show_intake::lock(&mut first, one).await.unwrap();
        show_progress::lock(&mut first, one).await.unwrap();
        show_inventory::lock(&mut first, one).await.unwrap();
        let mut second = impatient(&database).await;
        assert!(
            show_intake::lock(&mut second, other)
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            show_progress::lock(&mut second, other)
                .await
                .unwrap()
                .is_some()
        );
        assert!(
            show_inventory::lock(&mut second, other)
                .await
                .unwrap()
                .is_some()
        );
    });
}

/// Runs `lock` while another transaction has the row; when the wait ended, and what time `lock` says
/// it is then.
async fn clock_after_a_wait(
    arena: &Arena,
    blocking: &'static str,
    lock: impl AsyncFnOnce(&mut PgConnection) -> DateTime<Utc>,
) -> (DateTime<Utc>, DateTime<Utc>) {
    let database = database(arena).await;
    let mut first = database.begin().await.unwrap();
    sqlx::query(blocking).execute(&mut *first).await.unwrap();
    let mut second = database.begin().await.unwrap();
    let release = async {
        let waiting = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        eventually(LIMIT, async || count(&arena.pool, waiting).await > 0).await;
        let clock = sqlx::query_scalar("select clock_timestamp()");
        let released_at = clock.fetch_one(&arena.pool).await.unwrap();
        first.rollback().await.unwrap();
        released_at
    };
    tokio::join!(release, lock(&mut second))
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

#[test]
fn what_is_decided_by_the_clock_is_decided_after_the_wait() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let show_id = open_show(&api).await;
        let blocking = "select from show_inventory for update";
        let (released_at, now) = clock_after_a_wait(arena, blocking, async |second| {
            show_inventory::lock(second, show_id)
                .await
                .unwrap()
                .unwrap()
                .now
        })
        .await;
        assert!(
            now >= released_at,
            "a hold could be confirmed after it expired"
        );
        let blocking = "select from show_intake for update";
        let (released_at, now) = clock_after_a_wait(arena, blocking, async |second| {
            show_intake::lock(second, show_id)
                .await
                .unwrap()
                .unwrap()
                .now
        })
        .await;
        assert!(
            now >= released_at,
            "a position could be given after the closing time"
        );
    });
}

/// What the database refuses it with.
async fn refusal(pool: &PgPool, statement: &'static str) -> String {
    let error = sqlx::query(statement)
        .execute(pool)
        .await
        .expect_err(statement);
    let error = error
        .into_database_error()
        .expect(statement)
        .downcast::<PgDatabaseError>();
    error.constraint().unwrap_or_default().to_owned()
}

#[test]
fn the_database_refuses_what_must_never_be() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let _worker = arena.worker(&[]).await;
        let show_id = open_show(&api).await.to_string();
        let ada = api.buyer("ada");
        let held = ada.ask(&show_id, json!([seats(&["A-1-1"])])).await;
        ada.confirm(&show_id, hold_id(&held)).await.expect(200);
        api.buyer("bob")
            .ask(&show_id, json!([places("FLOOR", 2)]))
            .await;
        for (statement, constraint) in [
            (
                "insert into hold_seats (show_id, hold_id, seat_no)
                select show_id, (select hold_id from holds where buyer_id = 'bob'), seat_no
                from hold_seats",
                "hold_seats_once",
            ),
            (
                "update seats set status = 'available' where hold_id is not null",
                "seats_taken_by_a_hold",
            ),
            (
                "update seats set status = 'held' where hold_id is null",
                "seats_taken_by_a_hold",
            ),
            (
                "update sections set held = capacity + 1",
                "sections_not_oversold",
            ),
            (
                "update sections set held = -1",
                "sections_counters_positive",
            ),
            (
                "update buyer_totals set held = buyer_limit + 1",
                "buyer_totals_within_limit",
            ),
            (
                "update buyer_totals set held = -1, booked = 0",
                "buyer_totals_positive",
            ),
            (
                "insert into booking_requests
                select show_id, position + 100, gen_random_uuid(), buyer_id, idempotency_key,
                    body_hash, wishes, max_total, accepted_at
                from booking_requests",
                "booking_requests_key_once",
            ),
            (
                "insert into booking_requests
                select show_id, position, gen_random_uuid(), buyer_id, idempotency_key || '-2',
                    body_hash, wishes, max_total, accepted_at
                from booking_requests",
                "booking_requests_pkey",
            ),
            (
                "insert into outcomes (show_id, position, state, decided_at)
                select show_id, position, 'cancelled', now() from outcomes",
                "outcomes_once",
            ),
            (
                "insert into holds
                select show_id, gen_random_uuid(), position, buyer_id, state, section_no, quantity,
                    total, expires_at, created_at, ended_at, fees, kept_until
                from holds",
                "holds_position_once",
            ),
            (
                "insert into bookings (show_id, booking_id, hold_id, buyer_id, booked_at)
                select show_id, gen_random_uuid(), hold_id, buyer_id, booked_at from bookings",
                "bookings_once",
            ),
        ] {
            assert_eq!(
                refusal(&arena.pool, statement).await,
                constraint,
                "{statement}"
            );
        }
    });
}

#[test]
fn a_hold_is_over_at_its_time_for_the_desk_too() {
    run(async |arena| {
        let (_process, api) = arena.api(&[]).await;
        let worker = arena.worker(&[]).await;
        let show_id = open_show(&api).await.to_string();
        let ada = api.buyer("ada");
        let held = ada.ask(&show_id, json!([places("FLOOR", 1)])).await;
        drop(worker);
        // Nobody sweeps, and no turn comes.
        sqlx::query("update holds set expires_at = $1, kept_until = $1")
            .bind(Utc::now() - TimeDelta::milliseconds(1))
            .execute(&arena.pool)
            .await
            .unwrap();
        let refused = ada.confirm(&show_id, hold_id(&held)).await.expect(410);
        assert_eq!(refused["code"], "hold-expired");
        assert_eq!(count(&arena.pool, "select count(*) from bookings").await, 0);
    });
}
