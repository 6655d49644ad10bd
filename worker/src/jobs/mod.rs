//! Jobs: what is done later, again, or by the day, on stock apalis queues in the database.
//!
//! The rows say when something is due; the dispatcher moves that time on and pushes a task in one
//! transaction of ours. So a job that dies with its worker is simply due again, two workers never push
//! the same row, and a job may run twice. A new queue is a file here with a [`Job`], a line in
//! `all_queues`, and a line in the dispatcher.

mod apply_event;
mod cancel_show;
mod deliver_webhooks;
mod dispatcher;
mod pace;
mod prune;
mod queues;
mod reconcile;
mod recover_payment;
mod stuck;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use apalis::prelude::Monitor;
use apalis_postgres::PostgresStorage;
use chrono::NaiveDate;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, PgPool, migrate::Migrator};
use stampede_payments::till::{Terms, Till};
use stampede_shared::store::{Database, jobs as store};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use apply_event::ApplyEvent;
use cancel_show::CancelShow;
use deliver_webhooks::DeliverWebhooks;
use prune::Prune;
use queues::{Queues, register};
use reconcile::Reconcile;
use recover_payment::RecoverPayment;

use crate::webhooks::Webhooks;

/// Connections of the worker's pool that the dispatcher and the jobs share.
pub const CONNECTIONS: u32 = 4;

/// What apalis' migrations create; both come with every PostgreSQL, in a package of their own on some
/// systems.
const EXTENSIONS: [&str; 2] = ["hstore", "pgcrypto"];

/// Creates the tables of the queues, or brings them up to date.
pub async fn set_up(pool: &PgPool) -> anyhow::Result<()> {
    let missing = store::missing_extensions(pool, &EXTENSIONS).await;
    let missing = missing.context("looking for the extensions of the job queues")?;
    ensure!(
        missing.is_empty(),
        "the server lacks the extension {}, which the job queues need; install PostgreSQL's contrib \
        package",
        missing.join(" and ")
    );
    PostgresStorage::<()>::setup(pool)
        .await
        .context("migrating the tables of the job queues")
}

/// The tables of the queues.
pub fn migrations() -> Migrator {
    PostgresStorage::<()>::migrations()
}

/// Fails with what to do if a table of the queues is missing.
pub(crate) async fn check_set_up(pool: &PgPool) -> anyhow::Result<()> {
    let newest = migrations().iter().map(|migration| migration.version).max();
    let applied = store::applied_migration(pool).await;
    if applied.context("reading the migrations of the job queues")? < newest.unwrap_or(0) {
        bail!("the database lacks migrations of the job queues; run `stampede migrate`");
    }
    Ok(())
}

/// What every job has at hand. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    pub database: Database,
    pub till: Till,
    pub terms: Terms,
    pub webhooks: Webhooks,
    /// Between two looks for what is due, here and in each queue.
    pub interval: Duration,
}

/// Something to do later. It may be done twice, at the same time or one after the other.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static {
    /// The name of its queue.
    const QUEUE: &'static str;
    /// How many of them one process does at once.
    const AT_ONCE: usize;

    /// Does it. An error is logged and counted; whether it is done again is up to the row that said
    /// when it was due.
    fn run(self, jobs: Jobs) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A job of a show, whose rows say when it is due.
pub trait ShowJob: Job {
    /// Shows with something due, at most `limit`.
    fn shows(jobs: &Jobs, limit: i64) -> impl Future<Output = sqlx::Result<Vec<Uuid>>> + Send;

    /// Takes what is due of a show, at most `limit`: it is due again later, and of nobody before that.
    /// A part of the transaction that pushes the jobs.
    fn take_due(
        connection: &mut PgConnection,
        show_id: Uuid,
        jobs: &Jobs,
        limit: i64,
    ) -> impl Future<Output = sqlx::Result<Vec<Self>>> + Send;
}

/// A job of every day, done once by whichever worker comes first.
pub trait DailyJob: Job {
    /// The job of that day, UTC.
    fn of(day: NaiveDate) -> Self;
}

/// Every queue.
fn all_queues(monitor: Monitor, queues: &Queues) -> Monitor {
    let monitor = register::<RecoverPayment>(monitor, queues);
    let monitor = register::<ApplyEvent>(monitor, queues);
    let monitor = register::<CancelShow>(monitor, queues);
    let monitor = register::<DeliverWebhooks>(monitor, queues);
    let monitor = register::<Reconcile>(monitor, queues);
    register::<Prune>(monitor, queues)
}

/// Pushes what is due and does it, until `stop`; then waits for the jobs in progress, at most `drain`.
pub async fn run(jobs: Jobs, drain: Duration, stop: CancellationToken) {
    let dispatcher = tokio::spawn(dispatcher::run(jobs.clone(), stop.clone()));
    let stuck = tokio::spawn(stuck::watch(jobs.database.clone(), stop.clone()));
    queues::run(jobs, drain, stop).await;
    dispatcher.await.ok();
    stuck.await.ok();
}
