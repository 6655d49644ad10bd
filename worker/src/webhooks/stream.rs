//! The deliveries of a show to an endpoint, which one job at a time works on.
//!
//! So they mostly arrive in order, and what became of several calls is written in one transaction. What a
//! job that dies had delivered without writing it down is delivered twice, with the same `webhook-id`.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use sqlx::PgConnection;
use stampede_shared::{
    domain::webhook::pause_after,
    store::{
        Database,
        webhook_deliveries::{self, Due, Tried},
        webhook_endpoints::{self, Target},
        webhook_streams::{self, Lease},
    },
};
use tracing::{debug, warn};
use uuid::Uuid;

use super::{Answer, Webhooks};

/// The most calls of one job at the same time.
const CALLS_AT_ONCE: usize = 8;

/// The most deliveries that are read at once.
const DUE_MAX: i64 = 32;

/// An endpoint that has failed for so long without a success is disabled.
const FAILING_MAX: Duration = Duration::from_hours(72);

/// How the work on a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing is due any more.
    Done,
    /// The endpoint did not take everything, or the time is up.
    Stopped,
    /// Another job has the stream.
    Taken,
}

/// The deliveries of a show to an endpoint, while this job has them.
pub struct Stream {
    pub show_id: Uuid,
    pub lease: Lease,
    pub database: Database,
    pub webhooks: Webhooks,
}

impl Stream {
    /// Delivers what is due, until `deadline`.
    pub async fn deliver(&mut self, deadline: Instant) -> anyhow::Result<End> {
        let endpoint_id = self.lease.endpoint_id;
        while Instant::now() < deadline {
            let pool = &self.database.pool;
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
                self.judge(&target, &answers)
                    .await
                    .context("judging an endpoint")?;
                let all_well = answers.iter().all(Answer::is_delivered);
                if !all_well || Instant::now() >= deadline {
                    // What failed is due later, and whether the rest is tried is up to the next job.
                    return Ok(End::Stopped);
                }
            }
        }
        Ok(End::Stopped)
    }

    /// What is due; `None` when another job has the stream.
    async fn next(&mut self) -> sqlx::Result<Option<Vec<Due>>> {
        let mut tx = self.database.begin().await?;
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
        let lease = self.webhooks.lease();
        let renewed = webhook_streams::renew(connection, self.show_id, &self.lease, lease).await?;
        Ok(renewed.map(|(lease, now)| {
            self.lease = lease;
            now
        }))
    }

    async fn call(&self, target: &Target, some: &[Due]) -> Vec<Answer> {
        let caller = &self.webhooks.caller;
        join_all(
            some.iter()
                .map(|due| caller.call(target, self.show_id, due)),
        )
        .await
    }

    /// Writes down what became of calls. Returns whether the stream is still this job's.
    async fn record(&mut self, some: &[Due], answers: &[Answer]) -> sqlx::Result<bool> {
        let mut tx = self.database.begin().await?;
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
        match pause_after(failures, self.webhooks.retry, rand::random()) {
            Some(pause) => ("retried", "pending", Some(now + pause)),
            None => ("failed", "failed", None),
        }
    }

    /// Notes whether the endpoint works, and disables one that is gone or has failed for days.
    async fn judge(&self, target: &Target, answers: &[Answer]) -> sqlx::Result<()> {
        let pool = &self.database.pool;
        let endpoint_id = self.lease.endpoint_id;
        if answers.iter().any(Answer::is_gone) {
            return self.disable("it answered 410 Gone").await;
        }
        if answers.iter().any(Answer::is_delivered) {
            return match target.failing {
                true => webhook_endpoints::note_success(pool, endpoint_id).await,
                false => Ok(()),
            };
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
        let pool = &self.database.pool;
        if webhook_endpoints::disable(pool, endpoint_id, reason).await? {
            warn!(endpoint.id = %endpoint_id, reason, "a webhook is disabled");
            metrics::counter!("stampede_webhooks_disabled_total").increment(1);
        }
        Ok(())
    }

    /// Gives the stream back.
    pub async fn finish(&self) -> sqlx::Result<()> {
        let mut tx = self.database.begin().await?;
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
        let many: Vec<Option<u128>> = (0..=CALLS_AT_ONCE as u128).map(Some).collect();
        assert_eq!(sizes(&many), [CALLS_AT_ONCE, 1]);
        assert_eq!(sizes(&[Some(1), Some(2), Some(1), Some(2)]), [2, 2]);
        // Two states of the sale are about the same, too.
        assert_eq!(sizes(&[None, Some(1), None]), [2, 1]);
    }
}
