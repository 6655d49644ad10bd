//! What never changes about shows, read once and kept.

use std::sync::Arc;

use sqlx::PgPool;
use stampede_shared::{
    domain::seat_map::SeatMap,
    store::shows::{self, Show},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{cache::Cache, error::Problem};

/// How many shows a cache generation keeps.
const SHOWS_MAX: usize = 2_000;

/// How many seats a cache generation keeps, at about 200 bytes each.
const SEATS_MAX: usize = 250_000;

/// The shows and seat maps that were asked for.
pub struct Catalog {
    pool: PgPool,
    shows: Cache<Uuid, Arc<Show>>,
    maps: Cache<Uuid, Arc<SeatMap>>,
    /// One map is loaded at a time, so that a crowd at a cold cache loads it once.
    loading: Mutex<()>,
}

impl Catalog {
    pub fn new(pool: PgPool) -> Catalog {
        Catalog {
            pool,
            shows: Cache::new(SHOWS_MAX),
            maps: Cache::new(SEATS_MAX),
            loading: Mutex::new(()),
        }
    }

    /// The show of that id, or a 404.
    pub async fn show(&self, show_id: Uuid) -> Result<Arc<Show>, Problem> {
        if let Some(show) = self.shows.get(&show_id) {
            return Ok(show);
        }
        let show = shows::find(&self.pool, show_id).await?;
        let show = Arc::new(show.ok_or_else(|| Problem::not_found("show"))?);
        self.shows.insert(show_id, Arc::clone(&show), 1);
        Ok(show)
    }

    /// The seat map of a show that exists.
    pub async fn map(&self, show: &Show) -> Result<Arc<SeatMap>, Problem> {
        if let Some(map) = self.maps.get(&show.show_id) {
            return Ok(map);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(map) = self.maps.get(&show.show_id) {
            return Ok(map);
        }
        let map = Arc::new(shows::load_map(&self.pool, show.show_id).await?);
        self.maps
            .insert(show.show_id, Arc::clone(&map), map.seats.len().max(1));
        Ok(map)
    }
}
