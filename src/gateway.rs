//! The simulated gateway in a process of its own.

use stampede_gateway::{Gateway, Settings};

use crate::{parts::announce, shutdown};

/// Serves HTTP until a signal.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let shutdown = shutdown::on_signal()?;
    let gateway = Gateway::bind(settings).await?;
    announce(&format!("listening on http://{}", gateway.address()));
    gateway.run(shutdown.cancelled_owned()).await
}
