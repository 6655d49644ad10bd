//! How far each show is, for everyone who asks: one read of the database serves them all for a moment.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::PgPool;
use stampede_shared::store::show_progress;
use uuid::Uuid;

pub use stampede_shared::store::show_progress::Watermark;

/// How old an answer may be. So many polls as may come, a show is read four times a second.
const AGE_MAX: Duration = Duration::from_millis(250);

/// The most shows that are remembered; beyond that all are forgotten and read again.
const SHOWS_MAX: usize = 10_000;

/// The read of one show; whoever comes during a read waits for it and shares it.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Arc<Watermark>)>>>;

/// The watermarks of the shows that are asked for.
#[derive(Debug, Clone)]
pub struct Watermarks {
    pool: PgPool,
    shows: Arc<Mutex<HashMap<Uuid, Slot>>>,
}

impl Watermarks {
    pub fn new(pool: PgPool) -> Watermarks {
        Watermarks {
            pool,
            shows: Arc::default(),
        }
    }

    /// The watermark of a show, at most a quarter of a second old; `None` when there is no such show.
    pub async fn get(&self, show_id: Uuid) -> anyhow::Result<Option<Arc<Watermark>>> {
        let slot = self.slot(show_id);
        let mut read = slot.lock().await;
        if let Some((at, watermark)) = read.as_ref()
            && at.elapsed() < AGE_MAX
        {
            return Ok(Some(Arc::clone(watermark)));
        }
        let Some(watermark) = show_progress::watermark(&self.pool, show_id).await? else {
            self.shows().remove(&show_id);
            return Ok(None);
        };
        let watermark = Arc::new(watermark);
        *read = Some((Instant::now(), Arc::clone(&watermark)));
        Ok(Some(watermark))
    }

    /// Makes the next [`Watermarks::get`] read again: the sale has changed.
    pub fn forget(&self, show_id: Uuid) {
        self.shows().remove(&show_id);
    }

    fn slot(&self, show_id: Uuid) -> Slot {
        let mut shows = self.shows();
        if shows.len() >= SHOWS_MAX && !shows.contains_key(&show_id) {
            shows.clear();
        }
        Arc::clone(shows.entry(show_id).or_default())
    }

    fn shows(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Slot>> {
        self.shows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
