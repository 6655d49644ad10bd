//! Calls to Stripe's API, and what its answers mean.

use reqwest::{Client, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};

use super::intent::{Intent, LastError};
use crate::{gateway::GatewayError, http};

/// The version of the API that the shapes here are of; the account's own may move.
const VERSION: &str = "2025-09-30.clover";

/// How to call one account.
#[derive(Debug)]
pub(super) struct Calls {
    http: Client,
    base: Url,
    key: SecretString,
}

/// What came back for a POST.
pub(super) struct Reply<T> {
    pub said: Result<T, Problem>,
    /// What Stripe answered to an earlier call with the same key, as things were then.
    pub replayed: bool,
}

/// Why there is no answer of the wanted kind.
pub(super) enum Problem {
    /// It may have been done.
    Unclear(String),
    /// It was not done.
    Refused(Box<Refusal>),
}

/// Stripe's error object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(rename = "type")]
    kind: String,
    message: Option<String>,
    #[serde(flatten)]
    why: LastError,
    payment_intent: Option<Intent>,
}

impl Calls {
    pub fn new(http: Client, base: Url, key: SecretString) -> Calls {
        Calls { http, base, key }
    }

    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Problem> {
        let request = self.http.get(self.url(path)).query(query);
        self.send(request).await.said
    }

    /// A POST, which is done once for each `idempotency_key`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        form: &[(&str, &str)],
        idempotency_key: Option<&str>,
    ) -> Reply<T> {
        let mut request = self.http.post(self.url(path)).form(form);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("a URL with a host has a path")
            .pop_if_empty()
            .extend(path);
        url
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Reply<T> {
        let request = request
            .bearer_auth(self.key.expose_secret())
            .header("stripe-version", VERSION);
        match exchange(request).await {
            Ok((status, replayed, body)) => Reply {
                said: understand(status, &body),
                replayed,
            },
            Err(problem) => Reply {
                said: Err(problem),
                replayed: false,
            },
        }
    }
}

async fn exchange(request: RequestBuilder) -> Result<(u16, bool, Vec<u8>), Problem> {
    let response = request.send().await.map_err(unclear)?;
    let status = response.status().as_u16();
    let replayed = response.headers().get("idempotent-replayed");
    let replayed = replayed.is_some_and(|value| value == "true");
    let body = http::body(response).await.map_err(Problem::Unclear)?;
    Ok((status, replayed, body))
}

fn unclear(error: reqwest::Error) -> Problem {
    let error = anyhow::Error::from(error.without_url());
    Problem::Unclear(format!("{error:#}"))
}

/// The meaning of an answer, see <https://docs.stripe.com/error-low-level>.
fn understand<T: DeserializeOwned>(status: u16, body: &[u8]) -> Result<T, Problem> {
    if (200..300).contains(&status) {
        return serde_json::from_slice(body)
            .map_err(|error| Problem::Unclear(format!("status {status}, unreadable: {error}")));
    }
    #[derive(Deserialize)]
    struct Wrapped {
        error: Refusal,
    }
    // Whatever is not Stripe's error object was said by somebody in between.
    let Ok(Wrapped { error }) = serde_json::from_slice(body) else {
        return Err(Problem::Unclear(format!("status {status}")));
    };
    let clear = match status {
        // Another call has the key or the intent just now (409), we are too many (429), or something
        // that Stripe depends on did not answer (424).
        408 | 409 | 424 | 429 => false,
        // The key was used for something else, which may well have been done.
        400..500 => error.kind != "idempotency_error",
        _ => false,
    };
    if clear {
        return Err(Problem::Refused(Box::new(error)));
    }
    let (code, detail) = (error.code(), error.detail());
    Err(Problem::Unclear(format!(
        "status {status}: {code}: {detail}"
    )))
}

impl Problem {
    /// The intent of which the bank said no. To Stripe that is an error, to us a charge.
    pub fn declined(self) -> Result<Intent, Problem> {
        match self {
            Problem::Refused(mut refusal) if refusal.kind == "card_error" => {
                let Some(mut intent) = refusal.payment_intent.take() else {
                    return Err(Problem::Refused(refusal));
                };
                intent.last_payment_error.get_or_insert(refusal.why);
                Ok(intent)
            }
            problem => Err(problem),
        }
    }
}

impl Refusal {
    /// A refusal that Stripe did not put as an error.
    pub fn new(code: String, message: String) -> Refusal {
        Refusal {
            kind: code,
            message: Some(message),
            ..Refusal::default()
        }
    }

    /// Stripe's word for it.
    pub fn code(&self) -> &str {
        self.why.word().unwrap_or(&self.kind)
    }

    fn detail(&self) -> &str {
        self.message.as_deref().unwrap_or("no message")
    }
}

impl From<Problem> for GatewayError {
    fn from(problem: Problem) -> GatewayError {
        match problem {
            Problem::Unclear(what) => GatewayError::Unclear(what),
            Problem::Refused(refusal) => GatewayError::Refused {
                code: refusal.code().to_owned(),
                detail: refusal.detail().to_owned(),
            },
        }
    }
}
