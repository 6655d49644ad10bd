//! Delivering: the job that calls an endpoint with what is due of a show, and then of other shows, until
//! nothing is left, a call fails, or its time is up. A job that dies is done again when its lease is over.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stampede_shared::store::{
    across_shows,
    webhook_streams::{self, Lease},
};
use uuid::Uuid;

use super::{Job, Jobs, queues};
use crate::webhooks::{End, Stream};

/// A job that is not done after this makes room for those that wait.
const BUDGET: Duration = Duration::from_secs(10);

/// How many jobs an endpoint has at once, in all processes; one while it is failing. One that hangs keeps
/// no more places than this from the others.
const JOBS_EACH: i64 = 2;

/// The most streams that one round of the dispatcher leases.
const STREAMS_PER_ROUND: i64 = 200;

#[derive(Debug, Serialize, Deserialize)]
pub struct DeliverWebhooks {
    show_id: Uuid,
    endpoint_id: Uuid,
    leased_until: DateTime<Utc>,
}

impl DeliverWebhooks {
    fn new(show_id: Uuid, lease: Lease) -> DeliverWebhooks {
        DeliverWebhooks {
            show_id,
            endpoint_id: lease.endpoint_id,
            leased_until: lease.leased_until,
        }
    }

    fn stream(self, jobs: &Jobs) -> Stream {
        Stream {
            show_id: self.show_id,
            lease: Lease {
                endpoint_id: self.endpoint_id,
                leased_until: self.leased_until,
            },
            database: jobs.database.clone(),
            webhooks: jobs.webhooks.clone(),
        }
    }
}

/// Pushes jobs for what is due. No endpoint gets more of them than its share, however many shows have
/// something for it.
pub async fn push_due(jobs: &Jobs) -> anyhow::Result<()> {
    let pool = &jobs.database.pool;
    let mut of_shows: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for stream in across_shows::webhook_streams_due(pool, JOBS_EACH, STREAMS_PER_ROUND).await? {
        let endpoint_ids = of_shows.entry(stream.show_id).or_default();
        endpoint_ids.push(stream.endpoint_id);
    }
    for (show_id, endpoint_ids) in of_shows {
        let mut tx = jobs.database.begin().await?;
        let lease = jobs.webhooks.lease();
        let leases = webhook_streams::lease_due(&mut tx, show_id, &endpoint_ids, lease).await?;
        let due = leases
            .into_iter()
            .map(|lease| DeliverWebhooks::new(show_id, lease));
        queues::push(&mut tx, &due.collect::<Vec<_>>()).await?;
        tx.commit().await?;
    }
    Ok(())
}

impl Job for DeliverWebhooks {
    const QUEUE: &'static str = "deliver_webhooks";
    /// They wait for endpoints and hold no connection meanwhile.
    const AT_ONCE: usize = 16;

    async fn run(self, jobs: Jobs) -> anyhow::Result<()> {
        let deadline = Instant::now() + BUDGET;
        let endpoint_id = self.endpoint_id;
        let mut next = Some(self);
        while let Some(job) = next.take() {
            let mut stream = job.stream(&jobs);
            let end = stream.deliver(deadline).await?;
            if end != End::Taken {
                stream.finish().await.context("giving deliveries back")?;
            }
            if end == End::Done && Instant::now() < deadline {
                next = another(&jobs, endpoint_id)
                    .await
                    .context("leasing deliveries")?;
            }
        }
        Ok(())
    }
}

/// What another show has for the endpoint that the job is at already.
async fn another(jobs: &Jobs, endpoint_id: Uuid) -> sqlx::Result<Option<DeliverWebhooks>> {
    let pool = &jobs.database.pool;
    let Some(show_id) = across_shows::show_with_due_webhooks(pool, endpoint_id).await? else {
        return Ok(None);
    };
    let mut tx = jobs.database.begin().await?;
    let lease = jobs.webhooks.lease();
    let leases = webhook_streams::lease_due(&mut tx, show_id, &[endpoint_id], lease).await?;
    tx.commit().await?;
    let first = leases.into_iter().next();
    Ok(first.map(|lease| DeliverWebhooks::new(show_id, lease)))
}
