//! Events become deliveries: one for each endpoint that wants it.

use sqlx::PgConnection;
use stampede_shared::{
    events::EVERY_TYPE,
    store::{
        Database, across_shows,
        outbox::{self, Head},
        outbox_progress,
        webhook_deliveries::{self, NewDeliveries},
        webhook_endpoints::{self, Endpoint},
        webhook_streams,
    },
};
use tracing::warn;
use uuid::Uuid;

/// The most shows that one round looks at.
const SHOWS_PER_ROUND: i64 = 100;

/// The most transactions for one show in a row; then it is the next one's turn.
const STEPS_PER_SHOW: usize = 20;

/// The most endpoints of a show; as many as there may be at all, and those that came at the same time.
const ENDPOINTS_MAX: i64 = 200;

/// The most deliveries that one transaction makes, and the most and fewest events it takes for that.
const DELIVERIES_MAX: i64 = 5_000;
const EVENTS_MAX: i64 = 500;
const EVENTS_MIN: i64 = 50;

/// Makes the deliveries of all events that are new.
pub async fn round(database: &Database) {
    if let Err(error) = try_round(database).await {
        warn!(%error, "cannot make deliveries of events; trying again");
    }
}

async fn try_round(database: &Database) -> sqlx::Result<()> {
    for show_id in across_shows::shows_with_new_events(&database.pool, SHOWS_PER_ROUND).await? {
        for _ in 0..STEPS_PER_SHOW {
            let mut tx = database.begin().await?;
            let more = step(&mut tx, show_id).await?;
            tx.commit().await?;
            if !more {
                break;
            }
        }
    }
    Ok(())
}

/// Takes the next events of a show. Returns whether there may be more.
async fn step(connection: &mut PgConnection, show_id: Uuid) -> sqlx::Result<bool> {
    let Some(through) = outbox_progress::lock(connection, show_id).await? else {
        return Ok(false);
    };
    let endpoints = webhook_endpoints::list_of_show(connection, show_id, ENDPOINTS_MAX).await?;
    let count = endpoints.len().max(1) as i64;
    let limit = (DELIVERIES_MAX / count).clamp(EVENTS_MIN, EVENTS_MAX);
    let events = outbox::list_after(connection, show_id, through, limit).await?;
    let Some(last) = events.last() else {
        return Ok(false);
    };
    let (new, woken) = deliveries(&events, &endpoints);
    if !woken.is_empty() {
        webhook_deliveries::insert(connection, show_id, &new).await?;
        webhook_streams::wake(connection, show_id, &woken).await?;
    }
    outbox_progress::advance(connection, show_id, last.sequence).await?;
    Ok(events.len() as i64 == limit)
}

/// Which event goes where, and the endpoints that something goes to.
fn deliveries(events: &[Head], endpoints: &[Endpoint]) -> (NewDeliveries, Vec<Uuid>) {
    let mut new = NewDeliveries::default();
    for event in events {
        for endpoint in endpoints.iter().filter(|endpoint| wants(endpoint, event)) {
            new.delivery_ids.push(Uuid::now_v7());
            new.endpoint_ids.push(endpoint.endpoint_id);
            new.sequences.push(event.sequence);
        }
    }
    let mut woken = new.endpoint_ids.clone();
    woken.sort_unstable();
    woken.dedup();
    (new, woken)
}

/// An endpoint takes what happens from its registration on.
fn wants(endpoint: &Endpoint, event: &Head) -> bool {
    let mut types = endpoint.event_types.iter();
    endpoint.created_at <= event.created_at
        && types.any(|wanted| *wanted == event.event_type || wanted == EVERY_TYPE)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn endpoint(event_types: &[&str], created_s: i64) -> Endpoint {
        Endpoint {
            endpoint_id: Uuid::now_v7(),
            url: "https://example.com".to_owned(),
            event_types: event_types.iter().map(|&word| word.to_owned()).collect(),
            only_show_id: None,
            created_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(created_s),
            failing_since: None,
            disabled_at: None,
            disabled_reason: None,
        }
    }

    fn event(sequence: i64, event_type: &str) -> Head {
        Head {
            sequence,
            event_type: event_type.to_owned(),
            created_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(sequence),
        }
    }

    #[test]
    fn an_event_goes_to_each_endpoint_that_wants_its_type_and_was_there() {
        let endpoints = [
            endpoint(&["request.held"], 0),
            endpoint(&["*"], 2),
            endpoint(&["payment.failed"], 0),
        ];
        let events = [
            event(1, "request.held"),
            event(2, "request.held"),
            event(3, "sale.state_changed"),
        ];
        let (new, woken) = deliveries(&events, &endpoints);
        let [held, all, _] = endpoints.map(|endpoint| endpoint.endpoint_id);
        let made: Vec<(i64, Uuid)> = new.sequences.into_iter().zip(new.endpoint_ids).collect();
        assert_eq!(made, [(1, held), (2, held), (2, all), (3, all)]);
        assert_eq!(woken, [held, all]);
    }
}
