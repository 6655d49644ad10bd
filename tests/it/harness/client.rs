//! Operators and buyers over real HTTP.

use std::time::Duration;

use chrono::Utc;
use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::BUYER_SECRET;

/// How long a buyer waits for an outcome before the test fails.
const OUTCOME_LIMIT: Duration = Duration::from_secs(30);

/// One API process, as a client with the operator's key sees it. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    pub url: String,
    operator_key: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `Null` if the body is empty or no JSON.
    pub body: Value,
}

impl Answer {
    /// The body, if the status is the one expected.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Api {
    pub fn new(url: &str, operator_key: &str) -> Api {
        Api {
            http: http_client(),
            url: url.to_owned(),
            operator_key: operator_key.to_owned(),
        }
    }

    /// A request to be completed and sent by [`send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// As anybody.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// A request with the operator's key, to be completed and sent by [`send`].
    pub fn operator_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request(method, &format!("/v1/operator{path}"))
            .bearer_auth(&self.operator_key)
    }

    /// As the operator.
    pub async fn operate(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.operator_request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        send(request).await
    }

    /// Creates a show; its id.
    pub async fn create_show(&self, show: &Value) -> String {
        let created = self
            .operate(Method::POST, "/shows", Some(show))
            .await
            .expect(201);
        created["id"].as_str().expect("a show has an id").to_owned()
    }

    /// Creates a show and opens its sale; its id.
    pub async fn open_show(&self, show: &Value) -> String {
        let show = self.create_show(show).await;
        self.sale(&show, "open").await.expect(200);
        show
    }

    /// Tells the sale to open, pause, resume or close.
    pub async fn sale(&self, show: &str, command: &str) -> Answer {
        let body = json!({"command": command, "reason": "because the test says so"});
        self.operate(Method::POST, &format!("/shows/{show}/sale"), Some(&body))
            .await
    }

    /// Someone with a token of that subject.
    pub fn buyer(&self, id: &str) -> Buyer {
        Buyer {
            api: self.clone(),
            token: token(id),
        }
    }
}

/// A client of its own.
pub fn http_client() -> reqwest::Client {
    // Nothing here speaks TLS, but the client wants to know who would.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    // Shorter than a server keeps an idle connection: on a busy machine it would close it under a request.
    let idle = Duration::from_secs(15);
    let builder = reqwest::Client::builder()
        .no_proxy()
        .pool_idle_timeout(idle);
    builder.build().expect("building a client")
}

/// A token as an integrator makes it, good for an hour.
pub fn token(buyer_id: &str) -> String {
    let claims = json!({"sub": buyer_id, "exp": Utc::now().timestamp() + 3_600});
    let key = EncodingKey::from_secret(BUYER_SECRET.as_bytes());
    encode(&Header::default(), &claims, &key).expect("signing a token")
}

/// Sends it and reads all of the answer.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    try_send(request).await.expect("sending a request")
}

/// The same, for a server that may be gone.
pub async fn try_send(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
    Ok(Answer {
        status,
        headers,
        body,
    })
}

/// One buyer at one API process.
#[derive(Clone)]
pub struct Buyer {
    api: Api,
    pub token: String,
}

impl Buyer {
    /// A request with this buyer's token, to be completed and sent by [`send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.api.request(method, path).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Submits a body such as `{"wishes": […]}` under a key of its own.
    pub async fn submit(&self, show: &str, body: &Value) -> Answer {
        self.submit_with_key(show, &Uuid::now_v7().to_string(), body)
            .await
    }

    pub async fn submit_with_key(&self, show: &str, key: &str, body: &Value) -> Answer {
        send(self.submission(show, key, body)).await
    }

    /// The submission, not sent yet.
    pub fn submission(&self, show: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
        let key_name = HeaderName::from_static("idempotency-key");
        self.request(Method::POST, &format!("/v1/shows/{show}/requests"))
            .header(key_name, key)
            .json(body)
    }

    /// How the request is now; with `wait_s`, after at most so many seconds.
    pub async fn poll(&self, show: &str, request: &str, wait_s: u32) -> Answer {
        let mut poll = self.request(Method::GET, &format!("/v1/shows/{show}/requests/{request}"));
        if wait_s > 0 {
            poll = poll.header("Prefer", format!("wait={wait_s}"));
        }
        send(poll).await
    }

    /// Waits until the request is decided.
    pub async fn outcome(&self, show: &str, request: &str) -> Value {
        let deadline = Instant::now() + OUTCOME_LIMIT;
        loop {
            let request = self.poll(show, request, 5).await.expect(200);
            if request["state"] != "queued" {
                return request;
            }
            assert!(
                Instant::now() < deadline,
                "no outcome after {OUTCOME_LIMIT:?}: {request}"
            );
        }
    }

    /// Submits these wishes and waits for the outcome.
    pub async fn ask(&self, show: &str, wishes: Value) -> Value {
        let accepted = self
            .submit(show, &json!({ "wishes": wishes }))
            .await
            .expect(202);
        self.outcome(show, accepted["id"].as_str().expect("a request has an id"))
            .await
    }

    /// Confirms a hold that costs nothing; its request as it then is.
    pub async fn confirm(&self, show: &str, hold: &str) -> Answer {
        let paid = self.pay(show, hold, &format!("confirm-{hold}"), None).await;
        match paid.body["request_id"].as_str() {
            Some(request) if paid.status == StatusCode::CREATED => {
                self.poll(show, request, 0).await
            }
            _ => paid,
        }
    }

    /// Pays for a hold under that key.
    pub async fn pay(&self, show: &str, hold: &str, key: &str, method: Option<&str>) -> Answer {
        send(self.payment(show, hold, key, method)).await
    }

    /// The payment, not sent yet.
    pub fn payment(
        &self,
        show: &str,
        hold: &str,
        key: &str,
        method: Option<&str>,
    ) -> reqwest::RequestBuilder {
        let body = match method {
            Some(method) => json!({ "payment_method": method }),
            None => json!({}),
        };
        let path = format!("/v1/shows/{show}/holds/{hold}/payments");
        self.request(Method::POST, &path)
            .header("idempotency-key", key)
            .json(&body)
    }

    /// Gives the hold back.
    pub async fn release(&self, show: &str, hold: &str) -> Answer {
        send(self.request(Method::DELETE, &format!("/v1/shows/{show}/holds/{hold}"))).await
    }

    /// Leaves the line, or gives the hold back.
    pub async fn cancel(&self, show: &str, request: &str) -> Answer {
        send(self.request(
            Method::DELETE,
            &format!("/v1/shows/{show}/requests/{request}"),
        ))
        .await
    }
}
