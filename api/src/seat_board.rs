//! The status of every seat, kept in memory and caught up by deltas, so that a crowd that looks at the
//! hall costs the database one small read per change, and rendering once per version.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use serde::Serialize;
use sqlx::PgPool;
use stampede_shared::{
    domain::{SectionNo, seat_map::SeatMap},
    store::seat_status,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{cache::Cache, error::Problem};

/// How many seats a cache generation keeps, at about 150 bytes each with the rendered map.
const SEATS_MAX: usize = 250_000;

/// A board that was caught up so lately is good enough, whatever has changed since.
const AGE_MAX: Duration = Duration::from_millis(100);

/// The boards of the shows that are looked at.
pub struct SeatBoard {
    pool: PgPool,
    boards: Cache<Uuid, Arc<Slot>>,
}

/// The newest board; whoever comes while it is caught up waits and shares it.
type Slot = tokio::sync::Mutex<Option<(Instant, Arc<Board>)>>;

/// The seats of one show at one version.
pub struct Board {
    pub version: i64,
    map: Arc<SeatMap>,
    seats: Vec<(Status, i64)>,
    rendered: Mutex<HashMap<Option<SectionNo>, Bytes>>,
}

/// Whether a seat can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Available,
    Held,
    Booked,
    Blocked,
}

impl Status {
    fn parse(word: &str) -> Status {
        match word {
            "available" => Status::Available,
            "held" => Status::Held,
            "booked" => Status::Booked,
            _ => Status::Blocked,
        }
    }
}

/// A seat on the map.
#[derive(Serialize, ToSchema)]
pub struct SeatView<'a> {
    #[schema(example = "A-12")]
    label: &'a str,
    section: &'a str,
    /// One of the section's categories; a seat without one costs the section's price.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Front rows")]
    category: Option<&'a str>,
    /// Seats of one row have the same number.
    row: i32,
    x: f32,
    y: f32,
    status: Status,
}

/// A seat that changed.
#[derive(Serialize, ToSchema)]
pub struct SeatChange<'a> {
    #[schema(example = "A-12")]
    label: &'a str,
    status: Status,
}

/// Seats at a version of the show's inventory.
#[derive(Serialize, ToSchema)]
pub struct SeatList<T> {
    /// Ask with `since=<version>` for what changed after it.
    version: i64,
    seats: Vec<T>,
}

impl SeatBoard {
    pub fn new(pool: PgPool) -> SeatBoard {
        SeatBoard {
            pool,
            boards: Cache::new(SEATS_MAX),
        }
    }

    /// The seats of a show at `version` or later, or as they were a tenth of a second ago.
    pub async fn get(
        &self,
        show_id: Uuid,
        map: &Arc<SeatMap>,
        version: i64,
    ) -> Result<Arc<Board>, Problem> {
        let slot = self.boards.get(&show_id).unwrap_or_else(|| {
            let slot = Arc::new(Slot::default());
            self.boards
                .insert(show_id, Arc::clone(&slot), map.seats.len().max(1));
            slot
        });
        let mut newest = slot.lock().await;
        if let Some((caught_up_at, board)) = newest.as_ref()
            && (board.version >= version || caught_up_at.elapsed() < AGE_MAX)
        {
            return Ok(Arc::clone(board));
        }
        let known = newest.as_ref().map_or(-1, |(_, board)| board.version);
        let changes = seat_status::changed_since(&self.pool, show_id, known).await?;
        let mut seats = match newest.as_ref() {
            Some((_, board)) => board.seats.clone(),
            None => vec![(Status::Blocked, 0); map.seats.len()],
        };
        // Versions commit in their order, so who sees one sees all before it.
        let mut version = version.max(known);
        for change in changes {
            seats[change.seat_no as usize] = (Status::parse(&change.status), change.version);
            version = version.max(change.version);
        }
        let (map, rendered) = (Arc::clone(map), Mutex::default());
        let board = Arc::new(Board {
            version,
            map,
            seats,
            rendered,
        });
        *newest = Some((Instant::now(), Arc::clone(&board)));
        Ok(board)
    }
}

impl Board {
    /// The whole map, or one section of it, as JSON: rendered once for each version.
    pub fn render(&self, section: Option<SectionNo>) -> Bytes {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = rendered.entry(section).or_insert_with(|| {
            let seats = self.seats(section, -1).map(|(no, status)| {
                let seat = &self.map.seats[no];
                SeatView {
                    label: &seat.label,
                    section: &self.map.section(seat.section).name,
                    category: self.map.category_name(seat),
                    row: seat.row_no,
                    x: seat.x,
                    y: seat.y,
                    status,
                }
            });
            to_json(self.version, seats.collect())
        });
        bytes.clone()
    }

    /// What changed after `since`, as JSON.
    pub fn render_changes(&self, section: Option<SectionNo>, since: i64) -> Bytes {
        let changes = self.seats(section, since).map(|(no, status)| SeatChange {
            label: &self.map.seats[no].label,
            status,
        });
        to_json(self.version, changes.collect())
    }

    fn seats(
        &self,
        section: Option<SectionNo>,
        since: i64,
    ) -> impl Iterator<Item = (usize, Status)> {
        let in_section =
            move |no: &usize| section.is_none_or(|it| self.map.seats[*no].section == it);
        let seats = self.seats.iter().enumerate();
        let changed = seats.filter(move |(_, (_, version))| *version > since);
        changed
            .map(|(no, (status, _))| (no, *status))
            .filter(move |(no, _)| in_section(no))
    }
}

fn to_json<T: Serialize>(version: i64, seats: Vec<T>) -> Bytes {
    let json = serde_json::to_vec(&SeatList { version, seats });
    Bytes::from(json.expect("seats are plain data"))
}
