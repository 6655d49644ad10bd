//! Reads of what is taken, for those who look: the seat map, its delta, the counters.

use sqlx::PgPool;
use uuid::Uuid;

use crate::domain::{SeatNo, SectionNo};

/// A seat that changed, and when.
#[derive(Debug, Clone)]
pub struct SeatStatus {
    pub seat_no: SeatNo,
    /// `available`, `held`, `booked` or `blocked`.
    pub status: String,
    /// The inventory version of the change.
    pub version: i64,
}

/// The seats that changed after `since`, at most one row a seat: all of them for -1.
pub async fn changed_since(
    pool: &PgPool,
    show_id: Uuid,
    since: i64,
) -> sqlx::Result<Vec<SeatStatus>> {
    sqlx::query_as!(
        SeatStatus,
        "select seat_no, status, version
        from seats
        where show_id = $1 and version > $2",
        show_id,
        since,
    )
    .fetch_all(pool)
    .await
}

/// The counters of a section.
#[derive(Debug, Clone)]
pub struct SectionCounters {
    pub section_no: SectionNo,
    pub held: i32,
    pub booked: i32,
    pub available: i32,
}

/// The counters of all sections of a show, in order.
pub async fn section_counters(pool: &PgPool, show_id: Uuid) -> sqlx::Result<Vec<SectionCounters>> {
    sqlx::query_as!(
        SectionCounters,
        r#"select section_no, held, booked, capacity - held - booked as "available!"
        from sections
        where show_id = $1
        order by section_no"#,
        show_id,
    )
    .fetch_all(pool)
    .await
}
