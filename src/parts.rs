//! The parts that run alone against one database: API, worker, migrations.

use std::{
    io::{Write, stdout},
    net::SocketAddr,
};

use stampede_shared::{
    store::{Database, DatabaseSettings},
    telemetry,
    webhooks::WebhookSettings,
};

use crate::{shutdown, worker_http::WorkerHttp};

/// Migrating takes one connection at a time.
const MIGRATE_CONNECTIONS: u32 = 2;

#[derive(Debug, clap::Args)]
pub struct ApiSettings {
    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    api: stampede_api::Settings,

    #[command(flatten)]
    payments: stampede_payments::Settings,

    #[command(flatten)]
    webhooks: WebhookSettings,
}

#[derive(Debug, clap::Args)]
pub struct WorkerSettings {
    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    worker: stampede_worker::Settings,

    #[command(flatten)]
    payments: stampede_payments::Settings,

    #[command(flatten)]
    webhooks: WebhookSettings,

    /// Where the worker answers /livez, /readyz and /metrics [default: nowhere]
    #[arg(long, env = "STAMPEDE_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
}

/// Serves HTTP until a signal.
pub async fn run_api(settings: ApiSettings) -> anyhow::Result<()> {
    let metrics = telemetry::metrics()?;
    let shutdown = shutdown::on_signal()?;
    let connections = settings.api.api_database_connections;
    let database = Database::connect(&settings.database, connections, "stampede api").await?;
    database.check_migrated().await?;
    let server = stampede_api::Server::bind(
        settings.api,
        &settings.payments,
        settings.webhooks,
        database,
        metrics,
    );
    let server = server.await?;
    announce(&format!("listening on http://{}", server.address()));
    server.run(shutdown.cancelled_owned()).await
}

/// Takes turns until a signal.
pub async fn run_worker(settings: WorkerSettings) -> anyhow::Result<()> {
    let metrics = telemetry::metrics()?;
    let shutdown = shutdown::on_signal()?;
    let connections = settings.worker.connections();
    let database = Database::connect(&settings.database, connections, "stampede worker").await?;
    database.check_migrated().await?;
    let http = match settings.metrics_listen {
        Some(address) => Some(WorkerHttp::bind(address, database.clone(), metrics).await?),
        None => None,
    };
    let http = http.map(|http| tokio::spawn(http.run(shutdown.clone())));
    announce("working");
    let result = stampede_worker::run(
        settings.worker,
        &settings.payments,
        settings.webhooks,
        database,
        shutdown.clone().cancelled_owned(),
    )
    .await;
    if let Some(http) = http {
        shutdown.cancel();
        http.await?;
    }
    result
}

/// Applies the missing migrations.
pub async fn migrate(settings: &DatabaseSettings) -> anyhow::Result<()> {
    let database = Database::connect(settings, MIGRATE_CONNECTIONS, "stampede migrate").await?;
    database.migrate().await?;
    stampede_worker::set_up_jobs(&database.pool).await?;
    announce("the database is up to date");
    Ok(())
}

/// Says on standard output, for whoever started this process, how far it is. Whoever did may have
/// closed its end: no reason to stop.
pub fn announce(line: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}
