//! Recovery: a payment that has not moved for a while is looked up at its gateway and driven to its end.
//!
//! Whatever happened to it (its process died, the gateway hung, a callback never came), the look tells.
//! Refunds that are due are payments like this, too.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stampede_shared::store::{across_shows, payments};
use tracing::info;
use uuid::Uuid;

use super::{Job, Jobs, ShowJob};

#[derive(Debug, Serialize, Deserialize)]
pub struct RecoverPayment {
    show_id: Uuid,
    payment_id: Uuid,
}

impl Job for RecoverPayment {
    const QUEUE: &'static str = "recover_payment";
    /// They wait for the gateway and hold no connection meanwhile.
    const AT_ONCE: usize = 32;

    async fn run(self, jobs: Jobs) -> anyhow::Result<()> {
        let (show_id, payment_id) = (self.show_id, self.payment_id);
        let before = payments::find_one(&jobs.database.pool, show_id, payment_id).await;
        let Some(before) = before.context("reading a payment")? else {
            return Ok(());
        };
        let after = jobs.till.drive(show_id, payment_id).await?;
        let state = after.map_or(before.state, |payment| payment.state);
        if state != before.state {
            info!(
                show.id = %show_id, payment.id = %payment_id,
                from = before.state.as_str(), to = state.as_str(), "payment recovered"
            );
            metrics::counter!("stampede_payments_recovered_total", "state" => state.as_str())
                .increment(1);
        }
        Ok(())
    }
}

impl ShowJob for RecoverPayment {
    async fn shows(jobs: &Jobs, limit: i64) -> sqlx::Result<Vec<Uuid>> {
        across_shows::shows_with_payments_to_recover(&jobs.database.pool, limit).await
    }

    async fn take_due(
        connection: &mut PgConnection,
        show_id: Uuid,
        jobs: &Jobs,
        limit: i64,
    ) -> sqlx::Result<Vec<RecoverPayment>> {
        let stuck = jobs.terms.stuck;
        let due = payments::take_due(connection, show_id, stuck, limit).await?;
        let due = due.into_iter().map(|payment_id| RecoverPayment {
            show_id,
            payment_id,
        });
        Ok(due.collect())
    }
}
