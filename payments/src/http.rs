//! The HTTP client that speaks with gateways: no proxy, no redirects, and an end to every call.
//!
//! A redirect would carry our key to somebody else, and a call without an end would hold a payment for ever.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, ClientBuilder, Response, Url, redirect};

/// How many idle connections stay open for the next call.
const IDLE_MAX: usize = 64;

/// The most bytes of an answer.
const BODY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// A client whose calls end after `timeout`, connecting included.
pub(crate) fn client(timeout: Duration) -> anyhow::Result<Client> {
    build(builder(timeout))
}

/// As [`client`], for a gateway at this URL. Without TLS no certificates are needed, and the smallest
/// containers have none.
pub(crate) fn client_for(url: &Url, timeout: Duration) -> anyhow::Result<Client> {
    let builder = builder(timeout);
    build(if url.scheme() == "http" {
        builder.tls_certs_only([])
    } else {
        builder
    })
}

/// An answer's body, or why it could not be read.
pub(crate) async fn body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + chunk.len() > BODY_MAX_BYTES {
            return Err("the answer is too long".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn builder(timeout: Duration) -> ClientBuilder {
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
}

fn build(builder: ClientBuilder) -> anyhow::Result<Client> {
    builder
        .build()
        .context("building the HTTP client for the gateway")
}
