//! What must be true of every show when a test ends, found by the checker of the flood.

use sqlx::PgPool;
use stampede_flood::checker;
use uuid::Uuid;

/// How many shows have requests that wait for a turn. In a paused sale they wait for the operator.
pub async fn work_left(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select count(*)
        from show_intake i
        join show_progress p on p.show_id = i.show_id
        where i.last_position > p.decided_through and i.sale_state <> 'paused'",
    )
    .fetch_one(pool)
    .await
    .expect("counting the shows with work")
}

/// What is broken, one line each; nothing if all is well.
pub async fn breaches(pool: &PgPool) -> Vec<String> {
    let shows: Vec<(Uuid, bool)> =
        sqlx::query_as("select show_id, sale_state = 'paused' from show_intake")
            .fetch_all(pool)
            .await
            .expect("reading the shows");
    let mut lines = Vec::new();
    for (show_id, paused) in shows {
        let violations = if paused {
            checker::check(pool, show_id).await
        } else {
            checker::check_drained(pool, show_id).await
        };
        for violation in violations.expect("checking a show") {
            lines.push(format!("{show_id}: {violation}"));
        }
    }
    lines
}
