//! Delivering: the job that calls an endpoint with what is due of a show, until nothing is left or its
//! time is up.
//!
//! One job at a time has the deliveries of a show to an endpoint, so they mostly arrive in order, and what
//! became of several calls is written in one transaction. A job that dies is done again when its lease is
//! over; what it had delivered without writing it down is delivered twice, with the same `webhook-id`.

use std::{
    collections::HashSet,
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

use super::{Job, Jobs, ShowJob};
use crate::webhooks::Answer;

/// The most calls of one job at the same time.
const CALLS_AT_ONCE: usize = 4;

/// The most deliveries that are read at once.
const DUE_MAX: i64 = 32;

/// A job that is not done after this makes room for those that wait.
const BUDGET: Duration = Duration::from_secs(10);

/// A lease is so many times as long as a call may take.
const LEASE_IN_TIMEOUTS: u32 = 3;

/// The pause of a stream whose endpoint has its places taken.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// An endpoint that has failed for so long without a success is disabled.
const FAILING_MAX: Duration = Duration::from_hours(72);

#[derive(Debug, Serialize, Deserialize)]
pub struct DeliverWebhooks {
    show_id: Uuid,
    endpoint_id: Uuid,
    leased_until: DateTime<Utc>,
}

impl ShowJob for DeliverWebhooks {
    async fn shows(jobs: &Jobs, limit: i64) -> sqlx::Result<Vec<Uuid>> {
        across_shows::shows_with_due_webhooks(&jobs.database.pool, limit).await
    }

    async fn take_due(
        connection: &mut PgConnection,
        show_id: Uuid,
        jobs: &Jobs,
        limit: i64,
    ) -> sqlx::Result<Vec<DeliverWebhooks>> {
        let lease = lease_of(jobs);
        let leases = webhook_streams::lease_due(connection, show_id, lease, limit).await?;
        let due = leases.into_iter().map(|lease| DeliverWebhooks {
            show_id,
            endpoint_id: lease.endpoint_id,
            leased_until: lease.leased_until,
        });
        Ok(due.collect())
    }
}

impl Job for DeliverWebhooks {
    const QUEUE: &'static str = "deliver_webhooks";
    /// They wait for endpoints and hold no connection meanwhile.
    const AT_ONCE: usize = 16;

    async fn run(self, jobs: Jobs) -> anyhow::Result<()> {
        let mut stream = Stream {
            show_id: self.show_id,
            lease: Lease {
                endpoint_id: self.endpoint_id,
                leased_until: self.leased_until,
            },
            jobs,
        };
        let Some(_place) = stream.jobs.webhooks.enter(self.endpoint_id) else {
            return stream.postpone().await.context("postponing deliveries");
        };
        if stream.deliver().await? {
            stream.finish().await.context("giving deliveries back")?;
        }
        Ok(())
    }
}

fn lease_of(jobs: &Jobs) -> Duration {
    jobs.webhooks.timeout * LEASE_IN_TIMEOUTS
}

/// The deliveries of a show to an endpoint, while this job has them.
struct Stream {
    show_id: Uuid,
    lease: Lease,
    jobs: Jobs,
}

impl Stream {
    /// Delivers what is due. Returns whether the stream is still this job's.
    async fn deliver(&mut self) -> anyhow::Result<bool> {
        let started = Instant::now();
        let endpoint_id = self.lease.endpoint_id;
        while started.elapsed() < BUDGET {
            let pool = &self.jobs.database.pool;
            let target = webhook_endpoints::find_target(pool, endpoint_id).await;
            let Some(target) = target.context("reading an endpoint")? else {
                return Ok(true);
            };
            let Some(due) = self.next().await.context("reading deliveries")? else {
                return Ok(false);
            };
            if due.is_empty() {
                return Ok(true);
            }
            for some in in_order(&due) {
                let answers = self.call(&target, some).await;
                if !self.record(some, &answers).await? {
                    return Ok(false);
                }
                let all_well = answers.iter().all(Answer::is_delivered);
                self.judge(&answers).await.context("judging an endpoint")?;
                if !all_well || started.elapsed() >= BUDGET {
                    // What failed is due later; whether the rest is tried is up to the next job.
                    return Ok(true);
                }
            }
        }
        Ok(true)
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

    async fn postpone(&self) -> sqlx::Result<()> {
        let mut tx = self.jobs.database.begin().await?;
        webhook_streams::postpone(&mut tx, self.show_id, &self.lease, BUSY_PAUSE).await?;
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
