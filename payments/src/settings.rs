//! Which gateway takes the money, and how it is reached.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use secrecy::SecretString;

use crate::{gateway::Gateway, simulated::Simulated, stripe::Stripe, till::Terms};

/// Which gateway takes the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GatewayKind {
    /// Stripe, over its HTTP API.
    Stripe,
    /// `stampede gateway`: no real money.
    Simulated,
}

/// How the gateway is reached. Without a gateway, only what costs nothing can be confirmed.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Payments")]
#[group(id = "payments")]
pub struct Settings {
    /// Which gateway takes the money [default: none, so only what costs nothing can be confirmed]
    #[arg(long, env = "STAMPEDE_GATEWAY", value_name = "GATEWAY")]
    pub gateway: Option<GatewayKind>,

    /// Where the gateway is [default: https://api.stripe.com for stripe]
    #[arg(long, env = "STAMPEDE_GATEWAY_URL", value_name = "URL")]
    pub gateway_url: Option<String>,

    /// Our secret key at the gateway
    #[arg(
        long,
        env = "STAMPEDE_GATEWAY_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub gateway_key: Option<SecretString>,

    /// Where Stripe sends a buyer back to after a further step; without it, cards that need one by a
    /// redirect are not taken
    #[arg(long, env = "STAMPEDE_GATEWAY_RETURN_URL", value_name = "URL")]
    pub gateway_return_url: Option<String>,

    /// The secrets that the gateway signs its callbacks with; two while one is being replaced
    #[arg(
        long,
        env = "STAMPEDE_GATEWAY_CALLBACK_SECRETS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "SECRETS"
    )]
    pub gateway_callback_secrets: Vec<SecretString>,

    /// How long one call to the gateway may take
    #[arg(long, env = "STAMPEDE_GATEWAY_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub gateway_timeout_ms: u64,

    /// How long a payment in flight keeps its seats beyond the end of the hold, at most
    #[arg(long, env = "STAMPEDE_PAYMENT_FENCE_SECONDS", default_value_t = 180, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub payment_fence_seconds: u32,

    /// A hold with less time left than this starts no payment
    #[arg(long, env = "STAMPEDE_PAYMENT_TIME_MIN_SECONDS", default_value_t = 5, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(0..=600))]
    pub payment_time_min_seconds: u32,

    /// A payment that is not final and has not moved for so long is looked up at the gateway
    #[arg(long, env = "STAMPEDE_PAYMENT_STUCK_MS", default_value_t = 30_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub payment_stuck_ms: u64,
}

impl Settings {
    /// How long things may take.
    pub fn terms(&self) -> Terms {
        Terms {
            fence: Duration::from_secs(self.payment_fence_seconds.into()),
            time_min: Duration::from_secs(self.payment_time_min_seconds.into()),
            stuck: Duration::from_millis(self.payment_stuck_ms),
        }
    }

    /// The gateway that they name, if any.
    pub fn connect(&self) -> anyhow::Result<Option<Arc<dyn Gateway>>> {
        let Some(kind) = self.gateway else {
            return Ok(None);
        };
        let key = self
            .gateway_key
            .clone()
            .context("--gateway-key (STAMPEDE_GATEWAY_KEY) is missing")?;
        let secrets = self.gateway_callback_secrets.clone();
        ensure!(
            secrets.len() <= 2,
            "at most two callback secrets can be in use"
        );
        let timeout = Duration::from_millis(self.gateway_timeout_ms);
        let gateway: Arc<dyn Gateway> = match kind {
            GatewayKind::Stripe => {
                let url = self.gateway_url.as_deref();
                let url = url.unwrap_or("https://api.stripe.com");
                let stripe = Stripe::new(url, key, secrets, timeout)?;
                match &self.gateway_return_url {
                    Some(url) => Arc::new(stripe.with_return_url(url)?),
                    None => Arc::new(stripe),
                }
            }
            GatewayKind::Simulated => {
                let url = self.gateway_url.as_deref();
                let url = url.context("--gateway-url (STAMPEDE_GATEWAY_URL) is missing")?;
                Arc::new(Simulated::new(url, key, secrets, timeout)?)
            }
        };
        Ok(Some(gateway))
    }
}
