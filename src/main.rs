//! The one binary: everything in one process, or one part of it.

mod api_key;
mod arguments;
mod demo;
mod dev;
mod gateway;
mod healthcheck;
mod parts;
mod reconcile;
mod shutdown;
mod worker_http;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stampede_shared::{store::DatabaseSettings, telemetry::LogSettings};

/// A request allocates dozens of times, on all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A fair, durable booking queue on Postgres.
///
/// Without a command, `stampede` is `stampede dev`: everything in one process, with a database of its
/// own and a demo hall. In production, run `stampede migrate` once and then any number of `stampede
/// api` and `stampede worker` against one DATABASE_URL.
///
/// Every setting is a flag and an environment variable; a flag wins.
#[derive(Debug, Parser)]
#[command(name = "stampede", version)]
struct Cli {
    #[command(flatten)]
    log: LogSettings,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything in one process (the default)
    Dev(Box<dev::Settings>),
    /// Accepts booking requests and answers them over HTTP
    Api(Box<parts::ApiSettings>),
    /// Decides booking requests and ends overdue holds
    Worker(Box<parts::WorkerSettings>),
    /// Brings the tables of the database up to date
    Migrate(DatabaseSettings),
    /// Simulates a payment gateway that moves no money, for trials and tests
    Gateway(Box<stampede_gateway::Settings>),
    /// Compares our payments with the gateway's ledger; exit code 1 when they differ
    Reconcile(Box<reconcile::Settings>),
    /// Sends a crowd of buyers and checks what became of each
    Flood(Box<stampede_flood::FloodArgs>),
    /// Measures each part beside the bare limit of the database
    Bench(stampede_bench::BenchArgs),
    /// Asks a running process whether it is ready; exit code 1 if not
    Healthcheck(healthcheck::Settings),
    /// Creates an operator's API key and prints it
    ApiKey(api_key::Settings),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments::with_default_command::<Cli>("dev")) {
        Ok(cli) => cli,
        Err(error) => return arguments::explain(&error),
    };
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // Places where a test ends this process; only builds for tests have them.
    let _fail_points = fail::has_failpoints().then(fail::FailScenario::setup);
    stampede_shared::telemetry::log(&cli.log)?;
    match cli.command {
        Command::Dev(settings) => dev::run(*settings).await?,
        Command::Api(settings) => parts::run_api(*settings).await?,
        Command::Worker(settings) => parts::run_worker(*settings).await?,
        Command::Migrate(settings) => parts::migrate(&settings).await?,
        Command::Gateway(settings) => gateway::run(*settings).await?,
        Command::Reconcile(settings) => return reconcile::run(*settings).await,
        Command::Flood(arguments) => return stampede_flood::flood(*arguments).await,
        Command::Bench(arguments) => return stampede_bench::bench(arguments).await,
        Command::Healthcheck(settings) => healthcheck::run(&settings).await?,
        Command::ApiKey(settings) => api_key::run(&settings).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The error and its causes, each once: some texts already end with their cause's.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_flag_is_defined_twice() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_an_environment_variable_and_a_help_text() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                let name = argument.get_id();
                assert!(
                    argument.get_help().is_some(),
                    "{}: {name}",
                    command.get_name()
                );
                let one_off = ["flood", "bench", "healthcheck", "api-key"];
                if !one_off.contains(&command.get_name()) {
                    assert!(
                        argument.get_env().is_some(),
                        "{}: {name}",
                        command.get_name()
                    );
                }
            }
        }
    }

    #[test]
    fn causes_are_joined_in_one_line() {
        let error = anyhow::anyhow!("refused\nby peer").context("connecting: refused\nby peer");
        assert_eq!(
            one_line(&error.context("starting")),
            "starting: connecting: refused by peer"
        );
    }
}
