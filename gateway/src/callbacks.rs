//! Tells the client of every change, as the card wants it: signed, and again until it is heard.
//!
//! What waits to be sent is in memory and bounded; an event beyond the bound, or of a process that ends,
//! is never sent. Clients of a real gateway have to live with that as well.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use reqwest::{Client, Url, header::CONTENT_TYPE, redirect};
use secrecy::SecretString;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    behaviour::CallbackOrder, charges::Status, ids::ChargeId, ledger::Entry, signature::sign,
    view::ChargeView,
};

/// The most events that wait to be sent, those that wait for their next try included.
const WAITING_MAX: usize = 100_000;

/// The most calls at the same time.
const SENDING_MAX: usize = 16;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The pauses before the second and later tries.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 16];

/// Signs the forged ones.
const WRONG_SECRET: &str = "not the secret that you know";

/// Sends events in tasks of its own.
#[derive(Debug, Clone)]
pub struct Callbacks(Arc<Sender>);

#[derive(Debug)]
struct Sender {
    http: Client,
    url: Url,
    secret: SecretString,
    waiting: Arc<Semaphore>,
    sending: Semaphore,
    /// Events of charges that are sent out of order, the oldest first.
    held: Mutex<HashMap<ChargeId, Vec<Event>>>,
    dropped: AtomicU64,
    stop: CancellationToken,
}

/// An event and its place among those that wait.
#[derive(Debug)]
struct Event {
    body: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

/// How the events of a card are sent.
#[derive(Debug, Clone, Copy)]
struct Manner {
    copies: usize,
    forged: bool,
}

#[derive(Serialize)]
struct EventView<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    created_at: DateTime<Utc>,
    charge: ChargeView<'a>,
}

impl Callbacks {
    /// Sends to `url` until `stop`.
    pub fn new(
        url: &str,
        secret: SecretString,
        stop: CancellationToken,
    ) -> anyhow::Result<Callbacks> {
        let url = Url::parse(url).with_context(|| format!("the callback URL {url} is wrong"))?;
        Ok(Callbacks(Arc::new(Sender {
            http: client(&url)?,
            url,
            secret,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            sending: Semaphore::new(SENDING_MAX),
            held: Mutex::default(),
            dropped: AtomicU64::new(0),
            stop,
        })))
    }

    /// Tells of a change. Returns at once.
    pub fn tell(&self, entry: &Entry, base_url: &str) {
        let behaviour = &entry.card.behaviour;
        if behaviour.sends(CallbackOrder::Never) {
            return;
        }
        let Some(event) = self.event(entry, base_url) else {
            return;
        };
        let manner = Manner {
            copies: 1 + usize::from(behaviour.sends(CallbackOrder::Twice)),
            forged: behaviour.sends(CallbackOrder::Forged),
        };
        let late = Duration::from_millis(behaviour.late_ms);
        if behaviour.sends(CallbackOrder::OutOfOrder) {
            self.hold_back(entry.charge.id, event, late, manner);
        } else {
            let late = behaviour.sends(CallbackOrder::Late).then_some(late);
            let sender = Arc::clone(&self.0);
            self.spawn(async move {
                if let Some(late) = late {
                    tokio::time::sleep(late).await;
                }
                sender.send(event, manner).await;
            });
        }
    }

    fn event(&self, entry: &Entry, base_url: &str) -> Option<Event> {
        let Ok(place) = Arc::clone(&self.0.waiting).try_acquire_owned() else {
            let dropped = self.0.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                warn!(dropped, "too many callbacks wait, some are not sent");
            }
            return None;
        };
        let view = EventView {
            id: format!("ev_{}", Uuid::now_v7().simple()),
            kind: kind(entry.charge.status),
            created_at: Utc::now(),
            charge: ChargeView::new(&entry.charge, base_url),
        };
        Some(Event {
            body: serde_json::to_vec(&view).expect("an event has only text keys"),
            _place: place,
        })
    }

    /// The first event of a charge waits for more; then they are all sent, the newest first.
    fn hold_back(&self, id: ChargeId, event: Event, wait: Duration, manner: Manner) {
        let first = {
            let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
            let events = held.entry(id).or_default();
            events.push(event);
            events.len() == 1
        };
        if !first {
            return;
        }
        let sender = Arc::clone(&self.0);
        self.spawn(async move {
            tokio::time::sleep(wait).await;
            for event in sender.take_held(id).into_iter().rev() {
                sender.send(event, manner).await;
            }
        });
    }

    fn spawn(&self, sending: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(sending).await });
    }
}

impl Sender {
    fn take_held(&self, id: ChargeId) -> Vec<Event> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&id).unwrap_or_default()
    }

    async fn send(&self, event: Event, manner: Manner) {
        if manner.forged {
            // A refusal is what we hope for, so there is no second try.
            self.call(&event.body, &WRONG_SECRET.into()).await;
        }
        join_all((0..manner.copies).map(|_| self.send_until_heard(&event.body))).await;
    }

    async fn send_until_heard(&self, body: &[u8]) {
        for pause_seconds in PAUSES {
            if self.call(body, &self.secret).await {
                return;
            }
            tokio::time::sleep(Duration::from_secs(pause_seconds)).await;
        }
        if !self.call(body, &self.secret).await {
            warn!("a callback was not heard, it is given up");
        }
    }

    /// Whether it was heard.
    async fn call(&self, body: &[u8], secret: &SecretString) -> bool {
        let Ok(_turn) = self.sending.acquire().await else {
            return false;
        };
        let answer = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("gateway-signature", sign(body, secret, Utc::now()))
            .body(body.to_vec())
            .send()
            .await;
        match answer {
            Ok(answer) => answer.status().is_success(),
            Err(error) => {
                debug!(%error, "a callback could not be sent");
                false
            }
        }
    }
}

/// The type of the event by which a charge came to stand so.
fn kind(status: Status) -> &'static str {
    match status {
        Status::Pending => "charge.pending",
        Status::Declined => "charge.declined",
        Status::Authorized => "charge.authorized",
        Status::Captured => "charge.captured",
        Status::Refunded => "charge.refunded",
        Status::Voided => "charge.voided",
    }
}

fn client(url: &Url) -> anyhow::Result<Client> {
    // Whoever was first has installed it; it is the same one.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let mut builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(CALL_TIMEOUT);
    if url.scheme() == "http" {
        // Without TLS no certificates are needed; a small container has none.
        builder = builder.tls_certs_only([]);
    }
    builder
        .build()
        .context("building the HTTP client for callbacks")
}
