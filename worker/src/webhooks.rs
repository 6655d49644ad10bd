//! Webhooks out: events become deliveries, and deliveries become calls.
//!
//! The events of a show are numbered in the outbox. `fan_out` makes one delivery of each for each endpoint
//! that wants it, in one transaction; the job in `jobs/deliver_webhooks` makes the calls. So an event is
//! delivered at least once and never without its cause, whoever dies. What a receiver sees twice has the
//! same `webhook-id`.

mod call;
pub mod fan_out;
mod message;
pub mod prune;
mod resolve;
mod stream;
pub mod watch;

use std::time::Duration;

use stampede_shared::webhooks::WebhookSettings;

use call::{Answer, Caller};

pub use stream::{End, Stream};

/// A lease is so many times as long as a call may take.
const LEASE_IN_TIMEOUTS: u32 = 3;

/// How deliveries are made and kept.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhooks")]
#[group(id = "webhook_deliveries")]
pub struct DeliverySettings {
    /// How long one call of a webhook may take
    #[arg(long, env = "STAMPEDE_WEBHOOK_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub webhook_timeout_ms: u64,

    /// The pause after the first failure of a delivery; the later ones grow with it, to 12 hours by default
    #[arg(long, env = "STAMPEDE_WEBHOOK_RETRY_MS", default_value_t = 5_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub webhook_retry_ms: u64,

    /// How long events are kept that have been delivered, so that they can be delivered again
    #[arg(long, env = "STAMPEDE_WEBHOOK_RETENTION_DAYS", default_value_t = 30, value_name = "DAYS",
        value_parser = clap::value_parser!(u16).range(1..=3_650))]
    pub webhook_retention_days: u16,
}

/// What makes the deliveries of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    caller: Caller,
    timeout: Duration,
    retry: Duration,
    pub retention_days: u16,
}

impl Webhooks {
    pub fn new(settings: &DeliverySettings, where_to: WebhookSettings) -> anyhow::Result<Webhooks> {
        let timeout = Duration::from_millis(settings.webhook_timeout_ms);
        Ok(Webhooks {
            caller: Caller::new(timeout, where_to.webhook_allow_private)?,
            timeout,
            retry: Duration::from_millis(settings.webhook_retry_ms),
            retention_days: settings.webhook_retention_days,
        })
    }

    /// How long a job has what it works on, without a word from it.
    pub fn lease(&self) -> Duration {
        self.timeout * LEASE_IN_TIMEOUTS
    }
}
