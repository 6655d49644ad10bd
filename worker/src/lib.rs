//! The workers: an apalis worker that takes turns of shows, the sweep of expired holds, and the jobs.

mod handler;
mod inventories;
mod jobs;
mod lines;
mod plan;
mod sweep;
mod told;
mod turn;
mod webhooks;

use std::{future::Future, time::Duration};

use anyhow::{Context, ensure};
use apalis::{
    layers::{WorkerBuilderExt, prometheus::PrometheusLayer},
    prelude::{Monitor, WorkerBuilder},
};
use stampede_payments::Till;
use stampede_shared::{queue::ShowQueue, store::Database, webhooks::WebhookSettings};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{handler::TurnHandler, jobs::Jobs, sweep::Sweep, webhooks::Webhooks};

pub use crate::jobs::{migrations as job_migrations, set_up as set_up_jobs};
pub use crate::turn::{TurnError, TurnResult, TurnTaker};

/// A turn that takes longer than this has lost its database; the timeouts of its session end it.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// How a worker works.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Worker")]
#[group(id = "worker")]
pub struct Settings {
    /// Turns that this process takes at once, each of another show; each uses one connection
    #[arg(long, env = "STAMPEDE_CONCURRENCY", default_value_t = 4, value_name = "TURNS",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,

    /// The most requests that one turn decides
    #[arg(long, env = "STAMPEDE_TURN_SIZE", default_value_t = 500, value_name = "REQUESTS",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub turn_size: u32,

    /// How often to look for work that no notification told of
    #[arg(long, env = "STAMPEDE_POLL_INTERVAL_MS", default_value_t = 200, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub poll_interval_ms: u64,

    /// How often to look for holds whose time is over
    #[arg(long, env = "STAMPEDE_SWEEP_INTERVAL_MS", default_value_t = 500, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub sweep_interval_ms: u64,

    /// How often to look for jobs that are due
    #[arg(long, env = "STAMPEDE_JOB_INTERVAL_MS", default_value_t = 1_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub job_interval_ms: u64,

    #[command(flatten)]
    pub webhooks: webhooks::DeliverySettings,

    /// How long to wait at the end for turns and jobs in progress
    #[arg(
        long,
        env = "STAMPEDE_WORKER_DRAIN_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub worker_drain_seconds: u64,
}

impl Settings {
    /// The connections that a worker with these settings needs: its turns, the finder, the sweep, and
    /// the jobs. It makes three more of its own: one listens, two are for the queues.
    pub fn connections(&self) -> u32 {
        u32::from(self.concurrency) + 2 + jobs::CONNECTIONS
    }
}

/// Works until `shutdown`, then finishes the turns in progress.
pub async fn run(
    settings: Settings,
    payments: &stampede_payments::Settings,
    where_to: WebhookSettings,
    database: Database,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    jobs::check_set_up(&database.pool).await?;
    let terms = payments.terms();
    let jobs = Jobs {
        till: Till::new(database.clone(), payments.connect()?, terms),
        database: database.clone(),
        terms,
        webhooks: Webhooks::new(&settings.webhooks, where_to)?,
        interval: Duration::from_millis(settings.job_interval_ms),
    };
    let drain = Duration::from_secs(settings.worker_drain_seconds);

    let stop = CancellationToken::new();
    let sweep = Sweep::new(
        database.clone(),
        Duration::from_millis(settings.sweep_interval_ms),
    );
    let sweep = tokio::spawn(sweep.run(stop.clone()));
    let lines = tokio::spawn(lines::watch(database.clone(), stop.clone()));

    let webhooks = tokio::spawn(webhooks::watch::watch(database.clone(), stop.clone()));

    let jobs_stop = stop.child_token();
    let jobs = tokio::spawn(jobs::run(jobs, drain, jobs_stop.clone()));

    info!(
        concurrency = settings.concurrency,
        turn_size = settings.turn_size,
        "worker starts"
    );
    let handler = TurnHandler::new(database.clone(), settings.turn_size);
    let poll_interval = Duration::from_millis(settings.poll_interval_ms);
    let monitor = Monitor::new()
        .register(move |_| {
            WorkerBuilder::new("turns")
                .backend(ShowQueue::new(database.clone(), poll_interval))
                .data(handler.clone())
                .concurrency(usize::from(settings.concurrency))
                .timeout(TURN_TIMEOUT)
                .enable_tracing()
                .layer(PrometheusLayer::default())
                .catch_panic()
                .build(handler::handle_turn)
        })
        .shutdown_timeout(drain);
    let asked = async move {
        shutdown.await;
        jobs_stop.cancel();
    };
    let result = supervise(monitor, asked).await;

    stop.cancel();
    jobs.await.context("the jobs panicked")?;
    sweep.await.context("the sweep panicked")?;
    lines.await.context("the watch of the lines panicked")?;
    webhooks
        .await
        .context("the watch of the webhooks panicked")?;
    result?;
    info!("worker stopped");
    Ok(())
}

/// Runs the monitor until `shutdown`; fails when its worker ends before.
///
/// A monitor with a shutdown timeout keeps it to itself that a worker has failed.
async fn supervise(
    monitor: Monitor,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let asked = CancellationToken::new();
    let asking = asked.clone();
    let signal = async move {
        shutdown.await;
        asking.cancel();
        info!("worker drains");
        Ok(())
    };
    let result = monitor.run_with_signal(signal).await;
    result.context("the worker stopped")?;
    ensure!(asked.is_cancelled(), "the worker ended by itself");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use apalis_core::backend::{TaskSink, memory::MemoryStorage};

    use super::*;

    fn monitor(tasks: MemoryStorage<u32>) -> Monitor {
        let tasks = Mutex::new(Some(tasks));
        let worker = move |_| {
            let handler = async |task: u32| assert_eq!(task, 0);
            let tasks = tasks.lock().unwrap().take().unwrap();
            WorkerBuilder::new("test").backend(tasks).build(handler)
        };
        let monitor = Monitor::new().register(worker);
        monitor.shutdown_timeout(Duration::from_secs(1))
    }

    #[tokio::test]
    async fn a_worker_that_ends_by_itself_is_a_failure() {
        let mut tasks = MemoryStorage::new();
        tasks.push(1).await.unwrap();
        let ended = supervise(monitor(tasks), std::future::pending()).await;
        assert!(ended.is_err());
    }

    #[tokio::test]
    async fn a_worker_that_was_asked_to_end_is_none() {
        let asked = supervise(monitor(MemoryStorage::new()), async {}).await;
        asked.unwrap();
    }
}
