//! The dispatcher: pushes a job for every row that is due.
//!
//! Any number of workers may dispatch. Taking a row moves its time on, in the transaction that pushes
//! the job, so it is pushed once until that time comes again.

use chrono::{NaiveDate, Utc};
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
        let today = Utc::now().date_naive();
        if done_for != Some(today) && push_daily(&jobs, today).await {
            done_for = Some(today);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(jobs.interval) => {}
        }
    }
}

/// Pushes the jobs of a day, unless another worker has. Returns whether they are pushed now.
async fn push_daily(jobs: &Jobs, day: NaiveDate) -> bool {
    push_job_of::<Prune>(jobs, day).await && push_job_of::<Reconcile>(jobs, day).await
}

async fn push_job_of<J: DailyJob>(jobs: &Jobs, day: NaiveDate) -> bool {
    let key = format!("{}-{day}", J::QUEUE);
    match queues::push_once(jobs, &J::of(day), &key).await {
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
    for show_id in shows {
        if room <= 0 {
            break;
        }
        let mut tx = jobs.database.begin().await?;
        let due = J::take_due(&mut tx, show_id, jobs, room.min(JOBS_PER_SHOW)).await?;
        if !due.is_empty() {
            queues::push(&mut tx, &due).await?;
        }
        tx.commit().await?;
        pushed += due.len();
        room -= due.len() as i64;
    }
    Ok(pushed)
}
