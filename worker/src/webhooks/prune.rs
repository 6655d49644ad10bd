//! Events are thrown away when they are old, with their deliveries; but never one that an endpoint still
//! waits for. An endpoint that was disabled for as long as events are kept waits for nothing.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use stampede_shared::store::{
    Database, across_shows, outbox, outbox_progress, webhook_deliveries, webhook_streams,
};
use uuid::Uuid;

/// The most shows of one look.
const SHOWS_MAX: i64 = 100;

/// The most events that one transaction looks at.
const EVENTS_MAX: i64 = 500;

/// Throws away what is older than `before`, a little at a time. Returns how many events.
pub async fn prune(database: &Database, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let mut pruned = 0;
    let mut after = Uuid::nil();
    loop {
        let pool = &database.pool;
        let shows = across_shows::shows_with_old_events(pool, after, before, SHOWS_MAX).await?;
        let Some(&last) = shows.last() else {
            return Ok(pruned);
        };
        for show_id in shows {
            pruned += prune_show(database, show_id, before).await?;
        }
        after = last;
    }
}

async fn prune_show(
    database: &Database,
    show_id: Uuid,
    before: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let mut pruned = 0;
    let mut after = 0;
    loop {
        let mut tx = database.begin().await?;
        let step = step(&mut tx, show_id, after, before).await?;
        tx.commit().await?;
        let Some((last, some)) = step else {
            return Ok(pruned);
        };
        pruned += some;
        after = last;
    }
}

/// Looks at the old events after `after`; returns the last of them and how many it threw away. `None` when
/// there are none, or another process has the outbox.
async fn step(
    connection: &mut PgConnection,
    show_id: Uuid,
    after: i64,
    before: DateTime<Utc>,
) -> sqlx::Result<Option<(i64, u64)>> {
    let Some(dispatched_through) = outbox_progress::lock(connection, show_id).await? else {
        return Ok(None);
    };
    let events = outbox::list_after(connection, show_id, after, EVENTS_MAX).await?;
    let old = events
        .into_iter()
        .take_while(|event| event.created_at < before && event.sequence <= dispatched_through);
    let old: Vec<i64> = old.map(|event| event.sequence).collect();
    let Some(&last) = old.last() else {
        webhook_streams::forget_gone(connection, show_id).await?;
        return Ok(None);
    };
    webhook_deliveries::delete_ended(connection, show_id, &old, before).await?;
    let pruned = outbox::delete_delivered(connection, show_id, &old).await?;
    Ok(Some((last, pruned)))
}
