//! After the last buyer: waits until the server has finished, then counts, and checks everything.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use anyhow::Context;
use chrono::TimeDelta;
use sqlx::PgPool;
use stampede_payments::{
    reconcile::{Report, Scope, reconcile},
    simulated::Simulated,
};
use stampede_shared::store::{Database, DatabaseSettings, check_payments};
use uuid::Uuid;

use crate::{
    buyers::Crowd,
    calls::QueueAnswer,
    checker, comparison,
    money::{self, Charges, Rows},
    persist::Tries,
    run::{Destination, Flooded, GatewayAccess},
    summary::Summary,
    takings::Takings,
    wants::Want,
};

/// How often it is looked whether the server has finished.
const PACE: Duration = Duration::from_millis(100);

/// How much earlier than the flood its charges may seem to be: clocks differ.
const LEEWAY: TimeDelta = TimeDelta::minutes(10);

/// After so long a server looks payments up, unless it is the flood's own.
const STUCK_DEFAULT: Duration = Duration::from_secs(30);

const LEDGER_TIMEOUT: Duration = Duration::from_secs(10);

impl Flooded {
    /// Counts, and holds what buyers were told against the rows and the gateway's ledger.
    pub async fn check(self, destination: &Destination) -> anyhow::Result<Summary> {
        let crowd = &self.crowd;
        let (plan, url) = (crowd.plan.clone(), destination.url.clone());
        let mut summary = Summary::new(&self.records, plan, url, self.show_id, self.began_at);
        summary.retries = crowd.counters.retries();
        let complaints = crowd.complaints.lock();
        summary.violations =
            std::mem::take(&mut *complaints.unwrap_or_else(PoisonError::into_inner));
        let database = match &destination.database_url {
            Some(url) => Some(connect(url).await?),
            None => None,
        };
        match &database {
            Some(database) => self.check_rows(&database.pool, &mut summary).await?,
            // Without the rows, who was not told the outcome counts as lost.
            None => summary.lost = summary.untold,
        }
        if crowd.plan.habits.pay.is_some() {
            let gateway = destination.gateway.as_ref();
            self.check_money(database.as_ref(), gateway, &mut summary)
                .await?;
        }
        if let Some(database) = database {
            database.pool.close().await;
        }
        Ok(summary)
    }

    /// Waits until nobody is in line any more and nothing is on its way, then checks every row.
    async fn check_rows(&self, db: &PgPool, summary: &mut Summary) -> anyhow::Result<()> {
        let crowd = &self.crowd;
        drain(crowd).await;
        finish(db, self.show_id, crowd.plan.patience).await?;
        let violations = checker::check_drained(db, self.show_id)
            .await
            .context("checking the rows")?;
        let plan = &crowd.plan;
        let want = |index| Want::draw(plan.seed, index, &plan.habits, &crowd.hall);
        let comparison = comparison::compare(
            db,
            self.show_id,
            &crowd.hall,
            &self.records,
            |number| crowd.buyer_id(number),
            want,
        )
        .await
        .context("comparing what buyers were told with the rows")?;
        summary.violations.extend(violations);
        summary.violations.extend(comparison.violations);
        summary.lost = comparison.lost;
        summary.unacknowledged = Some(comparison.unacknowledged);
        summary.database_checked = true;
        Ok(())
    }

    /// Compares the money: what buyers were told, our payments, and the gateway's ledger.
    async fn check_money(
        &self,
        database: Option<&Database>,
        gateway: Option<&GatewayAccess>,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let rows = match database {
            Some(database) => Some(Rows::read(&database.pool, self.show_id).await?),
            None => None,
        };
        let gateway = gateway.map(client).transpose()?.flatten();
        let charges = match &gateway {
            Some(gateway) => {
                Some(Charges::read(gateway, self.began_at - LEEWAY, self.show_id).await?)
            }
            None => None,
        };
        let report = match (database, &gateway) {
            (Some(database), Some(gateway)) => Some(self.reconcile(database, gateway).await?),
            _ => None,
        };
        let found = money::compare(&self.records, rows.as_ref(), charges.as_ref());
        summary.violations.extend(found);
        summary.payments = Some(Takings::new(&self.records, rows.as_ref(), report));
        Ok(())
    }

    async fn reconcile(&self, database: &Database, gateway: &Simulated) -> anyhow::Result<Report> {
        let server = self.crowd.plan.server.as_ref();
        let stuck = server.map(|server| Duration::from_millis(server.payment_stuck_ms.into()));
        let scope = Scope {
            since: Some(self.began_at - LEEWAY),
            show_id: Some(self.show_id),
            stuck: stuck.unwrap_or(STUCK_DEFAULT),
        };
        let report = reconcile(database, gateway, &scope).await;
        report.context("comparing the rows with the gateway's ledger")
    }
}

async fn connect(database_url: &str) -> anyhow::Result<Database> {
    let settings = DatabaseSettings {
        database_url: database_url.to_owned(),
        listen_database_url: None,
    };
    Database::connect(&settings, 2, "stampede flood").await
}

/// A client for the ledger, if there is a key for it.
fn client(gateway: &GatewayAccess) -> anyhow::Result<Option<Simulated>> {
    let Some(key) = &gateway.key else {
        return Ok(None);
    };
    let key = key.as_str().into();
    Simulated::new(&gateway.url, key, Vec::new(), LEDGER_TIMEOUT).map(Some)
}

/// Waits for the requests that were accepted without their buyers knowing.
async fn drain(crowd: &Crowd) {
    let tries = Tries::default();
    while tries.elapsed() < crowd.plan.patience {
        if let Ok(answer) = crowd.acts.call(&crowd.calls.queue()).await
            && let Ok(queue) = serde_json::from_slice::<QueueAnswer>(&answer.body)
            && queue.head >= queue.tail
        {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Waits until every payment and every abandoned hold that can be over within the patience is over.
async fn finish(db: &PgPool, show_id: Uuid, patience: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let left = patience.saturating_sub(began.elapsed());
        let unfinished = check_payments::unfinished(db, show_id, left.as_secs_f64()).await;
        if unfinished.context("looking for payments on their way")? == (0, 0) || left.is_zero() {
            return Ok(());
        }
        tokio::time::sleep(PACE).await;
    }
}
