//! Many shows for few workers, and many workers for one show.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Process, decided_through, eventually, join_lines, open_floors, run};

const LIMIT: Duration = Duration::from_secs(60);

fn one_place() -> Value {
    json!([{"general_admission": {"section": 0, "quantity": 1}}])
}

/// Requests in all lines that have no outcome.
async fn waiting(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select coalesce(sum(i.last_position - p.decided_through), 0)::bigint
        from show_intake i
        join show_progress p on p.show_id = i.show_id",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}

/// How often the log was read as a whole, and through an index.
async fn scans_of_the_log(pool: &PgPool) -> (i64, i64) {
    sqlx::query_as(
        "select coalesce(seq_scan, 0), coalesce(idx_scan, 0)
        from pg_stat_user_tables
        where relname = 'booking_requests'",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

#[test]
fn a_thousand_shows_are_decided_without_reading_the_whole_log() {
    run(async |arena| {
        let shows = open_floors(&arena.pool, 1_000, 6).await;
        join_lines(&arena.pool, &shows, 10, &one_place()).await;
        let (before, _) = scans_of_the_log(&arena.pool).await;

        let mut worker = arena.worker(&["--concurrency", "4"]).await;
        eventually(LIMIT, async || waiting(&arena.pool).await == 0).await;
        let of_one = "select max(outcomes) from
            (select count(*) as outcomes from outcomes where state = 'held' group by show_id) of_one";
        assert_eq!(count(&arena.pool, of_one).await, 6);
        assert_eq!(
            count(&arena.pool, "select count(*) from outcomes").await,
            10_000
        );
        // Its sessions say what they did when they end.
        worker.stop().await;
        eventually(LIMIT, async || {
            scans_of_the_log(&arena.pool).await.1 >= 1_000
        })
        .await;
        assert_eq!(scans_of_the_log(&arena.pool).await.0, before);
    });
}

#[test]
fn a_small_show_does_not_wait_for_the_backlogs_of_big_ones() {
    run(async |arena| {
        let big = open_floors(&arena.pool, 40, 10).await;
        join_lines(&arena.pool, &big, 500, &one_place()).await;
        let small = open_floors(&arena.pool, 1, 10).await[0];
        let mut worker = arena
            .worker(&["--concurrency", "1", "--turn-size", "10"])
            .await;
        let all_served = "select count(*) from show_progress where decided_through > 0";
        eventually(LIMIT, async || count(&arena.pool, all_served).await == 40).await;
        join_lines(&arena.pool, &[small], 10, &one_place()).await;
        eventually(LIMIT, async || {
            decided_through(&arena.pool, small).await == 10
        })
        .await;
        worker.stop().await;

        assert!(
            waiting(&arena.pool).await > 0,
            "the big ones are decided already"
        );
        let turns_before: i64 = sqlx::query_scalar(
            "select count(distinct (o.show_id, o.decided_at))
            from outcomes o
            cross join (
                select max(r.accepted_at) as accepted_at, max(o.decided_at) as decided_at
                from booking_requests r
                join outcomes o on o.show_id = r.show_id and o.position = r.position
                where r.show_id = $1
            ) small
            where o.show_id <> $1
                and o.decided_at between small.accepted_at and small.decided_at",
        )
        .bind(small)
        .fetch_one(&arena.pool)
        .await
        .unwrap();
        // Those of the look before, and those on their way.
        assert!(
            turns_before <= 15,
            "{turns_before} turns of others came first"
        );
        // And the big ones were served in turn.
        let (least, most): (i64, i64) = sqlx::query_as(
            "select min(decided_through), max(decided_through)
            from show_progress
            where show_id <> $1",
        )
        .bind(small)
        .fetch_one(&arena.pool)
        .await
        .unwrap();
        assert!(most - least <= 20, "decided from {least} to {most}");
    });
}

/// How many positions the turns of a worker passed, by its log.
fn decided_by(worker: &Process) -> i64 {
    let log = worker.stderr();
    let turns = log.split(" decided=").skip(1);
    let positions = turns.filter_map(|turn| turn.split(' ').next()?.parse::<i64>().ok());
    positions.sum()
}

#[test]
fn four_workers_decide_one_line_in_its_order() {
    run(async |arena| {
        let show = open_floors(&arena.pool, 1, 12_000).await[0];
        join_lines(&arena.pool, &[show], 20_000, &one_place()).await;
        let mut workers = Vec::new();
        for _ in 0..4 {
            let arguments = ["--turn-size", "100", "--log", "stampede_worker=debug"];
            workers.push(arena.worker(&arguments).await);
        }
        eventually(LIMIT, async || waiting(&arena.pool).await == 0).await;
        for worker in &mut workers {
            worker.stop().await;
        }
        let decided: Vec<i64> = workers.iter().map(decided_by).collect();
        let busy = decided.iter().filter(|decided| **decided > 0).count();
        assert!(busy > 1, "{decided:?}");
        // Nobody was decided in two turns, which the rows alone would not show.
        assert_eq!(decided.iter().sum::<i64>(), 20_000, "{decided:?}");

        // The first come were served, and nobody was served before whoever came earlier.
        assert_eq!(
            count(&arena.pool, "select count(*) from outcomes").await,
            20_000
        );
        let served = "select count(*) from outcomes where (state = 'held') = (position <= 12000)";
        assert_eq!(count(&arena.pool, served).await, 20_000);
        let overtaken = "select count(*) from
            (select decided_at < lag(decided_at) over (order by position) as early from outcomes) o
            where early";
        assert_eq!(count(&arena.pool, overtaken).await, 0);
    });
}
