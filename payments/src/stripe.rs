//! Stripe: a charge is a PaymentIntent that is confirmed when it is made and captured by hand.
//!
//! What Stripe does that the rest need not know (<https://docs.stripe.com/api>):
//! - A key is remembered for at least 24 hours, with the answer as it was *then*, failures too. A
//!   recorded answer is marked, so we look afresh; a recorded failure of a step on an intent is not
//!   the last word, since there the state of the intent itself allows each step once only.
//! - A refund may fail days after it succeeded. Then the charge is one that was captured again, and only
//!   the events `refund.failed`, `refund.updated` or `charge.refund.updated` tell of it, so Stripe has to
//!   be told to send them. We put our ids on our refunds, which Stripe does not; of refunds that others
//!   made in the account and that fail, only reconciliation knows.
//! - Its search learns of an intent a minute later, in a bad hour an hour later; its lists know at once.
//! - It lists the newest first, so the ledger comes backwards. Nobody who compares ledgers minds.
//! - Amounts are in minor units as Stripe counts them: those of ISO 4217 (cents of EUR, whole JPY), but
//!   two decimals for ISK and UGX (always 00), none for MGA, and of three decimals (KWD) the last is 0.
//!   They are passed on as they are, so prices in such currencies have to be given in Stripe's units.

mod calls;
mod event;
mod find;
mod intent;
mod steps;

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use reqwest::Url;
use secrecy::SecretString;
use uuid::Uuid;

use self::{
    calls::{Calls, Problem, Reply},
    intent::{Intent, Page},
};
use crate::{
    gateway::{
        Answer, Callback, CallbackError, Charge, ChargeStatus, Gateway, GatewayError, LedgerPage,
        Order,
    },
    http, signature,
};

/// Stripe removes keys that are at least 24 hours old.
const KEYS_LAST: Duration = Duration::from_secs(23 * 3_600);

/// The most that Stripe gives at a time.
const PAGE: &str = "100";

/// A Stripe account.
#[derive(Debug)]
pub struct Stripe {
    calls: Calls,
    callback_secrets: Vec<SecretString>,
    return_url: Option<String>,
}

impl Stripe {
    /// The account of the secret `key`, at `url` (`https://api.stripe.com`, or a stand-in for it).
    /// Every call ends after `timeout`.
    pub fn new(
        url: &str,
        key: SecretString,
        callback_secrets: Vec<SecretString>,
        timeout: Duration,
    ) -> anyhow::Result<Stripe> {
        let base = Url::parse(url).with_context(|| format!("reading Stripe's URL {url:?}"))?;
        anyhow::ensure!(
            matches!(base.scheme(), "http" | "https") && base.has_host(),
            "Stripe's URL {url:?} is not one of HTTP"
        );
        Ok(Stripe {
            calls: Calls::new(http::client(timeout)?, base, key),
            callback_secrets,
            return_url: None,
        })
    }

    /// Where Stripe sends a buyer back to who had to go elsewhere for a further step.
    ///
    /// Only with it does a further step come with a URL. Without it, no means of payment that redirects
    /// is taken, and a card whose bank wants to see its owner is left waiting until it is voided.
    pub fn with_return_url(mut self, url: &str) -> anyhow::Result<Stripe> {
        Url::parse(url).with_context(|| format!("reading the return URL {url:?}"))?;
        self.return_url = Some(url.to_owned());
        Ok(self)
    }

    async fn create(&self, order: &Order) -> Result<Charge, GatewayError> {
        let amount = order.amount.to_string();
        let currency = order.currency.to_lowercase();
        let payment_id = order.payment_id.to_string();
        let show_id = order.show_id.to_string();
        let redirects = match self.return_url {
            Some(_) => "always",
            None => "never",
        };
        let mut form = vec![
            ("amount", amount.as_str()),
            ("currency", &currency),
            ("payment_method", &order.payment_method),
            ("capture_method", "manual"),
            ("confirm", "true"),
            ("automatic_payment_methods[enabled]", "true"),
            ("automatic_payment_methods[allow_redirects]", redirects),
            ("metadata[payment_id]", &payment_id),
            ("metadata[show_id]", &show_id),
            ("expand[]", "latest_charge"),
        ];
        form.extend(self.return_url.as_deref().map(|url| ("return_url", url)));
        let key = format!("{payment_id}:authorize");
        let path = ["v1", "payment_intents"];
        let mut reply: Reply<Intent> = self.calls.post(&path, &form, Some(&key)).await;
        reply.said = reply.said.or_else(Problem::declined);
        self.fresh(reply).await
    }
}

impl Gateway for Stripe {
    fn name(&self) -> &'static str {
        "stripe"
    }

    fn keys_last(&self) -> Duration {
        KEYS_LAST
    }

    fn authorize<'a>(&'a self, order: &'a Order) -> Answer<'a, Charge> {
        Box::pin(self.create(order))
    }

    fn find<'a>(
        &'a self,
        payment_id: Uuid,
        gateway_id: Option<&'a str>,
    ) -> Answer<'a, Option<Charge>> {
        Box::pin(async move {
            let Some(id) = gateway_id else {
                return self.find_by_payment(payment_id).await;
            };
            match self.retrieve(id).await {
                Ok(intent) => Ok(Some(intent.charge()?)),
                Err(Problem::Refused(refusal)) if refusal.code() == "resource_missing" => Ok(None),
                Err(problem) => Err(problem.into()),
            }
        })
    }

    fn capture<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge> {
        Box::pin(async move {
            let path = ["v1", "payment_intents", gateway_id, "capture"];
            let form = [("expand[]", "latest_charge")];
            let reply = self.step(&path, &form, payment_id, "capture").await;
            let wanted = [ChargeStatus::Captured, ChargeStatus::Refunded];
            self.after_step(reply, gateway_id, &wanted).await
        })
    }

    fn void<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge> {
        Box::pin(async move {
            let path = ["v1", "payment_intents", gateway_id, "cancel"];
            let form = [("expand[]", "latest_charge")];
            let reply = self.step(&path, &form, payment_id, "void").await;
            let wanted = [ChargeStatus::Voided];
            self.after_step(reply, gateway_id, &wanted).await
        })
    }

    fn refund<'a>(&'a self, payment_id: Uuid, gateway_id: &'a str) -> Answer<'a, Charge> {
        Box::pin(self.give_back(payment_id, gateway_id))
    }

    fn check_callback(
        &self,
        header: &dyn Fn(&str) -> Option<String>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Callback, CallbackError> {
        let header = header("stripe-signature").ok_or(CallbackError::NoSignature)?;
        signature::check(&header, body, &self.callback_secrets, now)?;
        event::read(body)
    }

    /// The newest first; `after` is the id of the last one of the page before.
    fn ledger<'a>(
        &'a self,
        since: DateTime<Utc>,
        after: Option<&'a str>,
    ) -> Answer<'a, LedgerPage> {
        Box::pin(async move {
            let since = since.timestamp().to_string();
            let mut query = vec![
                ("limit", PAGE),
                ("created[gte]", &since),
                ("expand[]", "data.latest_charge"),
            ];
            query.extend(after.map(|id| ("starting_after", id)));
            let page: Page = self.calls.get(&["v1", "payment_intents"], &query).await?;
            let next = page.next();
            let charges: Result<_, Problem> = page.data.into_iter().map(Intent::charge).collect();
            Ok(LedgerPage {
                charges: charges?,
                next,
            })
        })
    }
}
