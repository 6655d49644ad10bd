//! What this process remembers of inventories between turns.
//!
//! An inventory is taken out for a turn and comes back only when that turn has committed, so a
//! failed turn leaves nothing wrong behind; it is read again from the database.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::{PgConnection, PgPool};
use stampede_shared::{
    domain::{inventory::Inventory, seat_map::SeatMap},
    store::{seats, sections, shows},
};
use uuid::Uuid;

/// The most shows that are remembered; the one that was used longest ago goes first.
const SHOWS_MAX: usize = 256;

/// The version before the first: everything has changed since.
const NEVER: i64 = -1;

/// An inventory and the version at which it is true.
#[derive(Debug)]
pub struct Cached {
    pub inventory: Inventory,
    pub version: i64,
}

impl Cached {
    /// Knows nothing yet.
    fn new(map: Arc<SeatMap>) -> Cached {
        Cached {
            inventory: Inventory::new(map),
            version: NEVER,
        }
    }

    /// Brings it to `version`. The caller holds the `show_inventory` lock.
    pub async fn catch_up(
        &mut self,
        connection: &mut PgConnection,
        show_id: Uuid,
        version: i64,
    ) -> sqlx::Result<()> {
        if self.version == version {
            return Ok(());
        }
        for seat in seats::free_since(connection, show_id, self.version).await? {
            self.inventory.set_seat(seat.seat_no, seat.free);
        }
        for places in sections::places_since(connection, show_id, self.version).await? {
            self.inventory.set_places(places.section_no, places.free);
        }
        self.version = version;
        Ok(())
    }
}

/// The inventories of the shows that were served last.
#[derive(Debug, Default)]
pub struct Inventories {
    shows: Mutex<Shows>,
}

#[derive(Debug, Default)]
struct Shows {
    remembered: HashMap<Uuid, Remembered>,
    clock: u64,
}

#[derive(Debug)]
struct Remembered {
    /// Never changes, so it outlives a failed turn.
    map: Arc<SeatMap>,
    cached: Option<Cached>,
    used: u64,
}

impl Inventories {
    /// Makes sure that the seat map of a show is here, before a turn begins its transaction.
    pub async fn prepare(&self, pool: &PgPool, show_id: Uuid) -> sqlx::Result<Arc<SeatMap>> {
        if let Some(remembered) = self.lock().remembered.get(&show_id) {
            return Ok(Arc::clone(&remembered.map));
        }
        let map = Arc::new(shows::load_map(pool, show_id).await?);
        self.remember(show_id, Arc::clone(&map), None);
        Ok(map)
    }

    /// Takes the inventory of a show out, or starts one that knows nothing yet.
    pub fn take(&self, show_id: Uuid, map: Arc<SeatMap>) -> Cached {
        let mut shows = self.lock();
        let remembered = shows.remembered.get_mut(&show_id);
        remembered
            .and_then(|it| it.cached.take())
            .unwrap_or_else(|| Cached::new(map))
    }

    /// Remembers an inventory after its turn has committed.
    pub fn put(&self, show_id: Uuid, map: Arc<SeatMap>, cached: Cached) {
        self.remember(show_id, map, Some(cached));
    }

    fn remember(&self, show_id: Uuid, map: Arc<SeatMap>, cached: Option<Cached>) {
        let mut shows = self.lock();
        shows.clock += 1;
        let used = shows.clock;
        shows
            .remembered
            .insert(show_id, Remembered { map, cached, used });
        if shows.remembered.len() > SHOWS_MAX {
            let oldest = shows
                .remembered
                .iter()
                .min_by_key(|(_, remembered)| remembered.used);
            if let Some(show_id) = oldest.map(|(show_id, _)| *show_id) {
                shows.remembered.remove(&show_id);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shows> {
        self.shows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
