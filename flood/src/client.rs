//! A lean HTTP/1.1 client: a bounded pool of keep-alive connections to one server.
//!
//! The flood shares its machine with the server, so what the client costs is missing in the figures.
//! A connection is driven inside the call that uses it: no task per connection, no wake-up across
//! threads, no redirects, cookies or proxies.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Uri,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

/// The largest answer that is read: a seat map of a big hall.
const BODY_MAX: usize = 16 << 20;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest answer to `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Where the server is.
#[derive(Debug, Clone)]
pub struct Target {
    authority: String,
    host: HeaderValue,
    /// Before every path, without a slash at its end.
    base: String,
}

impl Target {
    /// Parses `http://host:port`, with a path if the API is below one.
    pub fn parse(url: &str) -> anyhow::Result<Target> {
        let uri: Uri = url.parse().context("the target is not a URL")?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => bail!("the flood speaks plain http only; aim it behind the TLS proxy"),
            _ => bail!("the target must begin with http://"),
        }
        let authority = uri.authority().context("the target has no host")?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Target {
            host: HeaderValue::from_str(authority.as_str()).context("the target's host")?,
            authority: format!("{}:{port}", authority.host()),
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// One call, which may be sent more than once.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: hyper::Method,
    /// From the slash on.
    pub path: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// For everything from the first byte sent to the last received.
    pub timeout: Duration,
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// How long the server wants the next call to wait, if it says so in seconds.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
    }
}

/// Why there is no answer. Whether the server acted is then unknown.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("connecting: {0}")]
    Connect(std::io::Error),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("no answer in time")]
    Timeout,
}

impl CallError {
    /// A short name for the figures.
    pub fn code(&self) -> &'static str {
        match self {
            CallError::Connect(_) => "no-connection",
            CallError::Broken(_) => "connection-broken",
            CallError::Timeout => "timeout",
        }
    }
}

/// At most so many connections to the target, each used by one call at a time.
#[derive(Debug)]
pub struct Pool {
    target: Target,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub fn new(target: Target, connections: usize) -> Pool {
        Pool {
            target,
            slots: Semaphore::new(connections),
            idle: Mutex::default(),
        }
    }

    /// Waits for a free connection, then calls.
    pub async fn call(&self, call: &Call) -> Result<Answer, CallError> {
        let _slot = self.slots.acquire().await.map_err(|_| CallError::Timeout)?;
        self.exchange(call).await
    }

    /// Calls at once if a connection is free.
    pub async fn try_call(&self, call: &Call) -> Option<Result<Answer, CallError>> {
        let _slot = self.slots.try_acquire().ok()?;
        Some(self.exchange(call).await)
    }

    async fn exchange(&self, call: &Call) -> Result<Answer, CallError> {
        timeout(call.timeout, async {
            let idle = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop();
            if let Some(connection) = idle {
                // The server may have closed it meanwhile; every call here can be repeated.
                if let Ok(answer) = self.exchange_on(connection, call).await {
                    return Ok(answer);
                }
                self.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clear();
            }
            let connection = Connection::open(&self.target).await?;
            self.exchange_on(connection, call).await
        })
        .await
        .unwrap_or(Err(CallError::Timeout))
    }

    async fn exchange_on(
        &self,
        mut connection: Connection,
        call: &Call,
    ) -> Result<Answer, CallError> {
        let request = self
            .request(call)
            .map_err(|error| CallError::Broken(error.to_string()))?;
        let (answer, reusable) = connection.exchange(request).await?;
        if reusable {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
        }
        Ok(answer)
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let path = format!("{}{}", self.target.base, call.path);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(path)
            .header(HOST, self.target.host.clone());
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(call.body.clone()))
    }
}

/// One keep-alive connection.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
}

type Driver = Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>;

impl Connection {
    async fn open(target: &Target) -> Result<Connection, CallError> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(&target.authority))
            .await
            .map_err(|_| CallError::Timeout)?
            .map_err(CallError::Connect)?;
        stream.set_nodelay(true).map_err(CallError::Connect)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        Ok(Connection {
            sender,
            driver: Box::pin(driver),
        })
    }

    /// Sends, and reads the whole answer; says whether the connection can be used again.
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Answer, bool), CallError> {
        let Connection { sender, driver } = self;
        let mut closed = false;
        let answer = {
            let call = pin!(async move {
                sender.ready().await.map_err(broken)?;
                let response = sender.send_request(request).await.map_err(broken)?;
                let (parts, body) = response.into_parts();
                let body = Limited::new(body, BODY_MAX).collect().await;
                let body = body
                    .map_err(|error| CallError::Broken(error.to_string()))?
                    .to_bytes();
                Ok(Answer {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    body,
                })
            });
            drive(call, driver, &mut closed).await?
        };
        Ok((answer, !closed && !self.sender.is_closed()))
    }
}

/// Polls the call and the connection under it in one task.
async fn drive<T>(
    mut call: Pin<&mut impl Future<Output = T>>,
    driver: &mut Driver,
    closed: &mut bool,
) -> T {
    poll_fn(move |cx| {
        if let Poll::Ready(answer) = call.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        if !*closed && driver.as_mut().poll(cx).is_ready() {
            *closed = true;
        }
        // What the connection just read is for the call.
        call.as_mut().poll(cx)
    })
    .await
}

fn broken(error: hyper::Error) -> CallError {
    CallError::Broken(error.to_string())
}
