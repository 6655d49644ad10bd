//! What the handlers share, and how a card's answer goes wrong.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use chrono::TimeDelta;
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    behaviour::{How, Rule},
    book::{Book, Done},
    callbacks::Callbacks,
    cards::Cards,
    error::Refusal,
    settings::Settings,
};

/// The most calls that hang or are slow at the same time; more are refused.
const HANGING_MAX: usize = 10_000;

/// The longest that a call hangs, if its client has so much patience.
const HANG_MAX: Duration = Duration::from_secs(120);

pub type SharedApp = Arc<App>;

pub struct App {
    book: Mutex<Book>,
    cards: Mutex<Cards>,
    callbacks: Option<Callbacks>,
    hanging: Arc<Semaphore>,
    /// Slow calls.
    tasks: TaskTracker,
    stop: CancellationToken,
    pub secret_key: SecretString,
    /// Of the step pages, without a slash at its end.
    pub base_url: String,
}

impl App {
    /// Reads the ledger. Callbacks and slow calls, which are among `tasks`, end with `stop`.
    pub fn open(
        settings: Settings,
        base_url: String,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> anyhow::Result<App> {
        let key_memory = TimeDelta::seconds(settings.key_memory_seconds.into());
        let callbacks = match settings.callback_url {
            Some(url) => {
                let secret = settings.callback_secret;
                let secret = secret.context("a callback URL needs a callback secret")?;
                Some(Callbacks::new(&url, secret, stop.clone())?)
            }
            None => None,
        };
        Ok(App {
            book: Mutex::new(Book::open(settings.ledger.as_deref(), key_memory)?),
            cards: Mutex::new(Cards::well_known()),
            callbacks,
            hanging: Arc::new(Semaphore::new(HANGING_MAX)),
            tasks,
            stop,
            secret_key: settings.secret_key,
            base_url,
        })
    }

    /// The book for a moment. Never hold it while waiting.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn cards(&self) -> MutexGuard<'_, Cards> {
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what changes the book, and tells the client of it.
    pub fn effect(
        &self,
        change: impl FnOnce(&mut Book) -> Result<Done, Refusal>,
    ) -> Result<Done, Refusal> {
        let done = change(&mut self.book())?;
        if let (Some(callbacks), Some(entry)) = (&self.callbacks, &done.changed) {
            callbacks.tell(entry, &self.base_url);
        }
        Ok(done)
    }

    /// As [`App::effect`], with the answer that the card was told to give.
    pub async fn answer(
        self: Arc<App>,
        rule: Option<Rule>,
        change: impl FnOnce(&mut Book) -> Result<Done, Refusal> + Send + 'static,
    ) -> Result<Done, Refusal> {
        let rule = rule.unwrap_or_default();
        match rule.how {
            How::Normal => self.effect(change),
            How::ErrorBefore => Err(Refusal::Told),
            How::ErrorAfter => {
                self.effect(change)?;
                Err(Refusal::Told)
            }
            How::HangBefore => Err(self.hang().await),
            How::HangAfter => {
                // Whatever came of it, nobody learns it.
                self.effect(change).ok();
                Err(self.hang().await)
            }
            How::Slow => self.slowly(Duration::from_millis(rule.ms), change).await,
        }
    }

    /// No answer until the client leaves, which drops this future.
    async fn hang(&self) -> Refusal {
        let Ok(_place) = self.place_to_hang() else {
            return Refusal::TooManyHanging;
        };
        tokio::time::sleep(HANG_MAX).await;
        Refusal::Hung
    }

    /// In a task of its own: the effect comes although the client may have left.
    async fn slowly(
        self: Arc<App>,
        wait: Duration,
        change: impl FnOnce(&mut Book) -> Result<Done, Refusal> + Send + 'static,
    ) -> Result<Done, Refusal> {
        let place = self.place_to_hang()?;
        let tasks = self.tasks.clone();
        let effect = tasks.spawn(async move {
            let waited = self
                .stop
                .run_until_cancelled(tokio::time::sleep(wait))
                .await;
            drop(place);
            waited.ok_or(Refusal::Hung)?;
            self.effect(change)
        });
        effect.await.unwrap_or(Err(Refusal::Hung))
    }

    fn place_to_hang(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let place = Arc::clone(&self.hanging).try_acquire_owned();
        place.map_err(|_| Refusal::TooManyHanging)
    }
}
