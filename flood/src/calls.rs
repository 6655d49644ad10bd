//! The calls that a buyer makes, and what of their answers the flood reads.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use hyper::{
    Method,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::client::Call;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long a minted token is good for.
const TOKEN_LIFE: Duration = Duration::from_secs(6 * 3600);

/// How long a call may take, beyond what it asks the server to wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the answer to a payment waits for its end; after that, the buyer asks.
const PAY_SECONDS: u32 = 1;

/// Mints the tokens of buyers with the secret that is shared with the server.
pub struct Minter {
    key: EncodingKey,
    expires_at: i64,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
}

impl Minter {
    pub fn new(secret: &str, now: DateTime<Utc>) -> Minter {
        let key = EncodingKey::from_secret(secret.as_bytes());
        Minter {
            key,
            expires_at: now.timestamp() + TOKEN_LIFE.as_secs() as i64,
        }
    }

    /// The header of a buyer.
    pub fn mint(&self, buyer: &str) -> anyhow::Result<HeaderValue> {
        let iat = self.expires_at - TOKEN_LIFE.as_secs() as i64;
        let claims = Claims {
            sub: buyer,
            iat,
            exp: self.expires_at,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .context("minting a buyer's token")?;
        bearer(&token)
    }
}

/// The header of a token or key.
pub fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).context("the token")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The calls about one show.
#[derive(Debug, Clone)]
pub struct Calls {
    show: String,
}

impl Calls {
    pub fn new(show_id: Uuid) -> Calls {
        Calls {
            show: format!("/v1/shows/{show_id}"),
        }
    }

    pub fn submit(&self, who: &HeaderValue, key: &str, body: Bytes) -> anyhow::Result<Call> {
        with_body(self.call(Method::POST, "/requests", who), key, body)
    }

    pub fn request(&self, who: &HeaderValue, id: Uuid) -> Call {
        self.call(Method::GET, &format!("/requests/{id}"), who)
    }

    /// Answered when the request is decided, or after `seconds`.
    pub fn request_wait(&self, who: &HeaderValue, id: Uuid, seconds: u32) -> Call {
        self.request(who, id).waiting(seconds)
    }

    /// Leaves the line, or releases the hold.
    pub fn leave(&self, who: &HeaderValue, id: Uuid) -> Call {
        self.call(Method::DELETE, &format!("/requests/{id}"), who)
    }

    /// Pays for a hold; without a method, for one that costs nothing. Answered when the payment is
    /// final, or after [`PAY_SECONDS`].
    pub fn pay(
        &self,
        who: &HeaderValue,
        hold: Uuid,
        key: &str,
        method: Option<&str>,
    ) -> anyhow::Result<Call> {
        let body = match method {
            Some(method) => json!({ "payment_method": method }),
            None => json!({}),
        };
        let call = self.call(Method::POST, &format!("/holds/{hold}/payments"), who);
        Ok(with_body(call, key, body.to_string().into())?.waiting(PAY_SECONDS))
    }

    /// Answered when the payment is final, or after `seconds`.
    pub fn payment_wait(&self, who: &HeaderValue, id: Uuid, seconds: u32) -> Call {
        self.payment(who, id).waiting(seconds)
    }

    pub fn payment(&self, who: &HeaderValue, id: Uuid) -> Call {
        self.call(Method::GET, &format!("/payments/{id}"), who)
    }

    pub fn cancel(&self, who: &HeaderValue, hold: Uuid) -> Call {
        self.call(Method::DELETE, &format!("/holds/{hold}"), who)
    }

    /// The public watermark.
    pub fn queue(&self) -> Call {
        Call {
            method: Method::GET,
            path: format!("{}/queue", self.show),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: CALL_TIMEOUT,
        }
    }

    fn call(&self, method: Method, path: &str, who: &HeaderValue) -> Call {
        Call {
            method,
            path: format!("{}{path}", self.show),
            headers: vec![(AUTHORIZATION, who.clone())],
            body: Bytes::new(),
            timeout: CALL_TIMEOUT,
        }
    }
}

impl Call {
    /// The same, answered late: at most so many seconds.
    fn waiting(mut self, seconds: u32) -> Call {
        // The value is ASCII whatever the number is.
        if let Ok(prefer) = HeaderValue::from_str(&format!("wait={seconds}")) {
            self.headers.push((PREFER, prefer));
        }
        self.timeout += Duration::from_secs(u64::from(seconds));
        self
    }
}

/// A call with a JSON body and a key, so that it may be repeated.
fn with_body(mut call: Call, key: &str, body: Bytes) -> anyhow::Result<Call> {
    let key = HeaderValue::from_str(key).context("the idempotency key")?;
    call.headers.push((IDEMPOTENCY_KEY, key));
    call.headers
        .push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
    call.body = body;
    Ok(call)
}

/// A call of an operator, with a JSON body.
pub fn operator_call(who: &HeaderValue, path: &str, body: &serde_json::Value) -> Call {
    Call {
        method: Method::POST,
        path: path.to_owned(),
        headers: vec![
            (AUTHORIZATION, who.clone()),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ],
        body: Bytes::from(body.to_string()),
        timeout: Duration::from_secs(60),
    }
}

/// A call of a buyer's page to the simulated gateway, the only one that is told of a card.
pub fn payment_method_call(card: &str) -> Call {
    Call {
        method: Method::POST,
        path: "/v1/payment-methods".to_owned(),
        headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body: Bytes::from(json!({ "card_number": card }).to_string()),
        timeout: CALL_TIMEOUT,
    }
}

/// The gateway's token of a card.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentMethodAnswer {
    pub id: String,
}

/// The 202.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    pub id: Uuid,
    pub position: i64,
}

/// A request as the API shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct RequestAnswer {
    pub id: Uuid,
    pub position: i64,
    pub state: State,
    pub reason: Option<String>,
    pub accepted_at: DateTime<Utc>,
    pub decided_at: Option<DateTime<Utc>>,
    pub hold: Option<HoldAnswer>,
}

/// A payment as the API shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentAnswer {
    pub id: Uuid,
    pub state: PaymentState,
    /// Where the buyer goes for a further step.
    pub next_action: Option<String>,
    pub reason: Option<String>,
    pub booking: Option<BookingAnswer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    Created,
    Authorized,
    Capturing,
    Captured,
    Refunding,
    Refunded,
    Declined,
    Voided,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Held,
    Confirmed,
    Rejected,
    Cancelled,
    Expired,
    Quarantined,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HoldAnswer {
    pub id: Uuid,
    #[serde(default)]
    pub seats: Vec<String>,
    pub section: Option<String>,
    pub quantity: i32,
    pub total: Money,
    /// The part of the total.
    pub fees: Money,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Money {
    pub amount: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct BookingAnswer {
    pub id: Uuid,
}

/// The public watermark.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct QueueAnswer {
    pub head: i64,
    pub tail: i64,
}

/// The code of a problem document.
#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
}

/// What to call a refusal in the figures: the problem's code, else the status.
pub fn refusal_code(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.code,
        Err(_) => format!("status-{status}"),
    }
}
