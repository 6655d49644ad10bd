//! Delivering: the job that calls an endpoint with what is due of a show, and then of other shows, until
//! nothing is left, a call fails, or its time is up.
//!
//! One job at a time has the deliveries of a show to an endpoint, so they mostly arrive in order, and what
//! became of several calls is written in one transaction. A job that dies is done again when its lease is
//! over; what it had delivered without writing it down is delivered twice, with the same `webhook-id`.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stampede_shared::{
    domain::webhook::pause_after,
    store::{
        across_shows,
        webhook_deliveries::{self, Due, Tried},
        webhook_endpoints::{self, Target},
        webhook_streams::{self, Lease},
    },
};
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Job, Jobs, queues};
use crate::webhooks::Answer;

/// The most calls of one job at the same time.
const CALLS_AT_ONCE: usize = 4;

/// The most deliveries that are read at once.
const DUE_MAX: i64 = 32;

/// A job that is not done after this makes room for those that wait.
const BUDGET: Duration = Duration::from_secs(10);

/// A lease is so many times as long as a call may take.
const LEASE_IN_TIMEOUTS: u32 = 3;

/// How many jobs an endpoint has at once, in all processes; one while it is failing. One that hangs keeps
/// no more places than this from the others.
const JOBS_EACH: i64 = 2;

/// The most streams that one round of the dispatcher leases.
const STREAMS_PER_ROUND: i64 = 200;

/// An endpoint that has failed for so long without a success is disabled.
const FAILING_MAX: Duration = Duration::from_hours(72);

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
        let lease = lease_of(jobs);
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
        let started = Instant::now();
        let endpoint_id = self.endpoint_id;
        let mut next = Some(self);
        while let Some(job) = next.take() {
            let mut stream = Stream::of(job, &jobs);
            let end = stream.deliver(started).await?;
            if end != End::Taken {
                stream.finish().await.context("giving deliveries back")?;
            }
            if end == End::Done && started.elapsed() < BUDGET {
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
    let lease = lease_of(jobs);
    let leases = webhook_streams::lease_due(&mut tx, show_id, &[endpoint_id], lease).await?;
    tx.commit().await?;
    let first = leases.into_iter().next();
    Ok(first.map(|lease| DeliverWebhooks::new(show_id, lease)))
}

fn lease_of(jobs: &Jobs) -> Duration {
    jobs.webhooks.timeout * LEASE_IN_TIMEOUTS
}

/// How the work on a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Nothing is due any more.
    Done,
    /// The endpoint did not take everything, or the time is up.
    Stopped,
    /// Another job has the stream.
    Taken,
}

/// The deliveries of a show to an endpoint, while this job has them.
struct Stream {
    show_id: Uuid,
    lease: Lease,
    jobs: Jobs,
}

impl Stream {
    fn of(job: DeliverWebhooks, jobs: &Jobs) -> Stream {
        Stream {
            show_id: job.show_id,
            lease: Lease {
                endpoint_id: job.endpoint_id,
                leased_until: job.leased_until,
            },
            jobs: jobs.clone(),
        }
    }

    /// Delivers what is due.
    async fn deliver(&mut self, started: Instant) -> anyhow::Result<End> {
        let endpoint_id = self.lease.endpoint_id;
        while started.elapsed() < BUDGET {
            let pool = &self.jobs.database.pool;
            let target = webhook_endpoints::find_target(pool, endpoint_id).await;
            let Some(target) = target.context("reading an endpoint")? else {
                return Ok(End::Stopped);
            };
            let Some(due) = self.next().await.context("reading deliveries")? else {
                return Ok(End::Taken);
            };
            if due.is_empty() {
                return Ok(End::Done);
            }
            for some in in_order(&due) {
                let answers = self.call(&target, some).await;
                if !self.record(some, &answers).await? {
                    return Ok(End::Taken);
                }
                self.judge(&answers).await.context("judging an endpoint")?;
                let all_well = answers.iter().all(Answer::is_delivered);
                if !all_well || started.elapsed() >= BUDGET {
                    // What failed is due later, and whether the rest is tried is up to the next job.
                    return Ok(End::Stopped);
                }
            }
        }
        Ok(End::Stopped)
    }

    /// What is due; `None` when another job has the stream.
    async fn next(&mut self) -> sqlx::Result<Option<Vec<Due>>> {
        let mut tx = self.jobs.database.begin().await?;
        if self.renew(&mut tx).await?.is_none() {
            return Ok(None);
        }
        let endpoint_id = self.lease.endpoint_id;
        let due = webhook_deliveries::due(&mut tx, self.show_id, endpoint_id, DUE_MAX).await?;
        tx.commit().await?;
        Ok(Some(due))
    }

    /// Keeps the stream and returns the database's clock.
    async fn renew(
        &mut self,
        connection: &mut PgConnection,
    ) -> sqlx::Result<Option<DateTime<Utc>>> {
        let lease = lease_of(&self.jobs);
        let renewed = webhook_streams::renew(connection, self.show_id, &self.lease, lease).await?;
        Ok(renewed.map(|(lease, now)| {
            self.lease = lease;
            now
        }))
    }

