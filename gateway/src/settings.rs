//! The settings of the simulated gateway: every one a flag and an environment variable.

use std::{net::SocketAddr, path::PathBuf};

use secrecy::SecretString;

/// Where the simulated gateway listens, whom it tells, and what it remembers.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Simulated gateway")]
#[group(id = "simulated_gateway")]
pub struct Settings {
    /// Where the gateway listens; port 0 takes a free one
    #[arg(
        long,
        env = "STAMPEDE_SIMULATED_LISTEN",
        default_value = "127.0.0.1:8090",
        value_name = "ADDRESS"
    )]
    pub gateway_listen: SocketAddr,

    /// How buyers' browsers reach it, for the pages of further steps [default: the address]
    #[arg(long, env = "STAMPEDE_SIMULATED_PUBLIC_URL", value_name = "URL")]
    pub gateway_public_url: Option<String>,

    /// The secret key of its one client
    #[arg(
        long,
        env = "STAMPEDE_SIMULATED_SECRET_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub secret_key: SecretString,

    /// Where it sends its callbacks [default: nowhere]
    #[arg(
        long,
        env = "STAMPEDE_SIMULATED_CALLBACK_URL",
        requires = "callback_secret",
        value_name = "URL"
    )]
    pub callback_url: Option<String>,

    /// The secret that it signs them with
    #[arg(
        long,
        env = "STAMPEDE_SIMULATED_CALLBACK_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub callback_secret: Option<SecretString>,

    /// The file that its ledger is appended to and continued from [default: none, it is forgotten]
    #[arg(long, env = "STAMPEDE_SIMULATED_LEDGER", value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// How long it remembers idempotency keys
    #[arg(long, env = "STAMPEDE_SIMULATED_KEY_MEMORY_SECONDS", default_value_t = 86_400, value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(0..=604_800))]
    pub key_memory_seconds: u32,
}
