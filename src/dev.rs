//! Everything in one process, ready to be tried: database, demo hall, payment gateway, API and workers.

mod folder;
mod greeting;
mod simulated;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use stampede_devdb::{Durability, Postgres};
use stampede_shared::{
    store::{Database, DatabaseSettings},
    telemetry,
    webhooks::WebhookSettings,
};
use tokio_util::sync::CancellationToken;

use crate::{demo, parts::announce, shutdown};
use folder::Folder;
use greeting::Addresses;

/// How long connections may take to say goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[group(id = "dev")]
pub struct Settings {
    /// The database, such as postgres://user:password@host/name [default: one of its own in the
    /// data folder]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,

    /// The database for LISTEN, past any transaction pooler [default: the database URL]
    #[arg(
        long,
        env = "STAMPEDE_LISTEN_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    listen_database_url: Option<String>,

    /// Where the database, the simulated gateway's ledger, the operator's key and secrets are kept
    #[arg(
        long,
        env = "STAMPEDE_DATA_DIR",
        default_value = ".stampede",
        value_name = "FOLDER"
    )]
    data_dir: PathBuf,

    /// Where the simulated payment gateway listens, if no other gateway is set; another port if it is taken
    #[arg(
        long,
        env = "STAMPEDE_SIMULATED_LISTEN",
        default_value = "127.0.0.1:8090",
        value_name = "ADDRESS"
    )]
    gateway_listen: SocketAddr,

    #[command(flatten)]
    api: stampede_api::Settings,

    #[command(flatten)]
    worker: stampede_worker::Settings,

    #[command(flatten)]
    payments: stampede_payments::Settings,

    #[command(flatten)]
    webhooks: WebhookSettings,
}

/// Runs until a signal, then stops what it started, the database last.
pub async fn run(mut settings: Settings) -> anyhow::Result<()> {
    let folder = Folder::open(&settings.data_dir)?;
    let secret = match settings.api.buyer_secret.take() {
        Some(secret) => secret,
        None => folder.secret("buyer-secret")?,
    };
    settings.api.buyer_secret = Some(secret);

    let postgres = match settings.database_url {
        Some(_) => None,
        None => Some(Postgres::start(folder.path(), Durability::Durable).await?),
    };
    let shutdown = shutdown::on_signal()?;
    let database_url = match (&postgres, settings.database_url.take()) {
        (Some(postgres), _) => postgres.url("postgres"),
        (None, url) => url.unwrap_or_default(),
    };
    let database = DatabaseSettings {
        database_url,
        // The database of its own has no pooler, and the setting is for another.
        listen_database_url: settings
            .listen_database_url
            .take()
            .filter(|_| postgres.is_none()),
    };
    let result = serve(settings, &database, &folder, shutdown).await;
    if let Some(postgres) = postgres {
        postgres.stop().await.context("stopping the database")?;
    }
    result
}

async fn serve(
    settings: Settings,
    database: &DatabaseSettings,
    folder: &Folder,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let metrics = telemetry::metrics()?;
    let Settings {
        mut api,
        worker,
        mut payments,
        webhooks,
        gateway_listen,
        ..
    } = settings;
    api.listen = simulated::with_port(api.listen)?;
    let gateway = match payments.gateway {
        Some(_) => None,
        None => Some(simulated::start(gateway_listen, api.listen, folder, &mut payments).await?),
    };
    let gateway_url = gateway
        .as_ref()
        .map(|gateway| format!("http://{}", gateway.address()));
    let secret = api
        .buyer_secret
        .clone()
        .context("the buyer secret is gone")?;
    // A pool for each, as in two processes: neither can starve the other.
    let api_database =
        Database::connect(database, api.api_database_connections, "stampede api").await?;
    let worker_database =
        Database::connect(database, worker.connections(), "stampede worker").await?;
    let pools = [api_database.pool.clone(), worker_database.pool.clone()];
    api_database.migrate().await?;
    stampede_worker::set_up_jobs(&api_database.pool).await?;
    demo::create_if_empty(&api_database).await?;
    let operator_key = folder.operator_key(&api_database).await?;

    let server =
        stampede_api::Server::bind(api, &payments, webhooks, api_database.clone(), metrics).await?;
    let url = format!("http://{}", server.address());
    announce(&format!("listening on {url}"));
    let addresses = Addresses { url, gateway_url };
    announce(&greeting::text(&api_database, &addresses, &operator_key, &secret).await?);

    // The gateway goes last: until then payments come to their end.
    let gateway_shutdown = CancellationToken::new();
    let gateway = gateway
        .map(|gateway| tokio::spawn(gateway.run(gateway_shutdown.clone().cancelled_owned())));
    // The API goes first: while it answers who still waits, the workers decide.
    let workers_shutdown = CancellationToken::new();
    let api_gone = workers_shutdown.clone();
    let api_shutdown = shutdown.clone().cancelled_owned();
    let api = tokio::spawn(async move {
        let served = server.run(api_shutdown).await;
        api_gone.cancel();
        served
    });
    let worked = stampede_worker::run(
        worker,
        &payments,
        webhooks,
        worker_database,
        workers_shutdown.cancelled_owned(),
    );
    let worked = worked.await;
    shutdown.cancel();
    let served = api.await.context("the API panicked");
    gateway_shutdown.cancel();
    if let Some(gateway) = gateway {
        gateway.await.context("the simulated gateway panicked")??;
    }
    // Before the database goes: connections that it cuts would complain.
    for pool in pools {
        tokio::time::timeout(CLOSE_PATIENCE, pool.close())
            .await
            .ok();
    }
    worked.and(served?)
}
