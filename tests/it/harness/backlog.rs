//! Lines and shows that are there at once, by SQL: what would take a crowd minutes over HTTP.

use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

/// So many shows whose sale is open, each with one section for general admission, `FLOOR`.
pub async fn open_floors(pool: &PgPool, shows: i32, capacity: i32) -> Vec<Uuid> {
    let mut tx = pool.begin().await.unwrap();
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "insert into shows (show_id, name, currency, buyer_limit, hold_seconds, created_at)
        select gen_random_uuid(), 'Floor ' || n, 'EUR', 8, 600, now()
        from generate_series(1, $1) as n
        returning show_id",
    )
    .bind(shows)
    .fetch_all(&mut *tx)
    .await
    .expect("inserting shows");
    for rows in [
        "insert into sections (show_id, section_no, name, kind, price, capacity, version)
        select id, 0, 'FLOOR', 'general_admission', 3000, $2, 0 from unnest($1) as id",
        "insert into show_inventory (show_id) select id from unnest($1) as id where $2 > 0",
        "insert into show_intake (show_id, sale_state, queue_limit, changed_at)
        select id, 'open', 1000000, now() from unnest($1) as id where $2 > 0",
        "insert into show_progress (show_id, served_at)
        select id, now() from unnest($1) as id where $2 > 0",
    ] {
        sqlx::query(rows)
            .bind(&ids)
            .bind(capacity)
            .execute(&mut *tx)
            .await
            .expect("inserting what belongs to shows");
    }
    tx.commit().await.unwrap();
    ids
}

/// Lets so many buyers, each another one, join the line of every one of the shows at once. `wishes`
/// are as the log has them.
pub async fn join_lines(pool: &PgPool, shows: &[Uuid], requests: i32, wishes: &Value) {
    let mut tx = pool.begin().await.unwrap();
    sqlx::query(
        "insert into booking_requests (
            show_id, position, request_id, buyer_id, idempotency_key, body_hash, wishes, accepted_at
        )
        select i.show_id, i.last_position + n, gen_random_uuid(), 'buyer-' || i.last_position + n,
            'key-' || i.last_position + n, sha256('body'), $3, clock_timestamp()
        from show_intake i
        cross join generate_series(1, $2) as n
        where i.show_id = any($1)",
    )
    .bind(shows)
    .bind(requests)
    .bind(wishes)
    .execute(&mut *tx)
    .await
    .expect("appending to the log");
    sqlx::query(
        "update show_intake
        set last_position = last_position + $2
        where show_id = any($1)",
    )
    .bind(shows)
    .bind(requests)
    .execute(&mut *tx)
    .await
    .expect("giving positions");
    tx.commit().await.unwrap();
}

/// How far the line of a show is decided.
pub async fn decided_through(pool: &PgPool, show: Uuid) -> i64 {
    sqlx::query_scalar("select decided_through from show_progress where show_id = $1")
        .bind(show)
        .fetch_one(pool)
        .await
        .expect("reading how far the line is decided")
}
