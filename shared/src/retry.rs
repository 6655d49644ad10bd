//! Trying a batch again while the database is away.

use std::time::{Duration, Instant};

use tracing::{error, warn};
use uuid::Uuid;

/// How long a batch is tried again. A client that waits longer is told to come back.
const RETRY_FOR: Duration = Duration::from_secs(8);

/// The pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Tries until it works; `None` when it failed for good or for too long. An error during a commit
/// leaves the outcome unknown, so a try must find what an earlier one did.
pub async fn retry<T, Try>(
    show_id: Uuid,
    batch: &'static str,
    may_pass: impl Fn(&sqlx::Error) -> bool,
    attempt: impl Fn() -> Try,
) -> Option<T>
where
    Try: Future<Output = sqlx::Result<T>>,
{
    let give_up = Instant::now() + RETRY_FOR;
    loop {
        let failed = match attempt().await {
            Ok(done) => return Some(done),
            Err(failed) => failed,
        };
        if !may_pass(&failed) {
            error!(show.id = %show_id, batch, error = %failed, "a batch failed");
            return None;
        }
        if Instant::now() >= give_up {
            warn!(show.id = %show_id, batch, error = %failed, "gave up on a batch");
            return None;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}
