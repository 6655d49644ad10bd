//! The simulated gateway of `dev`, with its ledger and its secrets in the data folder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::Context;
use secrecy::SecretString;
use stampede_gateway::{Gateway, Settings};
use stampede_payments::GatewayKind;

use super::folder::Folder;

/// How long it remembers idempotency keys, as real ones do.
const KEY_MEMORY_SECONDS: u32 = 86_400;

/// The gateway, bound, and `payments` set for it. It calls back the API at `api`, at which nobody has to
/// listen yet.
pub async fn start(
    listen: SocketAddr,
    api: SocketAddr,
    folder: &Folder,
    payments: &mut stampede_payments::Settings,
) -> anyhow::Result<Gateway> {
    let key = folder.secret("gateway-key")?;
    let callback_secret = folder.secret("gateway-callback-secret")?;
    let gateway = bind(listen, api, folder, &key, &callback_secret).await?;
    payments.gateway = Some(GatewayKind::Simulated);
    payments.gateway_url = Some(format!("http://{}", gateway.address()));
    payments.gateway_key = Some(key);
    payments.gateway_callback_secrets = vec![callback_secret];
    Ok(gateway)
}

/// At the address, or at another port when that is taken: nobody has to know it beforehand.
async fn bind(
    listen: SocketAddr,
    api: SocketAddr,
    folder: &Folder,
    key: &SecretString,
    callback_secret: &SecretString,
) -> anyhow::Result<Gateway> {
    let free = TcpListener::bind(listen).is_ok();
    let settings = Settings {
        gateway_listen: if free {
            listen
        } else {
            SocketAddr::new(listen.ip(), 0)
        },
        gateway_public_url: None,
        secret_key: key.clone(),
        callback_url: Some(format!(
            "http://{}/v1/payment-callbacks/simulated",
            reachable(api)
        )),
        callback_secret: Some(callback_secret.clone()),
        ledger: Some(folder.path().join("gateway-ledger.ndjson")),
        key_memory_seconds: KEY_MEMORY_SECONDS,
    };
    Gateway::bind(settings)
        .await
        .context("starting the simulated gateway")
}

/// The address with a port: a free one instead of 0, for the gateway has to know it before the API is
/// bound.
pub fn with_port(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    if address.port() != 0 {
        return Ok(address);
    }
    TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .with_context(|| format!("looking for a free port at {}", address.ip()))
}

/// How this machine reaches what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
