//! Shows: created with everything they sell in one transaction, then only read.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::{
    Amount, CategoryNo, SectionNo,
    payment::PaymentPolicy,
    seat_map::{Category, Seat, SeatMap, Section, SectionKind},
};

/// A show that is to be created.
#[derive(Debug)]
pub struct NewShow {
    pub show_id: Uuid,
    pub name: String,
    pub currency: String,
    pub buyer_limit: i32,
    pub hold_seconds: i32,
    pub queue_limit: i32,
    pub payment_policy: PaymentPolicy,
    pub refundable_until: Option<DateTime<Utc>>,
    pub opens_at: Option<DateTime<Utc>>,
    pub closes_at: Option<DateTime<Utc>>,
    pub map: SeatMap,
}

/// What never changes about a show, so it may be kept for ever.
#[derive(Debug, Clone)]
pub struct Show {
    pub show_id: Uuid,
    pub name: String,
    pub currency: String,
    pub buyer_limit: i32,
    pub hold_seconds: i32,
    pub payment_policy: PaymentPolicy,
    /// Until when buyers may cancel their bookings; `None`: only operators can.
    pub refundable_until: Option<DateTime<Utc>>,
    pub opens_at: Option<DateTime<Utc>>,
    pub closes_at: Option<DateTime<Utc>>,
    /// `sections[n]` is section `n`.
    pub sections: Vec<Section>,
}

