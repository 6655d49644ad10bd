//! Shows and logs of requests to measure on.

use anyhow::Result;
use chrono::Utc;
use rand::{Rng, SeedableRng, rngs::StdRng};
use stampede_shared::{
    domain::{
        SeatNo,
        payment::PaymentPolicy,
        sale::SaleState,
        seat_map::{Seat, SeatMap, Section, SectionKind},
        wish::{Adjacent, Wish},
    },
    store::{
        Database,
        booking_requests::{self, NewRequests},
        show_intake, shows,
    },
};
use uuid::Uuid;

const SEATS_PER_ROW: usize = 50;
const ROWS_PER_APPEND: usize = 5_000;

/// Creates an open show of so many sections with so many seats each.
pub async fn create_show(database: &Database, sections: usize, seats: usize) -> Result<Uuid> {
    let show_id = Uuid::now_v7();
    let show = shows::NewShow {
        show_id,
        name: "Benchmark".into(),
        currency: "EUR".into(),
        buyer_limit: 8,
        hold_seconds: 3600,
        queue_limit: 10_000_000,
        payment_policy: PaymentPolicy::Complimentary,
        refundable_until: None,
        opens_at: Some(Utc::now()),
        closes_at: None,
        map: seat_map(sections, seats),
    };
    let mut tx = database.begin().await?;
    shows::create(&mut tx, &show, Utc::now()).await?;
    tx.commit().await?;
    Ok(show_id)
}

/// Stops deciding; what is submitted waits.
pub async fn pause(database: &Database, show_id: Uuid) -> Result<()> {
    set_sale(database, show_id, SaleState::Paused).await
}

/// Decides again.
pub async fn resume(database: &Database, show_id: Uuid) -> Result<()> {
    set_sale(database, show_id, SaleState::Open).await
}

async fn set_sale(database: &Database, show_id: Uuid, state: SaleState) -> Result<()> {
    let mut tx = database.begin().await?;
    show_intake::set_sale(&mut tx, show_id, state, None).await?;
    Ok(tx.commit().await?)
}

fn seat_map(sections: usize, seats: usize) -> SeatMap {
    let section = |number| Section {
        name: format!("S{number}"),
        kind: SectionKind::Seated,
        price: 5_000,
        fee: 500,
        categories: Vec::new(),
        capacity: seats as i32,
    };
    let seat = |number: usize| Seat {
        section: (number / seats) as i16,
        category: None,
        label: format!("S{}-{}", number / seats, number % seats),
        row_no: (number / SEATS_PER_ROW) as i32,
        row_seat: (number % SEATS_PER_ROW) as i16,
        rank: (number % seats) as i32,
        x: (number % SEATS_PER_ROW) as f32,
        y: (number / SEATS_PER_ROW) as f32,
    };
    SeatMap::new(
        (0..sections).map(section).collect(),
        (0..sections * seats).map(seat).collect(),
    )
}

/// What the requests of a log ask for.
#[derive(Debug, Clone, Copy)]
pub enum Asks {
    /// One to four named neighbours.
    NamedSeats,
    /// The best one to four neighbours of a section.
    BestAvailable,
}

/// Fills the log of a show with so many requests, each of another buyer. The same seed gives the
/// same requests.
pub async fn fill_log(
    database: &Database,
    show_id: Uuid,
    asks: Asks,
    sections: usize,
    seats: usize,
    count: usize,
) -> Result<()> {
    let mut random = StdRng::seed_from_u64(7);
    let mut last_position = 0;
    while last_position < count {
        let mut rows = NewRequests::default();
        for position in last_position + 1..=count.min(last_position + ROWS_PER_APPEND) {
            let wish = wish(&mut random, asks, sections, seats);
            rows.positions.push(position as i64);
            rows.request_ids.push(Uuid::now_v7());
            rows.buyer_ids.push(format!("buyer-{position}"));
            rows.idempotency_keys.push(format!("key-{position}"));
            rows.body_hashes.push(vec![0; 32]);
            rows.wishes.push(serde_json::to_string(&[wish])?);
            rows.max_totals.push(None);
        }
        last_position += rows.positions.len();
        let mut tx = database.begin().await?;
        booking_requests::append(&mut tx, show_id, &rows, Utc::now()).await?;
        tx.commit().await?;
    }
    Ok(())
}

fn wish(random: &mut StdRng, asks: Asks, sections: usize, seats: usize) -> Wish {
    let quantity = random.random_range(1..=4);
    match asks {
        Asks::NamedSeats => {
            let first = random.random_range(0..sections * seats - quantity);
            Wish::Seats(
                (first..first + quantity)
                    .map(|seat| seat as SeatNo)
                    .collect(),
            )
        }
        Asks::BestAvailable => Wish::BestAvailable {
            section: random.random_range(0..sections) as i16,
            quantity: quantity as i32,
            adjacent: Adjacent::Required,
        },
    }
}
