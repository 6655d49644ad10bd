//! The queues: apalis workers on stock PostgreSQL storage, kept alive.
//!
//! A stock worker ends at the first error of the database. Then all of them are ended and begun anew,
//! under fresh names and with fresh connections: a future of theirs that was dropped in the middle may
//! have left a transaction open in its connection.

use std::time::{Duration, Instant};

use apalis::{
    layers::WorkerBuilderExt,
    prelude::{BackendExt, BoxDynError, Data, Monitor, TaskBuilder, WorkerBuilder},
};
use apalis_postgres::{Config, Error, PgTask, PostgresStorage, queries::push_tasks};
use sqlx::{PgConnection, PgPool};
use stampede_shared::store::error::violated_constraint;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Job, Jobs, all_queues, pace::Pace};

/// The connections in which apalis fetches and acknowledges.
pub const CONNECTIONS: u32 = 2;

/// The pause before the queues are begun anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// How long the others may take to end when one has failed; some wait for a database that is away.
const FAILED_PATIENCE: Duration = Duration::from_secs(1);

/// How long connections may take to say goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// A worker that was not heard of for six of these is dead, and its jobs are done by others.
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEATS_MISSED: usize = 6;

/// The constraint of apalis that a queue has a key once.
const KEY_ONCE: &str = "idx_jobs_idempotency_key";

/// One life of the queues.
pub struct Queues {
    jobs: Jobs,
    pool: PgPool,
    /// Makes the names of its workers unique.
    life: Uuid,
}

/// Keeps the queues alive until `stop`.
pub async fn run(jobs: Jobs, drain: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let queues = Queues {
            jobs: jobs.clone(),
            pool: jobs.database.another_pool(CONNECTIONS),
            life: Uuid::now_v7(),
        };
        let pool = queues.pool.clone();
        live(queues, drain, &stop).await;
        tokio::time::timeout(CLOSE_PATIENCE, pool.close())
            .await
            .ok();
        if !stop.is_cancelled() {
            metrics::counter!("stampede_queue_restarts_total").increment(1);
            info!("the job queues are begun anew");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RESTART_PAUSE) => {}
            }
        }
    }
}

/// Runs all queues until `stop`, or until one of them fails.
async fn live(queues: Queues, drain: Duration, stop: &CancellationToken) {
    let failed = CancellationToken::new();
    let failing = failed.clone();
    // Begins when they are to end. Jobs outlive the handlers that wait for them.
    let asked = stop.clone();
    let terminator = async move {
        let patience = if asked.is_cancelled() {
            drain
        } else {
            FAILED_PATIENCE
        };
        tokio::time::sleep(patience).await;
    };
    let monitor = Monitor::new()
        .should_restart(move |worker, error| {
            warn!(worker = worker.name(), %error, "a job queue failed");
            failing.cancel();
            false
        })
        .with_terminator(terminator);
    let monitor = all_queues(monitor, &queues);
    let ended = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = failed.cancelled() => {}
        }
        Ok(())
    };
    if let Err(error) = monitor.run_with_signal(ended).await {
        warn!(%error, "the job queues ended");
    }
}

/// Adds the worker of one queue.
pub fn register<J: Job>(monitor: Monitor, queues: &Queues) -> Monitor {
    let config = Config::default()
        .queue(J::QUEUE)
        .batch_size(J::AT_ONCE)
        .heartbeat_interval(HEARTBEAT)
        .missed_heartbeats(HEARTBEATS_MISSED)
        .lock_tasks(false);
    let (jobs, pool) = (queues.jobs.clone(), queues.pool.clone());
    let name = format!("{}-{}", J::QUEUE, queues.life);
    monitor.register(move |_| {
        let storage = PostgresStorage::<J>::new(&pool).with_config(config.clone());
        WorkerBuilder::new(name.as_str())
            .backend(storage.poll_with_strategy(Pace::every(jobs.interval)))
            .data(jobs.clone())
            .concurrency(J::AT_ONCE)
            .build(handle::<J>)
    })
}

/// Handles one task.
async fn handle<J: Job>(job: J, jobs: Data<Jobs>) -> Result<(), BoxDynError> {
    let jobs = (*jobs).clone();
    let started = Instant::now();
    // A task of its own: a panic is caught with it, and nothing that drops the handler can drop a
    // transaction in the middle.
    let done = match tokio::spawn(job.run(jobs)).await {
        Ok(done) => done,
        Err(panic) => Err(panic.into()),
    };
    let result = if done.is_ok() { "done" } else { "failed" };
    metrics::counter!("stampede_jobs_total", "queue" => J::QUEUE, "result" => result).increment(1);
    metrics::histogram!("stampede_job_seconds", "queue" => J::QUEUE)
        .record(started.elapsed().as_secs_f64());
    done.map_err(|error| {
        warn!(
            queue = J::QUEUE,
            error = format!("{error:#}"),
            "a job failed"
        );
        error.into()
    })
}

/// Pushes jobs, in the caller's transaction.
pub async fn push<J: Job>(connection: &mut PgConnection, jobs: &[J]) -> anyhow::Result<()> {
    let tasks = jobs.iter().map(|job| task(job, None));
    let tasks = tasks.collect::<anyhow::Result<Vec<PgTask>>>()?;
    push_tasks(connection, J::QUEUE, tasks).await?;
    Ok(())
}

/// Pushes a job unless there was one of this key. A transaction of its own: a key that is taken fails it.
pub async fn push_once<J: Job>(jobs: &Jobs, job: &J, key: &str) -> anyhow::Result<()> {
    let mut tx = jobs.database.begin().await?;
    match push_tasks(&mut *tx, J::QUEUE, vec![task(job, Some(key))?]).await {
        Ok(()) => Ok(tx.commit().await?),
        Err(Error::Database(error)) if violated_constraint(&error) == Some(KEY_ONCE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A task that is tried once: a queue knows no back-off, our rows do.
fn task<J: Job>(job: &J, key: Option<&str>) -> anyhow::Result<PgTask> {
    let task = TaskBuilder::new(serde_json::to_vec(job)?).max_attempts(1);
    Ok(match key {
        Some(key) => task.idempotency_key(key).build(),
        None => task.build(),
    })
}
