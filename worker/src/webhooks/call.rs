//! One call of an endpoint: bounded in time and in what is read, no proxy, no redirect, and only to where
//! webhooks may go.

use std::{
    error::Error,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use chrono::Utc;
use reqwest::{
    Client, ClientBuilder, Response, StatusCode, Url,
    header::{CONTENT_TYPE, USER_AGENT},
    redirect,
};
use stampede_shared::{
    domain::webhook::names_private_host,
    store::{webhook_deliveries::Due, webhook_endpoints::Target},
};
use uuid::Uuid;

use super::{message, resolve::Resolver};

const OUR_NAME: &str = concat!("Stampede-Webhooks/", env!("CARGO_PKG_VERSION"));

/// The most that is read of a refusal.
const REFUSAL_MAX_BYTES: usize = 1024;

/// How long connecting may take, at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many idle connections to one host stay open for the next call.
const IDLE_MAX: usize = 16;

/// What became of a call.
#[derive(Debug)]
pub struct Answer {
    /// `None` when there was no answer.
    pub status: Option<StatusCode>,
    /// Why it failed; `None` when it was delivered.
    pub error: Option<String>,
}

impl Answer {
    pub fn is_delivered(&self) -> bool {
        self.error.is_none()
    }

    /// Whether the endpoint says that it wants no more.
    pub fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE)
    }

    fn failed(error: String) -> Answer {
        Answer {
            status: None,
            error: Some(error),
        }
    }
}

/// Calls endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    timeout: Duration,
    allow_private: bool,
    plain: Client,
    /// Made when the first endpoint wants it: it needs the system's certificates, and small containers have
    /// none.
    secure: Arc<OnceLock<Result<Client, String>>>,
}

impl Caller {
    pub fn new(timeout: Duration, allow_private: bool) -> anyhow::Result<Caller> {
        let plain = builder(timeout, allow_private).tls_certs_only([]).build();
        Ok(Caller {
            timeout,
            allow_private,
            plain: plain.context("building the HTTP client for webhooks")?,
            secure: Arc::default(),
        })
    }

    /// Posts an event of a show.
    pub async fn call(&self, target: &Target, show_id: Uuid, due: &Due) -> Answer {
        match self.post(target, show_id, due).await {
            Ok(response) => read(response).await,
            Err(error) => Answer::failed(error),
        }
    }

    async fn post(&self, target: &Target, show_id: Uuid, due: &Due) -> Result<Response, String> {
        let url = Url::parse(&target.url).map_err(|error| error.to_string())?;
        // An address in the URL is not resolved, so it is looked at here.
        if !self.allow_private && (names_private_host(&url) || url.scheme() != "https") {
            return Err("webhooks may not go there".to_owned());
        }
        let client = self.client(&url)?;
        let sent_at = Utc::now();
        let body = message::body(show_id, due);
        let signatures = message::signatures(target, due.event_id, sent_at, &body)
            .map_err(|error| format!("{error:#}"))?;
        let sent = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, OUR_NAME)
            .header("webhook-id", due.event_id.to_string())
            .header("webhook-timestamp", sent_at.timestamp())
            .header("webhook-signature", signatures)
            .body(body)
            .send()
            .await;
        sent.map_err(|error| with_causes(&error.without_url()))
    }

    fn client(&self, url: &Url) -> Result<&Client, String> {
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        let secure = self.secure.get_or_init(|| {
            let client = builder(self.timeout, self.allow_private).build();
            client.map_err(|error| with_causes(&error))
        });
        secure.as_ref().map_err(Clone::clone)
    }
}

fn builder(timeout: Duration, allow_private: bool) -> ClientBuilder {
    // Whoever was first has installed it; it is the same one.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .dns_resolver(Arc::new(Resolver { allow_private }))
        .timeout(timeout)
        .connect_timeout(timeout.min(CONNECT_TIMEOUT))
        .pool_max_idle_per_host(IDLE_MAX)
        .tcp_nodelay(true)
}

/// 2xx is delivered. Of anything else the beginning is kept, for whoever looks why.
async fn read(mut response: Response) -> Answer {
    let status = response.status();
    if status.is_success() {
        return Answer {
            status: Some(status),
            error: None,
        };
    }
    let mut body = Vec::new();
    while body.len() < REFUSAL_MAX_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(REFUSAL_MAX_BYTES);
    let body = printable(&String::from_utf8_lossy(&body));
    Answer {
        status: Some(status),
        error: Some(format!("it answered {status}: {body}")),
    }
}

/// Text that a database takes and a terminal shows.
fn printable(text: &str) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.collect::<String>().trim().to_owned()
}

/// The error and its causes, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    printable(&line)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    fn due() -> Due {
        Due {
            delivery_id: Uuid::nil(),
            attempts: 0,
            sequence: 1,
            event_id: Uuid::nil(),
            event_type: "request.held".to_owned(),
            request_id: None,
            booking_id: None,
            data: json!({}),
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    async fn error_of(url: &str, allow_private: bool) -> String {
        let caller = Caller::new(Duration::from_secs(2), allow_private).unwrap();
        let target = Target {
            url: url.to_owned(),
            secret: "whsec_AAAA".to_owned(),
            previous_secret: None,
            failing: false,
        };
        let answer = caller.call(&target, Uuid::nil(), &due()).await;
        assert!(answer.status.is_none());
        answer.error.unwrap()
    }

    #[tokio::test]
    async fn a_private_address_is_not_called_however_it_is_written() {
        for url in [
            "https://127.0.0.1:9/",
            "https://0x7f000001:9/",
            "https://[::ffff:127.0.0.1]:9/",
            "https://localhost:9/",
            "http://example.com/",
        ] {
            assert_eq!(
                error_of(url, false).await,
                "webhooks may not go there",
                "{url}"
            );
        }
    }

    #[tokio::test]
    async fn where_private_is_allowed_the_call_is_made() {
        let error = error_of("http://localhost:1/", true).await;
        assert!(error.contains("refused"), "{error}");
        assert!(!error.contains("localhost"), "{error}");
    }

    #[test]
    fn what_is_kept_of_a_refusal_has_no_control_characters() {
        assert_eq!(printable(" a\0b\r\n"), "a b");
    }
}
