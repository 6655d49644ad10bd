//! Events of gateways that were stored but not applied: the payment is looked at because of them.
//!
//! Mostly the API has done so when the event came. This is for when it could not: it died, or the
//! gateway did not answer. A payment that is final is looked at by nothing else.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stampede_shared::store::{across_shows, gateway_events};
use uuid::Uuid;

use super::{Job, Jobs, ShowJob};

#[derive(Debug, Serialize, Deserialize)]
pub struct ApplyEvent {
    show_id: Uuid,
    gateway: String,
    event_id: String,
    payment_id: Uuid,
}

impl Job for ApplyEvent {
    const QUEUE: &'static str = "apply_event";
    const AT_ONCE: usize = 8;

    async fn run(self, jobs: Jobs) -> anyhow::Result<()> {
        if jobs
            .till
            .drive(self.show_id, self.payment_id)
            .await?
            .is_some()
        {
            let pool = &jobs.database.pool;
            let (gateways, ids) = ([self.gateway], [self.event_id]);
            gateway_events::applied(pool, self.show_id, &gateways, &ids).await?;
        }
        Ok(())
    }
}

impl ShowJob for ApplyEvent {
    async fn shows(jobs: &Jobs, limit: i64) -> sqlx::Result<Vec<Uuid>> {
        across_shows::shows_with_events_to_apply(&jobs.database.pool, limit).await
    }

    async fn take_due(
        connection: &mut PgConnection,
        show_id: Uuid,
        _: &Jobs,
        limit: i64,
    ) -> sqlx::Result<Vec<ApplyEvent>> {
        let due = gateway_events::take_due(connection, show_id, limit).await?;
        let due = due.into_iter().map(|event| ApplyEvent {
            show_id,
            gateway: event.gateway,
            event_id: event.event_id,
            payment_id: event.payment_id,
        });
        Ok(due.collect())
    }
}
