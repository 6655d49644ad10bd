//! The settings of the API: every one a flag and an environment variable.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use ipnet::IpNet;
use secrecy::SecretString;

/// How the API listens, whom it trusts, and how much it takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "API")]
pub struct Settings {
    /// Where to listen; port 0 takes a free one
    #[arg(
        long,
        env = "STAMPEDE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,

    /// The key that signs buyers' tokens (HS256), at least 32 bytes
    #[arg(long, env = "STAMPEDE_BUYER_SECRET", hide_env_values = true, value_name = "SECRET", value_parser = parse_secret)]
    pub buyer_secret: Option<SecretString>,

    /// A PEM file with the public key that buyers' tokens are checked with: Ed25519 (EdDSA) or P-256 (ES256)
    #[arg(long, env = "STAMPEDE_BUYER_PUBLIC_KEY", value_name = "FILE")]
    pub buyer_public_key: Option<PathBuf>,

    /// Whether POST /v1/buyers gives a token to anyone; needs the buyer secret
    #[arg(long, env = "STAMPEDE_ANONYMOUS_BUYERS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub anonymous_buyers: bool,

    /// Proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8,::1/128
    #[arg(
        long,
        env = "STAMPEDE_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_name = "NETWORKS"
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// Submissions of one buyer: COUNT/SECONDS, or off. Reads and everything else: ten times as many
    #[arg(
        long,
        env = "STAMPEDE_RATE_BUYER",
        default_value = "20/10",
        value_name = "RATE"
    )]
    pub rate_buyer: Rate,

    /// Submissions from one address (IPv6: one /64). Reads and everything else: ten times as many
    #[arg(
        long,
        env = "STAMPEDE_RATE_ADDRESS",
        default_value = "200/10",
        value_name = "RATE"
    )]
    pub rate_address: Rate,

    /// Submissions for one show, all buyers together
    #[arg(
        long,
        env = "STAMPEDE_RATE_SHOW",
        default_value = "20000/1",
        value_name = "RATE"
    )]
    pub rate_show: Rate,

    /// The most connections of clients at once; more wait to be accepted
    #[arg(
        long,
        env = "STAMPEDE_CONNECTIONS_MAX",
        default_value_t = 20_000,
        value_name = "COUNT"
    )]
    pub connections_max: usize,

    /// How long a client may take to send the head of a request, and a connection may be idle
    #[arg(
        long,
        env = "STAMPEDE_HEADER_TIMEOUT_SECONDS",
        default_value_t = 30,
        value_name = "SECONDS"
    )]
    pub header_timeout_seconds: u64,

    /// How long a client may take to send a body
    #[arg(
        long,
        env = "STAMPEDE_BODY_TIMEOUT_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub body_timeout_seconds: u64,

    /// How long requests may go on after SIGTERM
    #[arg(
        long,
        env = "STAMPEDE_DRAIN_SECONDS",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    pub drain_seconds: u64,

    /// The most database connections of the API
    #[arg(
        long,
        env = "STAMPEDE_API_DATABASE_CONNECTIONS",
        default_value_t = 12,
        value_name = "COUNT"
    )]
    pub api_database_connections: u32,
}

impl Settings {
    pub fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds.max(1))
    }

    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_seconds.max(1))
    }

    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

fn parse_secret(secret: &str) -> Result<SecretString, String> {
    if secret.len() < 32 {
        return Err("the secret must have at least 32 bytes".to_owned());
    }
    Ok(SecretString::from(secret))
}

/// So many in so long, evenly refilled, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Off,
    Per {
        count: NonZeroU32,
        seconds: NonZeroU32,
    },
}

impl Rate {
    /// The same with so many times the count.
    pub fn times(self, factor: NonZeroU32) -> Rate {
        match self {
            Rate::Off => Rate::Off,
            Rate::Per { count, seconds } => Rate::Per {
                count: count.saturating_mul(factor),
                seconds,
            },
        }
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Rate> {
        if text == "off" {
            return Ok(Rate::Off);
        }
        let (count, seconds) = text
            .split_once('/')
            .context("a rate is COUNT/SECONDS, such as 20/10, or off")?;
        let count: NonZeroU32 = count.parse().context("the count must be 1 or more")?;
        let seconds: NonZeroU32 = seconds.parse().context("the seconds must be 1 or more")?;
        if seconds.get() > 86_400 {
            bail!("a rate is for at most 86400 seconds");
        }
        Ok(Rate::Per { count, seconds })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let settings = Command::try_parse_from(["stampede"]).unwrap().settings;
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.rate_buyer, "20/10".parse().unwrap());
        assert!(settings.anonymous_buyers);
        assert!(settings.trusted_proxies.is_empty());
    }

    #[test]
    fn a_wrong_setting_is_refused() {
        for wrong in [
            ["--rate-buyer", "0/10"],
            ["--rate-buyer", "10"],
            ["--buyer-secret", "short"],
            ["--trusted-proxies", "10.0.0.0/8,nonsense"],
            ["--listen", "8080"],
        ] {
            assert!(
                Command::try_parse_from(["stampede", wrong[0], wrong[1]]).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn networks_are_a_list() {
        let arguments = ["stampede", "--trusted-proxies", "10.0.0.0/8,::1/128"];
        let settings = Command::try_parse_from(arguments).unwrap().settings;
        assert_eq!(settings.trusted_proxies.len(), 2);
    }
}
