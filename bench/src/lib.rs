//! The benchmark: the product's own path beside the bare limit, in one run on one database.
//!
//! Machines differ and are shared, so the ratios are what counts: product and limit take turns in the
//! same run, and medians are compared.

mod accept;
mod answer;
mod bare_server;
mod decide;
mod figures;
mod hall;
mod product;
mod report;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use stampede_flood::scratch::ScratchDatabase;
use stampede_shared::store::{Database, DatabaseSettings};

use crate::{decide::Log, hall::Asks, product::Product, report::Report};

/// The product's API and the turns share these.
const CONNECTIONS: u32 = 12;

/// How long each round of accepting lasts.
const ACCEPT_FOR: Duration = Duration::from_secs(5);

/// What is measured, and where to.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Measure in a new database on this server [default: an embedded one]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,

    /// How often product and limit take turns; medians are reported
    #[arg(long, default_value_t = 3, value_name = "ROUNDS",
        value_parser = clap::value_parser!(u8).range(1..=25))]
    rounds: u8,

    /// Requests in the log that is decided
    #[arg(long, default_value_t = 100_000, value_name = "REQUESTS",
        value_parser = clap::value_parser!(u32).range(1_000..=2_000_000))]
    requests: u32,

    /// Long-polls that wait at once; each takes two open files
    #[arg(long, default_value_t = 4_000, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=9_000))]
    waiters: u32,

    /// Also decide a backlog of ten times as many requests, to see that its length costs nothing
    #[arg(long)]
    backlog: bool,

    /// Measure this part only
    #[arg(long, value_name = "PART")]
    only: Option<Part>,

    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// HTTP to durable 202
    Accept,
    /// Turns over a filled log
    Decide,
    /// Long-polls woken
    Answer,
}

/// Measures everything and prints a table.
pub async fn bench(args: BenchArgs) -> Result<ExitCode> {
    let scratch = ScratchDatabase::create(args.database_url.as_deref(), "stampede_bench").await?;
    let settings = DatabaseSettings {
        database_url: scratch.url.clone(),
        listen_database_url: None,
    };
    let measured = measure(&args, &settings).await;
    scratch.remove().await?;
    let report = measured?;
    print!("{}", report.table());
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &BenchArgs, settings: &DatabaseSettings) -> Result<Report> {
    let database = Database::connect(settings, CONNECTIONS, "stampede bench").await?;
    database.migrate().await?;
    stampede_worker::set_up_jobs(&database.pool).await?;
    let rounds = usize::from(args.rounds);
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut report = Report::default();
    if wanted(Part::Accept) || wanted(Part::Answer) {
        let product = Product::start(database.clone()).await?;
        if wanted(Part::Accept) {
            eprintln!("accept: {} connections", accept::CONNECTIONS);
            let accept = accept::measure(&database, &product, rounds, ACCEPT_FOR).await?;
            report.accept = Some(accept.figure.summary());
            report.accept_ms = Some(accept.latencies.summary());
            report.accept_alone_ms = Some(accept.alone.summary());
        }
        if wanted(Part::Answer) {
            eprintln!("answer: {} long-polls", args.waiters);
            let waiters = args.waiters as usize;
            let answer = answer::measure(&database, &product, rounds, waiters).await?;
            report.answer = Some(answer.summary());
        }
    }
    if wanted(Part::Decide) {
        measure_decide(args, &database, rounds, &mut report).await?;
    }
    Ok(report)
}

async fn measure_decide(
    args: &BenchArgs,
    database: &Database,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    // Ten requests for each seat; for best available, as many seats as are asked for.
    let requests = args.requests as usize;
    let contested = Log {
        asks: Asks::NamedSeats,
        sections: (requests / 20_000).max(1),
        seats_per_section: 2_000,
        requests,
    };
    let sold_out = Log {
        sections: 1,
        seats_per_section: 50,
        ..contested
    };
    let best = Log {
        asks: Asks::BestAvailable,
        sections: 10,
        requests: 8_000,
        ..contested
    };
    eprintln!("decide: {requests} requests");
    report.decide = Some(
        decide::measure(database, contested, rounds)
            .await?
            .summary(),
    );
    report.decide_sold_out = Some(decide::measure(database, sold_out, rounds).await?.summary());
    report.best_available = Some(decide::measure(database, best, rounds).await?.summary());
    if args.backlog {
        // The same hall, so that only the length of the line differs.
        let short = Log {
            requests: requests / 10,
            ..sold_out
        };
        let long = Log {
            requests: requests * 10,
            ..sold_out
        };
        eprintln!("backlog: {} and {} requests", short.requests, long.requests);
        report.backlog_short = Some(decide::measure(database, short, rounds).await?.summary());
        report.backlog_long = Some(decide::measure(database, long, 1).await?.summary());
    }
    Ok(())
}
