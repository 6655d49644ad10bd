//! The load test: buyers, arrivals, figures, checker, report; and the benchmark.
//!
//! A flood never spares the server: arrivals do not wait for answers, latencies count from the
//! intended start, and every acceptance is held against the database afterwards.

pub mod args;
pub mod arrivals;
mod audit;
pub mod buyers;
pub mod calls;
pub mod checker;
pub mod client;
pub mod comparison;
pub mod figures;
pub mod hall;
mod launcher;
pub mod line;
pub mod money;
mod open_files;
pub mod own_server;
pub mod pay;
mod persist;
pub mod plan;
mod progress;
pub mod report;
pub mod run;
pub mod scratch;
pub mod series;
pub mod summary;
pub mod takings;
pub mod wants;
pub mod wish;

use std::{pin::pin, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};

pub use args::FloodArgs;

use crate::{
    own_server::OwnServer,
    plan::Plan,
    run::{Destination, GatewayAccess},
    summary::Summary,
};

/// Runs a flood and reports on it. The exit code is 1 when a promise was broken.
pub async fn flood(args: FloodArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(&args)?;
    open_files::check(&plan)?;
    let summary = match &args.server.target {
        Some(target) => {
            let destination = Destination {
                url: target.clone(),
                operator_key: args
                    .server
                    .operator_key
                    .clone()
                    .context("--operator-key is missing")?,
                buyer_secret: args
                    .server
                    .buyer_secret
                    .clone()
                    .context("--buyer-secret is missing")?,
                database_url: args.server.database_url.clone(),
                gateway: args.pay.gateway_url.clone().map(|url| GatewayAccess {
                    url,
                    key: args.pay.gateway_key.clone(),
                }),
            };
            until_interrupted(async {
                run::flood(plan, &destination)
                    .await?
                    .check(&destination)
                    .await
            })
            .await?
        }
        None => flood_own_server(&args, plan).await?,
    };
    print!("{}", report::terminal::render(&summary));
    if let Some(path) = &args.report.json {
        report::write(path, &report::json::render(&summary)?)?;
    }
    if let Some(path) = &args.report.html {
        report::write(path, &report::html::render(&summary))?;
    }
    Ok(if summary.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn flood_own_server(args: &FloodArgs, plan: Plan) -> anyhow::Result<Summary> {
    let paid = plan.habits.pay.is_some();
    let server_plan = plan.server.clone().context("there is no server to start")?;
    let mut starting = pin!(OwnServer::start(&args.server, &server_plan, paid));
    let mut server = tokio::select! {
        server = &mut starting => server?,
        error = interruption() => {
            // What is half started cannot be removed.
            if let Ok(server) = starting.await {
                server.stop().await?;
            }
            return Err(error);
        }
    };
    let destination = Destination {
        url: server.url.clone(),
        operator_key: server.operator_key.clone(),
        buyer_secret: server.buyer_secret.clone(),
        database_url: Some(server.database_url.clone()),
        gateway: server.gateway.as_ref().map(|gateway| GatewayAccess {
            url: gateway.url.clone(),
            key: Some(gateway.key.clone()),
        }),
    };
    let kill_every = args.server.kill_every.map(Duration::from_secs_f64);
    let summary = until_interrupted(async {
        let flooded = server
            .watch(kill_every, run::flood(plan, &destination))
            .await?;
        server.watch(None, flooded.check(&destination)).await
    })
    .await;
    let stopped = server.stop().await;
    let summary = summary?;
    stopped?;
    Ok(summary)
}

/// Fails on Ctrl-C and SIGTERM, so that what was started is ended in an orderly way.
async fn until_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        error = interruption() => Err(error),
    }
}

/// Returns on Ctrl-C and SIGTERM.
async fn interruption() -> anyhow::Error {
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    let (mut interrupt, mut terminate) = match signals {
        Ok(signals) => signals,
        Err(error) => return anyhow::Error::new(error).context("listening to signals"),
    };
    tokio::select! {
        _ = interrupt.recv() => anyhow!("interrupted"),
        _ = terminate.recv() => anyhow!("terminated"),
    }
}
