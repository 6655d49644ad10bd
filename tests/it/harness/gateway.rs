//! The simulated gateway of a test, and what is configured for it.

use std::net::TcpListener;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{
    arena::Arena,
    client::{Answer, Api, http_client, send},
    process::{Process, binary},
    receiver::hmac_sha256,
};

const KEY: &str = "sk_simulated_for_tests";
/// Signs its callbacks.
pub const CALLBACK_SECRET: &str = "the secret of the callbacks of the tests";

/// A card that is accepted.
pub const GOOD_CARD: &str = "4242424242424242";
/// A card that is declined.
pub const DECLINED_CARD: &str = "4000000000000002";
/// A card that needs a further step of the buyer.
pub const STEP_CARD: &str = "4000002500003155";

/// A gateway that is running, and the address at which it expects our API.
pub struct Gateway {
    _process: Process,
    http: reqwest::Client,
    pub url: String,
    api_address: String,
}

impl Arena {
    /// Starts `stampede gateway`. Its callbacks go to [`Gateway::api`].
    pub async fn gateway(&self, arguments: &[&str]) -> Gateway {
        let api_address = free_address();
        let mut command = binary();
        command
            .env("STAMPEDE_SIMULATED_SECRET_KEY", KEY)
            .env("STAMPEDE_SIMULATED_CALLBACK_SECRET", CALLBACK_SECRET)
            .env(
                "STAMPEDE_SIMULATED_CALLBACK_URL",
                format!("http://{api_address}/v1/payment-callbacks/simulated"),
            );
        command.args(["gateway", "--gateway-listen", "127.0.0.1:0"]);
        let mut process = Process::spawn("gateway", command.args(arguments));
        let url = process.said("listening on ").await;
        Gateway {
            _process: process,
            http: http_client(),
            url,
            api_address,
        }
    }
}

/// The `Gateway-Signature` of a callback that is signed at that time.
pub fn sign(secret: &str, at: i64, body: &str) -> String {
    let tag = hmac_sha256(secret.as_bytes(), format!("{at}.{body}").as_bytes());
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

/// An address at which nobody listens, as far as anyone can know.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding a port");
    listener.local_addr().expect("the bound port").to_string()
}

impl Gateway {
    /// What an API or a worker is started with to use it.
    pub fn settings(&self) -> Vec<String> {
        let mut settings = vec!["--gateway".to_owned(), "simulated".to_owned()];
        for (name, value) in [
            ("--gateway-url", self.url.as_str()),
            ("--gateway-key", KEY),
            ("--gateway-callback-secrets", CALLBACK_SECRET),
        ] {
            settings.extend([name.to_owned(), value.to_owned()]);
        }
        settings
    }

    /// The API that the callbacks go to.
    pub async fn api(&self, arena: &Arena, arguments: &[&str]) -> (Process, Api) {
        self.api_failing(arena, "", arguments).await
    }

    /// The same with failpoints set, such as `before_capture=return`, at which the process ends.
    pub async fn api_failing(
        &self,
        arena: &Arena,
        failpoints: &str,
        arguments: &[&str],
    ) -> (Process, Api) {
        let settings = self.settings();
        let mut all: Vec<&str> = settings.iter().map(String::as_str).collect();
        all.extend(arguments);
        arena
            .api_failing_on(&self.api_address, failpoints, &all)
            .await
    }

    /// A worker that recovers payments.
    pub async fn worker(&self, arena: &Arena, arguments: &[&str]) -> Process {
        self.worker_failing(arena, "", arguments).await
    }

    /// The same with failpoints set.
    pub async fn worker_failing(
        &self,
        arena: &Arena,
        failpoints: &str,
        arguments: &[&str],
    ) -> Process {
        let settings = self.settings();
        let mut all: Vec<&str> = settings.iter().map(String::as_str).collect();
        all.extend(arguments);
        arena.worker_failing(failpoints, &all).await
    }

    /// A request to the gateway with our key, to be completed and sent by `send`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.bearer_auth(KEY)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = self.request(method, path);
        match body {
            Some(body) => send(request.json(body)).await,
            None => send(request).await,
        }
    }

    /// The token of a card, as a buyer's page gets it.
    pub async fn method(&self, card: &str) -> String {
        let body = json!({ "card_number": card });
        let made = self.call(Method::POST, "/v1/payment-methods", Some(&body));
        let made = made.await.expect(201);
        made["id"].as_str().expect("a method has an id").to_owned()
    }

    /// Tells a card what to do, and gives its token.
    pub async fn card_that(&self, card: &str, behaviour: Value) -> String {
        let path = format!("/v1/cards/{card}");
        let told = self.call(Method::PUT, &path, Some(&behaviour)).await;
        assert!(told.status.is_success(), "{}", told.body);
        self.method(card).await
    }

    /// All charges, the oldest first.
    pub async fn charges(&self) -> Vec<Value> {
        let mut charges: Vec<Value> = Vec::new();
        let mut path = "/v1/charges?since=2000-01-01T00:00:00Z&limit=500".to_owned();
        loop {
            let page = self.call(Method::GET, &path, None).await.expect(200);
            charges.extend_from_slice(page["charges"].as_array().expect("a ledger"));
            let Some(next) = page["next"].as_str() else {
                return charges;
            };
            path = format!("/v1/charges?since=2000-01-01T00:00:00Z&limit=500&after={next}");
        }
    }

    /// What the gateway took for a payment, less what it gave back.
    pub async fn net(&self, payment: &str) -> i64 {
        let path = format!("/v1/charges?payment_id={payment}");
        let found = self.call(Method::GET, &path, None).await.expect(200);
        let charges = found["charges"].as_array().expect("charges").iter();
        charges
            .map(|charge| {
                charge["captured"].as_i64().unwrap() - charge["refunded"].as_i64().unwrap()
            })
            .sum()
    }

    /// Takes the buyer's further step of a charge: `complete` or `fail`.
    pub async fn take_step(&self, next_action: &str, how: &str) {
        let done = self.http.post(format!("{next_action}/{how}")).send().await;
        let done = done.expect("taking a step");
        assert!(done.status().is_success() || done.status().is_redirection());
    }

    /// Does something to a charge behind our back: `capture`, `void` or `refund`.
    pub async fn meddle(&self, charge: &str, what: &str) {
        let path = format!("/v1/charges/{charge}/{what}");
        let request = self.request(Method::POST, &path);
        let key = format!("meddle-{what}-{charge}");
        send(request.header("idempotency-key", key))
            .await
            .expect(200);
    }
}
