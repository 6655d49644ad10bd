//! The settings of `stampede flood`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    arrivals::Shape,
    pay::PayArgs,
    wants::{Ask, Mix},
};

/// Sends a flood of buyers at one show and checks that nothing was lost, doubled or oversold.
///
/// Without --target it starts its own server: a database, `stampede gateway`, `stampede api` and
/// `stampede worker`.
#[derive(Debug, Clone, Args)]
pub struct FloodArgs {
    /// A short flood that finishes within a minute, with everything that it starts. What is set
    /// explicitly still counts.
    #[arg(long, env = "STAMPEDE_FLOOD_QUICK")]
    pub quick: bool,

    #[command(flatten, next_help_heading = "Server")]
    pub server: ServerArgs,

    #[command(flatten, next_help_heading = "Arrivals")]
    pub arrivals: ArrivalArgs,

    #[command(flatten, next_help_heading = "Buyers")]
    pub habits: HabitArgs,

    #[command(flatten, next_help_heading = "Payments")]
    pub pay: PayArgs,

    #[command(flatten, next_help_heading = "Hall")]
    pub hall: HallArgs,

    #[command(flatten, next_help_heading = "Client")]
    pub client: ClientArgs,

    #[command(flatten, next_help_heading = "Report")]
    pub report: ReportArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// A running server, such as http://127.0.0.1:8080 [default: start one]
    #[arg(long, env = "STAMPEDE_FLOOD_TARGET", value_name = "URL")]
    #[arg(requires = "operator_key", requires = "buyer_secret")]
    pub target: Option<String>,

    /// The key to create the show with, of role operator or admin; with --target
    #[arg(
        long,
        env = "STAMPEDE_OPERATOR_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub operator_key: Option<String>,

    /// The secret that the target checks buyers' tokens with (HS256); with --target
    #[arg(
        long,
        env = "STAMPEDE_BUYER_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub buyer_secret: Option<String>,

    /// With --target: the server's database, for the checker, which without it has only the API.
    /// Else: where to make a fresh database for this flood [default: an embedded Postgres]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// Worker processes of the server that the flood starts
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_WORKERS",
        value_name = "N",
        default_value_t = 2
    )]
    pub workers: usize,

    /// Kill a part of the started server this often, and start it again: the gateway, the API, each
    /// worker, and the embedded Postgres, in turn
    #[arg(long, env = "STAMPEDE_FLOOD_KILL_EVERY", value_name = "SECONDS", value_parser = positive)]
    #[arg(conflicts_with = "target")]
    pub kill_every: Option<f64>,

    /// Keep the database and the logs of the server that the flood started
    #[arg(long, env = "STAMPEDE_FLOOD_KEEP")]
    pub keep: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ArrivalArgs {
    /// How buyers arrive (open model: whether or not the server keeps up)
    /// [default: burst; with --quick: poisson]
    #[arg(long, env = "STAMPEDE_FLOOD_ARRIVALS", value_enum)]
    pub arrivals: Option<Shape>,

    /// Arrivals per second, on average [default: 3000; with --quick: 1500]
    #[arg(long, env = "STAMPEDE_FLOOD_RATE", value_name = "N", value_parser = positive)]
    pub rate: Option<f64>,

    /// How long buyers arrive; with --buyers: how long new requests begin
    #[arg(long, env = "STAMPEDE_FLOOD_DURATION", value_name = "SECONDS", value_parser = positive)]
    #[arg(conflicts_with = "requests")]
    pub duration: Option<f64>,

    /// How many requests in all [default: 100000; with --quick: 10000]
    #[arg(long, env = "STAMPEDE_FLOOD_REQUESTS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub requests: Option<u64>,

    /// Closed model: so many buyers, each of whom submits, waits and confirms, and then begins again
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_BUYERS",
        value_name = "N",
        conflicts_with = "arrivals"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub buyers: Option<u32>,

    /// Decides what everybody wants, when they arrive and what they do
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_SEED",
        value_name = "N",
        default_value_t = 1
    )]
    pub seed: u64,
}

