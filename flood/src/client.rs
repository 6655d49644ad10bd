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
    time::{Duration, Instant},
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
    /// From the first byte sent to the last received.
    pub took: Duration,
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
        let answer = connection.exchange(request).await?;
        if connection.is_reusable() {
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
    /// `None` once the connection has ended: dropping it is what fails the calls that still wait.
    driver: Option<Driver>,
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
            driver: Some(Box::pin(driver)),
        })
    }

    /// Sends, and reads the whole answer.
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let began = Instant::now();
        let sender = &mut self.sender;
        let call = pin!(async move {
            sender.ready().await.map_err(broken)?;
            let response = sender.send_request(request).await.map_err(broken)?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, BODY_MAX).collect().await;
            let body = body
                .map_err(|error| CallError::Broken(error.to_string()))?
                .to_bytes();
            let status = parts.status.as_u16();
            Ok(Answer {
                status,
                headers: parts.headers,
                body,
                took: began.elapsed(),
            })
        });
        drive(call, &mut self.driver).await
    }

    fn is_reusable(&self) -> bool {
        self.driver.is_some() && !self.sender.is_closed()
    }
}

/// Polls the call and the connection under it in one task.
async fn drive<T>(mut call: Pin<&mut impl Future<Output = T>>, driver: &mut Option<Driver>) -> T {
    poll_fn(move |cx| {
        if let Poll::Ready(answer) = call.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        if driver
            .as_mut()
            .is_some_and(|driver| driver.as_mut().poll(cx).is_ready())
        {
            *driver = None;
        }
        // What the connection just read, or its end, is for the call.
        call.as_mut().poll(cx)
    })
    .await
}

fn broken(error: hyper::Error) -> CallError {
    CallError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nretry-after: 2\r\ncontent-length: 2\r\n\r\nhi";

    /// A server whose connections give these answers, one for each request, and then close.
    async fn serve(connections: Vec<Vec<&'static [u8]>>) -> Pool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answers in connections {
                let (mut stream, _) = listener.accept().await.unwrap();
                for answer in answers {
                    let _ = stream.read(&mut [0; 4096]).await.unwrap();
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
        Pool::new(Target::parse(&url).unwrap(), 1)
    }

    fn get() -> Call {
        Call {
            method: hyper::Method::GET,
            path: "/".to_owned(),
            headers: vec![],
            body: Bytes::new(),
            timeout: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again() {
        let pool = serve(vec![vec![OK, OK]]).await;
        for _ in 0..2 {
            let answer = pool.call(&get()).await.unwrap();
            assert_eq!((answer.status, &answer.body[..]), (200, &b"hi"[..]));
            assert_eq!(answer.retry_after(), Some(Duration::from_secs(2)));
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closed_is_replaced_at_once() {
        let pool = serve(vec![vec![OK], vec![OK], vec![OK]]).await;
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(pool.call(&get()).await.unwrap().status, 200);
            // So that the close arrives while the connection is idle.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn half_an_answer_is_an_error() {
        let pool = serve(vec![vec![&OK[..20]]]).await;
        assert_eq!(
            pool.call(&get()).await.unwrap_err().code(),
            "connection-broken"
        );
    }

    #[tokio::test]
    async fn no_answer_is_an_error_in_time() {
        let pool = serve(vec![vec![b"", OK]]).await;
        let call = Call {
            timeout: Duration::from_millis(50),
            ..get()
        };
        assert_eq!(pool.call(&call).await.unwrap_err().code(), "timeout");
    }

    #[tokio::test]
    async fn a_call_that_does_not_want_to_wait_for_a_connection_is_told() {
        let pool = serve(vec![vec![b"", OK]]).await;
        let call = get();
        let mut first = pin!(pool.call(&call));
        assert!(futures::poll!(&mut first).is_pending());
        assert!(pool.try_call(&get()).await.is_none());
    }

    #[test]
    fn targets_that_cannot_be_reached_are_refused() {
        for url in ["https://127.0.0.1", "127.0.0.1:8080", "/v1", ""] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        assert!(Target::parse("http://localhost:8080/stampede/").is_ok());
    }
}
