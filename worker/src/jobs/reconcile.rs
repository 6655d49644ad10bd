//! Once a day: our payments and the gateway's ledger are compared, cent by cent.

use chrono::{NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use stampede_payments::reconcile::{Scope, reconcile};
use tracing::{error, info, warn};

use super::{DailyJob, Job, Jobs};

/// How far it looks back: yesterday, and the day before for what was in flight then.
const LOOK_BACK: TimeDelta = TimeDelta::days(2);

/// The most mismatches in the log; `stampede reconcile` shows more.
const LOGGED_MAX: usize = 20;

#[derive(Debug, Serialize, Deserialize)]
pub struct Reconcile {
    day: NaiveDate,
}

impl DailyJob for Reconcile {
    fn of(day: NaiveDate) -> Reconcile {
        Reconcile { day }
    }
}

impl Job for Reconcile {
    const QUEUE: &'static str = "reconcile";
    const AT_ONCE: usize = 1;

    async fn run(self, jobs: Jobs) -> anyhow::Result<()> {
        let Some(gateway) = jobs.till.gateway() else {
            return Ok(());
        };
        let scope = Scope {
            since: Some(Utc::now() - LOOK_BACK),
            show_id: None,
            stuck: jobs.terms.stuck,
        };
        let report = reconcile(&jobs.database, gateway.as_ref(), &scope).await?;
        metrics::gauge!("stampede_reconcile_mismatches").set(report.mismatches as f64);
        let (payments, charges) = (report.payments, report.charges);
        if report.unclear > 0 {
            let unclear = report.unclear;
            warn!(day = %self.day, unclear, "the gateway gave no clear answer for some payments");
        }
        if report.mismatches == 0 {
            info!(day = %self.day, payments, charges, "our payments are those of the gateway");
            return Ok(());
        }
        let mismatches = report.mismatches;
        error!(
            day = %self.day, payments, charges, mismatches,
            "our payments are not those of the gateway; run `stampede reconcile`"
        );
        for mismatch in report.mismatched.iter().take(LOGGED_MAX) {
            error!("mismatch: {mismatch}");
        }
        Ok(())
    }
}
