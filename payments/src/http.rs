//! The HTTP client that speaks with gateways: no proxy, no redirects, and an end to every call.
//!
//! A redirect would carry our key to somebody else, and a call without an end would hold a payment for ever.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, redirect};

/// How many idle connections stay open for the next call.
const IDLE_MAX: usize = 64;

/// A client whose calls end after `timeout`, connecting included.
pub(crate) fn client(timeout: Duration) -> anyhow::Result<Client> {
    // Whoever was first has installed it; it is the same one.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(5)))
        .pool_max_idle_per_host(IDLE_MAX)
        .tcp_nodelay(true)
        .build()
        .context("building the HTTP client for the gateway")
}
