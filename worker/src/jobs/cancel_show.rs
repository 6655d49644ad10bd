//! A cancelled show: its bookings are cancelled and its holds ended, some in each transaction.
//!
//! It begins again after a crash, for as long as anything is left. The refunds that it makes due are
//! given by recovery.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use stampede_shared::store::{across_shows, show_inventory};
use tracing::info;
use uuid::Uuid;

use super::{Job, Jobs, ShowJob};

#[derive(Debug, Serialize, Deserialize)]
pub struct CancelShow {
    show_id: Uuid,
}

impl Job for CancelShow {
    const QUEUE: &'static str = "cancel_show";
    const AT_ONCE: usize = 2;

    async fn run(self, jobs: Jobs) -> anyhow::Result<()> {
        let show_id = self.show_id;
        let more = || jobs.till.cancel_some_of_show(show_id);
        while more().await.context("cancelling some of a show")? {}
        let mut tx = jobs.database.begin().await?;
        let cleared = show_inventory::lock(&mut tx, show_id).await?.is_some()
            && show_inventory::set_cleared(&mut tx, show_id).await?;
        tx.commit().await?;
        if cleared {
            info!(show.id = %show_id, "the bookings of a cancelled show are cancelled");
        }
        Ok(())
    }
}

impl ShowJob for CancelShow {
    async fn shows(jobs: &Jobs, limit: i64) -> sqlx::Result<Vec<Uuid>> {
        across_shows::shows_to_clear(&jobs.database.pool, limit).await
    }

    async fn take_due(
        connection: &mut PgConnection,
        show_id: Uuid,
        _: &Jobs,
        _: i64,
    ) -> sqlx::Result<Vec<CancelShow>> {
        let taken = show_inventory::take_clearing(connection, show_id).await?;
        Ok(taken
            .then_some(CancelShow { show_id })
            .into_iter()
            .collect())
    }
}
