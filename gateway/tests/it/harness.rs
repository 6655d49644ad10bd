//! A gateway on a free port, a client of it, and somebody who listens to its callbacks.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use reqwest::{Client, Method, RequestBuilder, header};
use serde_json::{Value, json};
use stampede_gateway::{Gateway, Settings};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use uuid::Uuid;

pub const SECRET_KEY: &str = "sk_test";
pub const CALLBACK_SECRET: &str = "whsec_test";
pub const ACCEPTED: &str = "4242424242424242";
pub const STEP: &str = "4000002500003155";

/// The longest that a test waits for others.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Running {
    pub http: Client,
    pub url: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<anyhow::Result<()>>,
}

pub struct Reply {
    pub status: u16,
    pub body: Value,
}

pub fn settings() -> Settings {
    Settings {
        gateway_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        gateway_public_url: None,
        secret_key: SECRET_KEY.into(),
        callback_url: None,
        callback_secret: None,
        ledger: None,
        key_memory_seconds: 86_400,
    }
}

pub async fn start() -> Running {
    start_with(settings()).await
}

pub async fn start_with(settings: Settings) -> Running {
    let gateway = Gateway::bind(settings).await.unwrap();
    let url = format!("http://{}", gateway.address());
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(gateway.run(async {
        stopped.await.ok();
    }));
    Running {
        http: client(),
        url,
        stop,
        serving,
    }
}

fn client() -> Client {
    // Nothing here speaks TLS, but the client wants to know who would.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let builder = Client::builder().no_proxy().tls_certs_only([]);
    builder.timeout(PATIENCE).build().unwrap()
}

impl Running {
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap().unwrap();
    }

    /// With the secret key and a key of its own.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(SECRET_KEY)
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    /// A payment method of a card.
    pub async fn method(&self, card: &str) -> Value {
        let url = format!("{}/v1/payment-methods", self.url);
        let request = self.http.post(url).json(&json!({"card_number": card}));
        send(request).await.expect(201)["id"].clone()
    }

    /// The body of a charge of 85.00 EUR on a card.
    pub async fn order(&self, card: &str, payment_id: Uuid) -> Value {
        json!({
            "amount": 8_500,
            "currency": "EUR",
            "payment_method": self.method(card).await,
            "metadata": {"show_id": Uuid::now_v7(), "payment_id": payment_id},
        })
    }

    pub fn authorization(&self, order: &Value, key: &str) -> RequestBuilder {
        let request = self.request(Method::POST, "/v1/charges");
        request.header("idempotency-key", key).json(order)
    }

    pub async fn authorize(&self, order: &Value, key: &str) -> Reply {
        send(self.authorization(order, key)).await
    }

    /// A new charge on a card.
    pub async fn charge(&self, card: &str) -> Value {
        let payment_id = Uuid::now_v7();
        let order = self.order(card, payment_id).await;
        self.authorize(&order, &payment_id.to_string())
            .await
            .expect(201)
    }

    pub fn step_request(&self, charge: &Value, step: &str, key: &str) -> RequestBuilder {
        let path = format!("/v1/charges/{}/{step}", id(charge));
        self.request(Method::POST, &path)
            .header("idempotency-key", key)
    }

    pub async fn step(&self, charge: &Value, step: &str) -> Reply {
        let key = Uuid::now_v7().to_string();
        send(self.step_request(charge, step, &key)).await
    }

    /// What the buyer does on the page of a further step.
    pub async fn buyer(&self, charge: &Value, does: &str) -> u16 {
        let url = format!("{}/steps/{}/{does}", self.url, id(charge));
        self.http.post(url).send().await.unwrap().status().as_u16()
    }

    pub async fn now(&self, charge: &Value) -> Value {
        self.get(&format!("/v1/charges/{}", id(charge)))
            .await
            .expect(200)
    }

    pub async fn of_payment(&self, payment_id: Uuid) -> Vec<Value> {
        let path = format!("/v1/charges?payment_id={payment_id}");
        let mut body = self.get(&path).await.expect(200);
        serde_json::from_value(body["charges"].take()).unwrap()
    }

    pub async fn tell(&self, card: &str, behaviour: Value) -> Reply {
        let request = self.request(Method::PUT, &format!("/v1/cards/{card}"));
        send(request.json(&behaviour)).await
    }
}

impl Reply {
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    pub fn expect_error(self, status: u16, code: &str) {
        let body = self.expect(status);
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["error"]["detail"].is_string(), "{body}");
    }
}

pub async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let json = response.headers().get(header::CONTENT_TYPE);
    assert_eq!(json.unwrap(), "application/json");
    Reply {
        status,
        body: response.json().await.unwrap(),
    }
}

pub fn id(charge: &Value) -> &str {
    charge["id"].as_str().unwrap()
}

/// Waits until something is so.
pub async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it did not become so in time")
}

/// Somebody who listens to callbacks.
#[derive(Clone, Default)]
pub struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    /// How many more to answer with 500.
    pub deaf: Arc<Mutex<usize>>,
}

#[derive(Clone)]
pub struct Heard {
    pub signature: String,
    pub body: Vec<u8>,
    pub event: Value,
}

impl Listener {
    /// The listener, and settings of a gateway that tells it.
    pub async fn start() -> (Listener, Settings) {
        let listener = Listener::default();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/callbacks", socket.local_addr().unwrap());
        let routes = Router::new().route("/callbacks", post(hear));
        let router = routes.with_state(listener.clone());
        tokio::spawn(async { axum::serve(socket, router).await });
        let settings = Settings {
            callback_url: Some(url),
            callback_secret: Some(CALLBACK_SECRET.into()),
            ..settings()
        };
        (listener, settings)
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits for so many callbacks.
    pub async fn hears(&self, count: usize) -> Vec<Heard> {
        eventually(async || Some(self.heard()).filter(|heard| heard.len() >= count)).await
    }
}

async fn hear(State(listener): State<Listener>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let signature = headers["gateway-signature"].to_str().unwrap().to_owned();
    listener.heard.lock().unwrap().push(Heard {
        signature,
        event: serde_json::from_slice(&body).unwrap(),
        body: body.into(),
    });
    let mut deaf = listener.deaf.lock().unwrap();
    if *deaf == 0 {
        return StatusCode::NO_CONTENT;
    }
    *deaf -= 1;
    StatusCode::INTERNAL_SERVER_ERROR
}

/// A file for a ledger that goes away with this.
pub struct LedgerFile(pub PathBuf);

impl LedgerFile {
    pub fn new() -> LedgerFile {
        let name = format!("stampede-gateway-{}.ndjson", Uuid::now_v7());
        LedgerFile(std::env::temp_dir().join(name))
    }

    pub fn settings(&self) -> Settings {
        Settings {
            ledger: Some(self.0.clone()),
            ..settings()
        }
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for LedgerFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
