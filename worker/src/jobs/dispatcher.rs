//! The dispatcher: pushes a job for every row that is due.
//!
//! Any number of workers may dispatch. Taking a row moves its time on, in the transaction that pushes
//! the job, so it is pushed once until that time comes again.

use chrono::{DateTime, NaiveDate, Timelike, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    ApplyEvent, CancelShow, DailyJob, Jobs, Prune, Reconcile, RecoverPayment, ShowJob,
    deliver_webhooks, queues,
};
use crate::webhooks::fan_out;
use stampede_shared::store::jobs as store;

/// The most shows that one round looks at; the next round sees the rest.
const SHOWS_PER_ROUND: i64 = 100;

/// The most jobs that one transaction pushes.
const JOBS_PER_SHOW: i64 = 200;

/// A queue with so many jobs gets no more: what is due stays where it is.
const WAITING_MAX: i64 = 1_000;

/// Dispatches until `stop`.
pub async fn run(jobs: Jobs, stop: CancellationToken) {
    let mut done_for = None;
    while !stop.is_cancelled() {
        push_due::<RecoverPayment>(&jobs).await;
        push_due::<ApplyEvent>(&jobs).await;
        push_due::<CancelShow>(&jobs).await;
        fan_out::round(&jobs.database).await;
        push_webhooks(&jobs).await;
        let now = Utc::now();
        let hour = (now.date_naive(), now.hour());
        if done_for != Some(hour) && push_daily(&jobs, now).await {
            done_for = Some(hour);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(jobs.interval) => {}
        }
    }
}

/// Pushes the jobs of a day, unless another worker has; those that have failed, once an hour. Returns
/// whether nothing is left to push in this hour.
async fn push_daily(jobs: &Jobs, now: DateTime<Utc>) -> bool {
    push_job_of::<Prune>(jobs, now).await && push_job_of::<Reconcile>(jobs, now).await
}

async fn push_job_of<J: DailyJob>(jobs: &Jobs, now: DateTime<Utc>) -> bool {
    match push_unless_done::<J>(jobs, now).await {
        Ok(()) => true,
        Err(error) => {
            let error = format!("{error:#}");
            warn!(
                queue = J::QUEUE,
                error, "cannot push the job of a day; trying again"
            );
            false
        }
    }
}

async fn push_unless_done<J: DailyJob>(jobs: &Jobs, now: DateTime<Utc>) -> anyhow::Result<()> {
    let day = now.date_naive();
    let keys: Vec<String> = (0..24).map(|hour| key_of::<J>(day, hour)).collect();
    if store::is_cared_for(&jobs.database.pool, J::QUEUE, &keys).await? {
        return Ok(());
    }
    queues::push_once(jobs, &J::of(day), &key_of::<J>(day, now.hour())).await
}

/// Two workers push the job of an hour under the same key.
fn key_of<J: DailyJob>(day: NaiveDate, hour: u32) -> String {
    format!("{}-{day}-{hour:02}", J::QUEUE)
}

/// Pushes the jobs that deliver webhooks.
async fn push_webhooks(jobs: &Jobs) {
    if let Err(error) = deliver_webhooks::push_due(jobs).await {
        let error = format!("{error:#}");
        warn!(error, "cannot push what is to be delivered; trying again");
    }
}

/// Pushes the jobs of one kind that are due.
async fn push_due<J: ShowJob>(jobs: &Jobs) {
    match push_some::<J>(jobs).await {
        Ok(0) => {}
        Ok(pushed) => debug!(queue = J::QUEUE, pushed, "jobs are due"),
        Err(error) => {
            let error = format!("{error:#}");
            warn!(
                queue = J::QUEUE,
                error, "cannot push what is due; trying again"
            );
        }
    }
}

async fn push_some<J: ShowJob>(jobs: &Jobs) -> anyhow::Result<usize> {
    let pool = &jobs.database.pool;
    let shows = J::shows(jobs, SHOWS_PER_ROUND).await?;
    if shows.is_empty() {
        return Ok(0);
    }
    let waiting = store::waiting(pool, J::QUEUE, WAITING_MAX).await?;
    let mut room = WAITING_MAX - waiting;
    let mut pushed = 0;
    for (index, &show_id) in shows.iter().enumerate() {
        if room <= 0 {
            break;
        }
        let share = share_of(room, shows.len() - index);
        let mut tx = jobs.database.begin().await?;
        let due = J::take_due(&mut tx, show_id, jobs, share).await?;
        if !due.is_empty() {
            queues::push(&mut tx, &due).await?;
        }
        tx.commit().await?;
        pushed += due.len();
        room -= due.len() as i64;
    }
    Ok(pushed)
}

/// How many jobs the first of so many shows may push: what it leaves is there for the others.
fn share_of(room: i64, shows: usize) -> i64 {
    (room / shows as i64).clamp(1, JOBS_PER_SHOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of these shows pushes of what is due there.
    fn pushed(mut room: i64, due: &[i64]) -> Vec<i64> {
        let mut pushed = Vec::new();
        for (index, &due_here) in due.iter().enumerate() {
            let some = due_here.min(share_of(room, due.len() - index));
            room -= some;
            pushed.push(some);
        }
        pushed
    }

    #[test]
    fn a_big_show_leaves_room_for_the_others() {
        assert_eq!(pushed(1_000, &[50_000]), [JOBS_PER_SHOW]);
        assert_eq!(pushed(100, &[50_000, 3, 50_000]), [33, 3, 64]);
        assert_eq!(pushed(2, &[50_000, 50_000]), [1, 1]);
        assert_eq!(share_of(1, 100), 1);
    }
}
