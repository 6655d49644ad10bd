//! Whether a process on this machine is ready, for containers without a curl.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use http_body_util::Empty;
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// A process that takes longer is not ready.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug, clap::Args)]
pub struct Settings {
    /// What to ask [default: /readyz at the listen address]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Where the process listens
    #[arg(
        long,
        env = "STAMPEDE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
}

/// Succeeds if the answer is a 2xx.
pub async fn run(settings: &Settings) -> anyhow::Result<()> {
    let url = settings.url.clone();
    let url = url.unwrap_or_else(|| readiness_url(settings.listen));
    let status = timeout(PATIENCE, ask(&url)).await;
    let status = status
        .with_context(|| format!("{url} does not answer"))?
        .with_context(|| format!("asking {url}"))?;
    ensure!(status.is_success(), "{url} answers {status}");
    Ok(())
}

async fn ask(url: &str) -> anyhow::Result<StatusCode> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().context("the URL names no host")?;
    ensure!(uri.scheme_str() == Some("http"), "only http:// is asked");
    let address = (authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(HOST, authority.as_str());
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?);
    Ok(response.await?.status())
}

/// Who listens on every address is asked on loopback.
fn readiness_url(mut listen: SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        let loopback = if listen.is_ipv4() { "127.0.0.1" } else { "::1" };
        if let Ok(ip) = loopback.parse() {
            listen.set_ip(ip);
        }
    }
    format!("http://{listen}/readyz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_on_every_address_is_asked_on_loopback() {
        let url = |listen: &str| readiness_url(listen.parse().unwrap());
        assert_eq!(url("0.0.0.0:8080"), "http://127.0.0.1:8080/readyz");
        assert_eq!(url("[::]:8080"), "http://[::1]:8080/readyz");
        assert_eq!(url("10.1.2.3:80"), "http://10.1.2.3:80/readyz");
    }
}
