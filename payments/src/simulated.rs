//! The simulated gateway (`stampede gateway`) over HTTP, spoken to exactly as a real one.

mod answer;
mod body;

use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use futures::FutureExt;
use reqwest::{Client, Method, RequestBuilder, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::{
    gateway::{
        Answer, Callback, CallbackError, Charge, ChargeStatus, Gateway, GatewayError, LedgerPage,
        Order,
    },
    http, signature,
};

use answer::read;
use body::{ChargeBody, EventBody, PageBody};

/// The gateway remembers keys for a day unless it is told otherwise; an hour is for clocks and queues.
const KEYS_LAST: Duration = Duration::from_secs(23 * 3_600);

/// The most charges of one page of the ledger.
const PAGE_MAX: usize = 500;

/// A client of the simulated gateway.
#[derive(Debug)]
pub struct Simulated {
    http: Client,
    /// Without a slash at its end.
    url: String,
    key: SecretString,
    callback_secrets: Vec<SecretString>,
}

impl Simulated {
    /// A client of the gateway at `url`, whose calls end after `timeout`. A callback is believed when any
    /// of the secrets signed it.
    pub fn new(
        url: &str,
        key: SecretString,
        callback_secrets: Vec<SecretString>,
        timeout: Duration,
    ) -> anyhow::Result<Simulated> {
        let parsed = Url::parse(url).with_context(|| format!("the gateway URL {url} is wrong"))?;
        ensure!(
            ["http", "https"].contains(&parsed.scheme()),
            "the gateway URL {url} is not http or https"
        );
        Ok(Simulated {
            http: http::client_for(&parsed, timeout)?,
            url: url.trim_end_matches('/').to_owned(),
            key,
            callback_secrets,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(self.key.expose_secret())
    }

    /// A later step of a charge, said with its key.
    async fn take_step(
        &self,
        payment_id: Uuid,
        gateway_id: &str,
        step: &str,
    ) -> Result<Charge, GatewayError> {
        let path = format!("/v1/charges/{}/{step}", path_part(gateway_id)?);
        let request = self.request(Method::POST, &path);
        let request = request.header("idempotency-key", format!("{payment_id}-{step}"));
        let charge: ChargeBody = read(request).await?;
        Ok(charge.into())
    }

    async fn find_by_id(&self, gateway_id: &str) -> Result<Option<Charge>, GatewayError> {
        let path = format!("/v1/charges/{}", path_part(gateway_id)?);
        match read::<ChargeBody>(self.request(Method::GET, &path)).await {
            Ok(charge) => Ok(Some(charge.into())),
            Err(GatewayError::Refused { code, .. }) if code == "unknown_charge" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn find_by_payment(&self, payment_id: Uuid) -> Result<Option<Charge>, GatewayError> {
        let request = self.request(Method::GET, "/v1/charges");
        let request = request.query(&[("payment_id", payment_id.to_string())]);
        let page: PageBody = read(request).await?;
        let charges = page.charges.into_iter().map(Charge::from);
        Ok(the_one_that_counts(charges))
    }
}

impl Gateway for Simulated {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn keys_last(&self) -> Duration {
        KEYS_LAST
    }

    fn authorize<'a>(&'a self, order: &'a Order) -> Answer<'a, Charge> {
        let body = json!({
            "amount": order.amount,
            "currency": order.currency,
            "payment_method": order.payment_method,
            "metadata": {"show_id": order.show_id, "payment_id": order.payment_id},
        });
        let request = self
            .request(Method::POST, "/v1/charges")
            .header("idempotency-key", format!("{}-authorize", order.payment_id))
            .json(&body);
        async { read::<ChargeBody>(request).await.map(Charge::from) }.boxed()
    }

    fn find<'a>(
        &'a self,
        payment_id: Uuid,
        gateway_id: Option<&'a str>,
    ) -> Answer<'a, Option<Charge>> {
        async move {
            match gateway_id {
                Some(gateway_id) => self.find_by_id(gateway_id).await,
                None => self.find_by_payment(payment_id).await,
            }
        }
        .boxed()
    }

    fn capture<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge> {
        self.take_step(payment_id, gateway_id, "capture").boxed()
    }

    fn void<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge> {
        self.take_step(payment_id, gateway_id, "void").boxed()
    }

    fn refund<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge> {
        self.take_step(payment_id, gateway_id, "refund").boxed()
    }

    fn check_callback(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Callback, CallbackError> {
        let signature = header("gateway-signature").ok_or(CallbackError::NoSignature)?;
        signature::check(&signature, body, &self.callback_secrets, now)?;
        let event: EventBody =
            serde_json::from_slice(body).map_err(|_| CallbackError::Unreadable)?;
        Ok(event.into())
    }

    fn ledger<'a>(
        &'a self,
        since: DateTime<Utc>,
        after: Option<&'a str>,
    ) -> Answer<'a, LedgerPage> {
        let since = since.to_rfc3339_opts(SecondsFormat::Nanos, true);
        let mut request = self
            .request(Method::GET, "/v1/charges")
            .query(&[("since", since), ("limit", PAGE_MAX.to_string())]);
        if let Some(after) = after {
            request = request.query(&[("after", after)]);
        }
        async {
            let page: PageBody = read(request).await?;
            Ok(LedgerPage {
                charges: page.charges.into_iter().map(Charge::from).collect(),
                next: page.next,
            })
        }
        .boxed()
    }
}

/// Of several charges of one payment, the newest that holds or held money, else the newest.
fn the_one_that_counts(charges: impl Iterator<Item = Charge>) -> Option<Charge> {
    // Of equal ones `max_by_key` takes the last, and they come with the oldest first.
    charges.max_by_key(|charge| {
        !matches!(charge.status, ChargeStatus::Voided | ChargeStatus::Declined)
    })
}

/// A gateway's id that goes into a path as it is.
fn path_part(gateway_id: &str) -> Result<&str, GatewayError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !gateway_id.is_empty() && gateway_id.bytes().all(plain) {
        return Ok(gateway_id);
    }
    Err(GatewayError::Refused {
        code: "unknown_charge".to_owned(),
        detail: "not an id of this gateway".to_owned(),
    })
}