#[derive(Debug, Clone, Args)]
pub struct HabitArgs {
    /// What buyers ask for first: named seats, the best available, general admission
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_MIX",
        default_value = "seats=60,best=30,general=10"
    )]
    pub mix: Mix,

    /// Share of requests with a second wish
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_FALLBACK",
        value_name = "SHARE",
        default_value_t = 0.3
    )]
    #[arg(value_parser = share)]
    pub fallback: f64,

    /// How much named seats crowd at the front: 0 is evenly, 3 is three quarters in the first third
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_HEAT",
        value_name = "N",
        default_value_t = 1.0
    )]
    #[arg(value_parser = not_negative)]
    pub heat: f64,

    /// Share of requests that would not pay the full price
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_STINGY",
        value_name = "SHARE",
        default_value_t = 0.02
    )]
    #[arg(value_parser = share)]
    pub stingy: f64,

    /// Share of requests of a buyer who asked before
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_RETURNING",
        value_name = "SHARE",
        default_value_t = 0.1
    )]
    #[arg(value_parser = share)]
    pub returning: f64,

    /// Share of requests that are sent twice, with the same key
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_REPLAY",
        value_name = "SHARE",
        default_value_t = 0.01
    )]
    #[arg(value_parser = share)]
    pub replay: f64,

    /// When buyers ask for the outcome: at once, or only when everybody has submitted, which shows the
    /// rate of acceptance alone
    #[arg(long, env = "STAMPEDE_FLOOD_ASK", value_enum, default_value_t = Ask::AtOnce)]
    pub ask: Ask,

    /// Share of buyers who leave the line at once
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_LEAVE",
        value_name = "SHARE",
        default_value_t = 0.01
    )]
    #[arg(value_parser = share)]
    pub leave: f64,

    /// Share of holds that are paid for and so confirmed
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_CONFIRM",
        value_name = "SHARE",
        default_value_t = 0.7
    )]
    #[arg(value_parser = share)]
    pub confirm: f64,

    /// Share of holds that are cancelled; the rest is left to expire
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_CANCEL",
        value_name = "SHARE",
        default_value_t = 0.1
    )]
    #[arg(value_parser = share)]
    pub cancel: f64,
}

#[derive(Debug, Clone, Args)]
pub struct HallArgs {
    /// Numbered seats of the flood's show
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_SEATS",
        value_name = "N",
        default_value_t = 2000
    )]
    pub seats: usize,

    /// Sections that the seats are spread over
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_SECTIONS",
        value_name = "N",
        default_value_t = 4
    )]
    pub sections: usize,

    /// Places of the general-admission floor
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_FLOOR",
        value_name = "N",
        default_value_t = 600
    )]
    pub floor: u32,

    /// The most seats that one buyer may have
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_BUYER_LIMIT",
        value_name = "N",
        default_value_t = 8
    )]
    pub buyer_limit: u32,

    /// How long a hold lives [default: 600; with --quick: 20, so that what is abandoned is seen to be
    /// free again]
    #[arg(long, env = "STAMPEDE_FLOOD_HOLD_SECONDS", value_name = "N")]
    pub hold_seconds: Option<u32>,

    /// The most requests that may wait [default: all of the flood]
    #[arg(long, env = "STAMPEDE_FLOOD_QUEUE_LIMIT", value_name = "N")]
    pub queue_limit: Option<u32>,
}

#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Connections for submissions, and as many for payments; three quarters as many more serve
    /// cancellations, plain polls, and the gateway
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_CONNECTIONS",
        value_name = "N",
        default_value_t = 128
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub connections: u32,

    /// Connections for long-polls; a buyer who gets none polls plainly [default: 1000, or as many as
    /// may be open]
    #[arg(long, env = "STAMPEDE_FLOOD_POLLERS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=50_000))]
    pub pollers: Option<u32>,

    /// How long a buyer tries again before giving up
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_PATIENCE",
        value_name = "SECONDS",
        default_value_t = 60.0
    )]
    #[arg(value_parser = positive)]
    pub patience: f64,
}

#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Write the figures to this file
    #[arg(long, env = "STAMPEDE_FLOOD_JSON", value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write a page with charts to this file
    #[arg(long, env = "STAMPEDE_FLOOD_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|number| *number > 0.0)
        .ok_or_else(|| "must be above 0".to_owned())
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|number| *number >= 0.0)
        .ok_or_else(|| "must not be below 0".to_owned())
}

/// Between 0 and 1.
pub fn share(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be between 0 and 1".to_owned())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