/// Creates the show with its sections, its seats and its queue; the sale is scheduled.
///
/// No row is locked by others: nobody knows the show before the commit.
pub async fn create(
    connection: &mut PgConnection,
    show: &NewShow,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into shows (
            show_id, name, currency, buyer_limit, hold_seconds, created_at, payment_policy,
            refundable_until
        )
        values ($1, $2, $3, $4, $5, $6, $7, $8)",
        show.show_id,
        show.name,
        show.currency,
        show.buyer_limit,
        show.hold_seconds,
        now,
        show.payment_policy.as_str(),
        show.refundable_until,
    )
    .execute(&mut *connection)
    .await?;
    insert_sections(connection, show.show_id, &show.map.sections).await?;
    insert_categories(connection, show.show_id, &show.map.sections).await?;
    insert_seats(connection, show.show_id, &show.map.seats).await?;
    sqlx::query!(
        "insert into show_inventory (show_id)
        values ($1)",
        show.show_id,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into show_intake (show_id, opens_at, closes_at, queue_limit, changed_at)
        values ($1, $2, $3, $4, $5)",
        show.show_id,
        show.opens_at,
        show.closes_at,
        show.queue_limit,
        now,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into outbox_progress (show_id)
        values ($1)",
        show.show_id,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into show_progress (show_id, served_at)
        values ($1, $2)",
        show.show_id,
        now,
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

async fn insert_sections(
    connection: &mut PgConnection,
    show_id: Uuid,
    sections: &[Section],
) -> sqlx::Result<()> {
    let section_nos: Vec<i16> = (0..).take(sections.len()).collect();
    let names: Vec<String> = sections
        .iter()
        .map(|section| section.name.clone())
        .collect();
    let kinds: Vec<String> = sections
        .iter()
        .map(|section| section.kind.as_str().into())
        .collect();
    let prices: Vec<i64> = sections.iter().map(|section| section.price).collect();
    let fees: Vec<i64> = sections.iter().map(|section| section.fee).collect();
    let capacities: Vec<i32> = sections.iter().map(|section| section.capacity).collect();
    sqlx::query!(
        "insert into sections (show_id, section_no, name, kind, price, fee, capacity, version)
        select $1, section_no, name, kind, price, fee, capacity, 0
        from unnest(
            $2::smallint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::integer[]
        ) as new (section_no, name, kind, price, fee, capacity)",
        show_id,
        &section_nos,
        &names,
        &kinds,
        &prices,
        &fees,
        &capacities,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_categories(
    connection: &mut PgConnection,
    show_id: Uuid,
    sections: &[Section],
) -> sqlx::Result<()> {
    let mut section_nos: Vec<SectionNo> = Vec::new();
    let mut category_nos: Vec<CategoryNo> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut prices: Vec<Amount> = Vec::new();
    let mut fees: Vec<Amount> = Vec::new();
    for (section_no, section) in (0..).zip(sections) {
        for (category_no, category) in (0..).zip(&section.categories) {
            section_nos.push(section_no);
            category_nos.push(category_no);
            names.push(category.name.clone());
            prices.push(category.price);
            fees.push(category.fee);
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into price_categories (show_id, section_no, category_no, name, price, fee)
        select $1, section_no, category_no, name, price, fee
        from unnest($2::smallint[], $3::smallint[], $4::text[], $5::bigint[], $6::bigint[])
            as new (section_no, category_no, name, price, fee)",
        show_id,
        &section_nos,
        &category_nos,
        &names,
        &prices,
        &fees,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_seats(
    connection: &mut PgConnection,
    show_id: Uuid,
    seats: &[Seat],
) -> sqlx::Result<()> {
    let seat_nos: Vec<i32> = (0..).take(seats.len()).collect();
    let section_nos: Vec<i16> = seats.iter().map(|seat| seat.section).collect();
    let category_nos: Vec<Option<CategoryNo>> = seats.iter().map(|seat| seat.category).collect();
    let labels: Vec<String> = seats.iter().map(|seat| seat.label.clone()).collect();
    let row_nos: Vec<i32> = seats.iter().map(|seat| seat.row_no).collect();
    let row_seats: Vec<i16> = seats.iter().map(|seat| seat.row_seat).collect();
    let ranks: Vec<i32> = seats.iter().map(|seat| seat.rank).collect();
    let xs: Vec<f32> = seats.iter().map(|seat| seat.x).collect();
    let ys: Vec<f32> = seats.iter().map(|seat| seat.y).collect();
    sqlx::query!(
        "insert into seats (
            show_id, seat_no, section_no, category_no, label, row_no, row_seat, rank, x, y, version
        )
        select $1, seat_no, section_no, category_no, label, row_no, row_seat, rank, x, y, 0
        from unnest(
            $2::integer[], $3::smallint[], $4::smallint[], $5::text[], $6::integer[], $7::smallint[],
            $8::integer[], $9::real[], $10::real[]
        ) as new (seat_no, section_no, category_no, label, row_no, row_seat, rank, x, y)",
        show_id,
        &seat_nos,
        &section_nos,
        &category_nos as &[Option<CategoryNo>],
        &labels,
        &row_nos,
        &row_seats,
        &ranks,
        &xs,
        &ys,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads a show; `None` when there is no such show.
pub async fn find(pool: &PgPool, show_id: Uuid) -> sqlx::Result<Option<Show>> {
    let row = sqlx::query!(
        "select
            s.name, s.currency, s.buyer_limit, s.hold_seconds, s.payment_policy,
            s.refundable_until, i.opens_at, i.closes_at
        from shows s
        join show_intake i on i.show_id = s.show_id
        where s.show_id = $1",
        show_id,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Show {
        show_id,
        name: row.name,
        currency: row.currency,
        buyer_limit: row.buyer_limit,
        hold_seconds: row.hold_seconds,
        payment_policy: PaymentPolicy::parse(&row.payment_policy)
            .unwrap_or(PaymentPolicy::Required),
        refundable_until: row.refundable_until,
        opens_at: row.opens_at,
        closes_at: row.closes_at,
        sections: load_sections(pool, show_id).await?,
    }))
}

/// Loads the map of a show; an empty one when there is no such show. Several statements need no
/// transaction here: a map never changes.
pub async fn load_map(pool: &PgPool, show_id: Uuid) -> sqlx::Result<SeatMap> {
    let sections = load_sections(pool, show_id).await?;
    let seats = sqlx::query!(
        "select section_no, category_no, label, row_no, row_seat, rank, x, y
        from seats
        where show_id = $1
        order by seat_no",
        show_id,
    )
    .fetch_all(pool)
    .await?;
    let seats = seats.into_iter().map(|row| Seat {
        section: row.section_no,
        category: row.category_no,
        label: row.label,
        row_no: row.row_no,
        row_seat: row.row_seat,
        rank: row.rank,
        x: row.x,
        y: row.y,
    });
    Ok(SeatMap::new(sections, seats.collect()))
}

async fn load_sections(pool: &PgPool, show_id: Uuid) -> sqlx::Result<Vec<Section>> {
    let rows = sqlx::query!(
        "select name, kind, price, fee, capacity
        from sections
        where show_id = $1
        order by section_no",
        show_id,
    )
    .fetch_all(pool)
    .await?;
    let sections = rows.into_iter().map(|row| Section {
        name: row.name,
        kind: match row.kind.as_str() {
            "seated" => SectionKind::Seated,
            _ => SectionKind::GeneralAdmission,
        },
        price: row.price,
        fee: row.fee,
        categories: Vec::new(),
        capacity: row.capacity,
    });
    let mut sections: Vec<Section> = sections.collect();
    let categories = sqlx::query!(
        "select section_no, name, price, fee
        from price_categories
        where show_id = $1
        order by section_no, category_no",
        show_id,
    )
    .fetch_all(pool)
    .await?;
    for row in categories {
        sections[row.section_no as usize].categories.push(Category {
            name: row.name,
            price: row.price,
            fee: row.fee,
        });
    }
    Ok(sections)
}
