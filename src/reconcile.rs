//! `stampede reconcile`: compares our payments with the gateway's ledger, and fails when they differ.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use stampede_payments::reconcile::{Report, Scope, reconcile};
use stampede_shared::store::{Database, DatabaseSettings};
use uuid::Uuid;

/// Reads one page at a time.
const CONNECTIONS: u32 = 2;

#[derive(Debug, clap::Args)]
pub struct Settings {
    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    payments: stampede_payments::Settings,

    /// How many days to look back
    #[arg(long, env = "STAMPEDE_RECONCILE_DAYS", default_value_t = 2, value_name = "DAYS",
        value_parser = clap::value_parser!(u16).range(1..=3_650))]
    since_days: u16,

    /// Compares everything, from the beginning
    #[arg(long, env = "STAMPEDE_RECONCILE_ALL", conflicts_with = "since_days")]
    all: bool,

    /// Compares one show alone
    #[arg(long, env = "STAMPEDE_RECONCILE_SHOW", value_name = "ID")]
    show: Option<Uuid>,

    /// Writes the report as JSON, to standard output for `-`
    #[arg(long, env = "STAMPEDE_RECONCILE_JSON", value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Compares, reports, and exits with 1 when something does not fit.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let gateway = settings.payments.connect()?;
    let gateway = gateway.context("no gateway to compare with; set --gateway")?;
    let database = Database::connect(&settings.database, CONNECTIONS, "stampede reconcile").await?;
    database.check_migrated().await?;
    let since = (!settings.all).then(|| Utc::now() - TimeDelta::days(settings.since_days.into()));
    let scope = Scope {
        since,
        show_id: settings.show,
        stuck: settings.payments.terms().stuck,
    };
    let report = reconcile(&database, gateway.as_ref(), &scope).await?;
    write(&settings, &report)?;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn write(settings: &Settings, report: &Report) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let Some(path) = &settings.json else {
        return write!(out, "{report}").context("writing the report");
    };
    let json = serde_json::to_string_pretty(report)?;
    if path.as_os_str() == "-" {
        return writeln!(out, "{json}").context("writing the report");
    }
    std::fs::write(path, json + "\n").with_context(|| format!("writing {}", path.display()))?;
    write!(out, "{report}").context("writing the report")
}
