//! An integrator: an HTTP server that keeps what it is told, and answers as it was asked to.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::LOCATION,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};

use super::eventually;

/// How long it may take until something is told.
const TOLD_LIMIT: Duration = Duration::from_secs(30);

/// The block size of SHA-256.
const BLOCK: usize = 64;

/// What a receiver answers.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// To another URL.
    Redirect(String),
    /// Nothing, ever.
    Silence,
}

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub user_agent: String,
    /// As bytes, which are signed.
    raw: Vec<u8>,
    pub body: Value,
}

/// A receiver at a URL of its own.
pub struct Receiver {
    pub url: String,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

struct State {
    told: Vec<Told>,
    next: VecDeque<Reply>,
    otherwise: Reply,
}

impl Receiver {
    /// Starts one that answers 204.
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            told: Vec::new(),
            next: VecDeque::new(),
            otherwise: Reply::Status(204),
        }));
        let server = tokio::spawn(serve(listener, Arc::clone(&state)));
        Receiver { url, state, server }
    }

    /// What the next calls are answered.
    pub fn answers(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().next.extend(replies);
    }

    /// What the calls after those are answered.
    pub fn always(&self, reply: Reply) {
        self.state.lock().unwrap().otherwise = reply;
    }

    /// All calls so far, in the order in which they came.
    pub fn told(&self) -> Vec<Told> {
        self.state.lock().unwrap().told.clone()
    }

    /// The calls, once there are so many.
    pub async fn told_at_least(&self, count: usize) -> Vec<Told> {
        eventually(TOLD_LIMIT, async || self.told().len() >= count).await;
        self.told()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Told {
    pub fn event_type(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub fn sequence(&self) -> i64 {
        self.body["data"]["sequence"].as_i64().unwrap()
    }

    /// Whether one of the signatures is that of Standard Webhooks by this secret. Not by the code that
    /// signs: the HMAC is made here, by RFC 2104.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap());
        let mut signed = format!("{}.{}.", self.id, self.timestamp).into_bytes();
        signed.extend_from_slice(&self.raw);
        let signature = BASE64_STANDARD.encode(hmac_sha256(&key.unwrap(), &signed));
        let expected = format!("v1,{signature}");
        self.signature.split(' ').any(|found| found == expected)
    }
}

/// RFC 2104.
pub(super) fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    assert!(key.len() <= BLOCK);
    let mut block = [0; BLOCK];
    block[..key.len()].copy_from_slice(key);
    let hash = |pad: u8, text: &[u8]| {
        let padded = block.map(|byte| byte ^ pad);
        Sha256::new()
            .chain_update(padded)
            .chain_update(text)
            .finalize()
    };
    hash(0x5c, &hash(0x36, text)).to_vec()
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        let service = service_fn(move |request| receive(request, Arc::clone(&state)));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn receive(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let raw = body.collect().await.map(|body| body.to_bytes().to_vec());
    let raw = raw.unwrap_or_default();
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let told = Told {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        user_agent: header("user-agent"),
        body: serde_json::from_slice(&raw).unwrap_or_default(),
        raw,
    };
    let reply = {
        let mut state = state.lock().unwrap();
        state.told.push(told);
        let next = state.next.pop_front();
        next.unwrap_or_else(|| state.otherwise.clone())
    };
    let answer = Response::builder();
    let answer = match reply {
        Reply::Status(status) => answer.status(status),
        Reply::Redirect(url) => answer.status(307).header(LOCATION, url),
        Reply::Silence => pending().await,
    };
    Ok(answer.body(Full::from("said the receiver")).unwrap())
}
