//! Logs and metrics: set up once a process, by its `main`.
//!
//! Logs go to standard error, so that standard output stays for what a program reads. Metrics are
//! gathered in the process and rendered on demand; whoever serves HTTP serves them.

use std::{
    io::{IsTerminal, stderr},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, anyhow};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// From the half millisecond of one lone commit to the timeouts.
const SECONDS_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Of batches and turns.
const REQUESTS_BUCKETS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 10_000.0,
];

/// How often what histograms collected is folded; in between it takes memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How the log is written, and what is in it.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Log")]
pub struct LogSettings {
    /// The form of the log on standard error
    #[arg(
        long,
        env = "STAMPEDE_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,

    /// What is logged: a level, or target=level pairs, such as info,stampede_worker=debug
    #[arg(
        long = "log",
        env = "STAMPEDE_LOG",
        default_value = "info",
        value_name = "FILTER",
        global = true
    )]
    pub log_filter: String,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Logs from now on.
pub fn log(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&settings.log_filter)
        .with_context(|| format!("--log {} is no filter", settings.log_filter))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    let installed = match settings.log_format {
        LogFormat::Text => subscriber.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
    };
    installed.map_err(|error| anyhow!("starting the log: {error}"))
}

/// Gathers metrics from the first call on; every call gives the way to read them. Needs a tokio
/// runtime.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_requests".to_owned()), &REQUESTS_BUCKETS)?
        .install_recorder()
        .context("starting the metrics")?;
    tokio::spawn(keep_up(handle.clone()));
    Ok(HANDLE.get_or_init(|| handle).clone())
}

async fn keep_up(handle: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}
