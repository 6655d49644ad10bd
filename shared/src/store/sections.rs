//! The counters of sections. All under the `show_inventory` lock.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::SectionNo;

/// Adds `quantities[i]` to what is held of `section_nos[i]`; no section twice. More than the capacity
/// fails (`sections_not_oversold`).
pub async fn hold(
    connection: &mut PgConnection,
    show_id: Uuid,
    section_nos: &[SectionNo],
    quantities: &[i32],
    version: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update sections s
        set held = s.held + new.quantity, version = $4
        from unnest($2::smallint[], $3::integer[]) as new (section_no, quantity)
        where s.show_id = $1 and s.section_no = new.section_no",
        show_id,
        section_nos,
        quantities,
        version,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves the counters: `held_by` and `booked_by` are -1, 0 or 1 times `quantities[i]` of
/// `section_nos[i]`; no section twice.
pub async fn shift(
    connection: &mut PgConnection,
    show_id: Uuid,
    section_nos: &[SectionNo],
    quantities: &[i32],
    (held_by, booked_by): (i32, i32),
    version: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update sections s
        set
            held = s.held + $4 * moved.quantity,
            booked = s.booked + $5 * moved.quantity,
            version = $6
        from unnest($2::smallint[], $3::integer[]) as moved (section_no, quantity)
        where s.show_id = $1 and s.section_no = moved.section_no",
        show_id,
        section_nos,
        quantities,
        held_by,
        booked_by,
        version,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What is free in a section.
#[derive(Debug, Clone, Copy)]
pub struct FreePlaces {
    pub section_no: SectionNo,
    pub free: i32,
}

/// The general-admission sections that changed after `version`.
pub async fn places_since(
    connection: &mut PgConnection,
    show_id: Uuid,
    version: i64,
) -> sqlx::Result<Vec<FreePlaces>> {
    sqlx::query_as!(
        FreePlaces,
        r#"select section_no, capacity - held - booked as "free!"
        from sections
        where show_id = $1 and version > $2 and kind = 'general_admission'"#,
        show_id,
        version,
    )
    .fetch_all(connection)
    .await
}