    async fn call(&self, target: &Target, some: &[Due]) -> Vec<Answer> {
        let caller = &self.jobs.webhooks.caller;
        join_all(
            some.iter()
                .map(|due| caller.call(target, self.show_id, due)),
        )
        .await
    }

    /// Writes down what became of calls. Returns whether the stream is still this job's.
    async fn record(&mut self, some: &[Due], answers: &[Answer]) -> sqlx::Result<bool> {
        let mut tx = self.jobs.database.begin().await?;
        let Some(now) = self.renew(&mut tx).await? else {
            return Ok(false);
        };
        let mut tried = Tried::default();
        for (due, answer) in some.iter().zip(answers) {
            let (result, state, due_at) = self.verdict(due, answer, now);
            metrics::counter!("stampede_webhook_deliveries_total", "result" => result).increment(1);
            if let Some(error) = &answer.error {
                debug!(
                    show.id = %self.show_id, endpoint.id = %self.lease.endpoint_id,
                    sequence = due.sequence, attempts = due.attempts + 1, error,
                    "a webhook was not delivered"
                );
            }
            tried.delivery_ids.push(due.delivery_id);
            tried.states.push(state);
            tried.due_ats.push(due_at);
            tried
                .statuses
                .push(answer.status.map(|status| status.as_u16().into()));
            tried.errors.push(answer.error.clone());
        }
        webhook_deliveries::record(&mut tx, self.show_id, &tried, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The word for the metrics, the state of the delivery, and when it is tried again.
    fn verdict(
        &self,
        due: &Due,
        answer: &Answer,
        now: DateTime<Utc>,
    ) -> (&'static str, &'static str, Option<DateTime<Utc>>) {
        if answer.is_delivered() {
            return ("delivered", "delivered", None);
        }
        let failures = u32::try_from(due.attempts)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        match pause_after(failures, self.jobs.webhooks.retry, rand::random()) {
            Some(pause) => ("retried", "pending", Some(now + pause)),
            None => ("failed", "failed", None),
        }
    }

    /// Notes whether the endpoint works, and disables one that is gone or has failed for days.
    async fn judge(&self, answers: &[Answer]) -> sqlx::Result<()> {
        let pool = &self.jobs.database.pool;
        let endpoint_id = self.lease.endpoint_id;
        if answers.iter().any(Answer::is_gone) {
            return self.disable("it answered 410 Gone").await;
        }
        if answers.iter().any(Answer::is_delivered) {
            return webhook_endpoints::note_success(pool, endpoint_id).await;
        }
        let failing_s = webhook_endpoints::note_failure(pool, endpoint_id).await?;
        if failing_s.is_some_and(|seconds| seconds >= FAILING_MAX.as_secs_f64()) {
            return self
                .disable("every delivery has failed for three days")
                .await;
        }
        Ok(())
    }

    async fn disable(&self, reason: &str) -> sqlx::Result<()> {
        let endpoint_id = self.lease.endpoint_id;
        let pool = &self.jobs.database.pool;
        if webhook_endpoints::disable(pool, endpoint_id, reason).await? {
            warn!(endpoint.id = %endpoint_id, reason, "a webhook is disabled");
            metrics::counter!("stampede_webhooks_disabled_total").increment(1);
        }
        Ok(())
    }

    async fn finish(&self) -> sqlx::Result<()> {
        let mut tx = self.jobs.database.begin().await?;
        webhook_streams::finish(&mut tx, self.show_id, &self.lease).await?;
        tx.commit().await
    }
}

/// Cuts deliveries into some that are called at the same time. Two about one request are never among them,
/// so a booking is not told before its hold, unless something fails.
fn in_order(due: &[Due]) -> Vec<&[Due]> {
    let mut cut = Vec::new();
    let mut first = 0;
    let mut about = HashSet::new();
    for (index, delivery) in due.iter().enumerate() {
        let is_full = index - first == CALLS_AT_ONCE;
        if is_full || about.contains(&delivery.request_id) {
            cut.push(&due[first..index]);
            first = index;
            about.clear();
        }
        about.insert(delivery.request_id);
    }
    if first < due.len() {
        cut.push(&due[first..]);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(request: Option<u128>) -> Due {
        Due {
            delivery_id: Uuid::now_v7(),
            attempts: 0,
            sequence: 1,
            event_id: Uuid::now_v7(),
            event_type: "request.held".to_owned(),
            request_id: request.map(Uuid::from_u128),
            booking_id: None,
            data: serde_json::Value::Null,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_few_go_at_once_but_never_two_about_the_same() {
        let sizes = |requests: &[Option<u128>]| {
            let due: Vec<Due> = requests.iter().map(|&request| due(request)).collect();
            let cut = in_order(&due);
            cut.iter().map(|some| some.len()).collect::<Vec<_>>()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(
            sizes(&[Some(1), Some(2), Some(3), Some(4), Some(5)]),
            [4, 1]
        );
        assert_eq!(sizes(&[Some(1), Some(2), Some(1), Some(2)]), [2, 2]);
        // Two states of the sale are about the same, too.
        assert_eq!(sizes(&[None, Some(1), None]), [2, 1]);
    }
}
