//! The product's API, in this process, beside the bare server: both share one runtime with the clients.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use chrono::Utc;
use clap::{Args, FromArgMatches};
use metrics_exporter_prometheus::PrometheusHandle;
use stampede_api::{Server, Settings};
use stampede_flood::calls::Minter;
use stampede_payments::Settings as PaymentSettings;
use stampede_shared::{store::Database, telemetry, webhooks::WebhookSettings};
use tokio::{task::AbortHandle, time::Instant};

/// Signs the tokens of the benchmark's buyers.
const BUYER_SECRET: &str = "the secret of the benchmark's buyers";

/// The API as it is served, everything on; only the limits are too high to be met.
const ARGUMENTS: [&str; 9] = [
    "bench",
    "--listen=127.0.0.1:0",
    "--rate-buyer=1000000/1",
    "--rate-address=10000000/1",
    "--rate-show=10000000/1",
    "--connections-max=20000",
    "--api-database-connections=8",
    "--buyer-secret",
    BUYER_SECRET,
];

/// How long waiters may take to be there.
const WAITERS_TIMEOUT: Duration = Duration::from_secs(30);

/// A running API; ends when dropped.
pub struct Product {
    pub url: String,
    metrics: PrometheusHandle,
    minter: Arc<Minter>,
    server: AbortHandle,
}

impl Drop for Product {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Product {
    pub async fn start(database: Database) -> Result<Product> {
        let command = Settings::augment_args(clap::Command::new("bench"));
        let settings = Settings::from_arg_matches(&command.try_get_matches_from(ARGUMENTS)?)?;
        let payments = PaymentSettings::augment_args(clap::Command::new("bench"));
        let payments =
            PaymentSettings::from_arg_matches(&payments.try_get_matches_from(["bench"])?)?;
        let metrics = telemetry::metrics()?;
        let webhooks = WebhookSettings::default();
        let server = Server::bind(settings, &payments, webhooks, database, metrics.clone()).await?;
        let url = format!("http://{}", server.address());
        let server = tokio::spawn(server.run(std::future::pending())).abort_handle();
        let minter = Arc::new(Minter::new(BUYER_SECRET, Utc::now()));
        Ok(Product {
            url,
            metrics,
            minter,
            server,
        })
    }

    pub fn minter(&self) -> Arc<Minter> {
        Arc::clone(&self.minter)
    }

    /// Returns when so many long-polls wait.
    pub async fn wait_for_waiters(&self, count: usize) -> Result<()> {
        let give_up = Instant::now() + WAITERS_TIMEOUT;
        while self.waiters() < count {
            if Instant::now() > give_up {
                bail!("only {} of {count} long-polls wait", self.waiters());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn waiters(&self) -> usize {
        let text = self.metrics.render();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("stampede_waiters "));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}
