//! The demo hall: two tiers of seats in arcs around a stage, and a floor to stand on.

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use stampede_shared::{
    domain::{
        payment::PaymentPolicy,
        sale::SaleState,
        seat_map::{Category, Seat, SeatMap, Section, SectionKind},
    },
    store::{
        Database, across_shows, show_intake,
        shows::{self, NewShow},
    },
};
use uuid::Uuid;

/// A block of seats between two angles, as seen from the stage.
struct Block {
    name: &'static str,
    price: i64,
    /// Of the front rows, if they have a price of their own.
    front_price: Option<i64>,
    rows: u16,
    /// From the stage to the first row, in metres.
    distance: f32,
    /// Where the middle of the block is, in degrees; 0 is straight ahead.
    direction: f32,
    /// In the first row; each row further back has room for one more every other row.
    seats: u16,
    /// A row has an aisle in its middle.
    aisle: bool,
}

const BLOCKS: [Block; 6] = [
    Block {
        name: "A",
        price: 8_500,
        front_price: None,
        rows: 20,
        distance: 16.0,
        direction: -50.0,
        seats: 14,
        aisle: false,
    },
    Block {
        name: "B",
        price: 9_500,
        front_price: Some(12_500),
        rows: 20,
        distance: 16.0,
        direction: 0.0,
        seats: 20,
        aisle: true,
    },
    Block {
        name: "C",
        price: 8_500,
        front_price: None,
        rows: 20,
        distance: 16.0,
        direction: 50.0,
        seats: 14,
        aisle: false,
    },
    Block {
        name: "D",
        price: 5_500,
        front_price: None,
        rows: 10,
        distance: 42.0,
        direction: -44.0,
        seats: 22,
        aisle: false,
    },
    Block {
        name: "E",
        price: 6_500,
        front_price: None,
        rows: 10,
        distance: 42.0,
        direction: 0.0,
        seats: 32,
        aisle: true,
    },
    Block {
        name: "F",
        price: 5_500,
        front_price: None,
        rows: 10,
        distance: 42.0,
        direction: 44.0,
        seats: 22,
        aisle: false,
    },
];

/// How many rows are the front rows of a block that has a price for them.
const FRONT_ROWS: u16 = 3;

const FLOOR_PRICE: i64 = 4_500;
const FLOOR_CAPACITY: i32 = 500;

/// From one row to the next, and from one seat to the next, in metres.
const ROW_STEP: f32 = 1.0;
const SEAT_STEP: f32 = 0.6;

const BUYER_LIMIT: i32 = 8;
const HOLD_SECONDS: i32 = 600;
const QUEUE_LIMIT: i32 = 200_000;

/// How long buyers of the demo show may change their minds.
const REFUNDABLE_FOR: TimeDelta = TimeDelta::days(30);

/// Creates the demo show, open for sale, if there is no show at all.
pub async fn create_if_empty(database: &Database) -> anyhow::Result<()> {
    let newest = across_shows::newest_shows(&database.pool, None, 1).await;
    if !newest.context("looking for shows")?.is_empty() {
        return Ok(());
    }
    create(database).await.context("creating the demo show")
}

async fn create(database: &Database) -> anyhow::Result<()> {
    let show = NewShow {
        show_id: Uuid::now_v7(),
        name: "Demo: The Stampede".to_owned(),
        currency: "EUR".to_owned(),
        buyer_limit: BUYER_LIMIT,
        hold_seconds: HOLD_SECONDS,
        queue_limit: QUEUE_LIMIT,
        payment_policy: PaymentPolicy::Required,
        refundable_until: Some(Utc::now() + REFUNDABLE_FOR),
        opens_at: None,
        closes_at: None,
        map: hall(),
    };
    let mut tx = database.begin().await?;
    shows::create(&mut tx, &show, Utc::now()).await?;
    show_intake::set_sale(&mut tx, show.show_id, SaleState::Open, None).await?;
    tx.commit().await?;
    Ok(())
}

fn hall() -> SeatMap {
    let mut seats = Vec::new();
    let mut sections = Vec::new();
    for (section, block) in (0..).zip(&BLOCKS) {
        let before = seats.len();
        let first_row = seats.last().map_or(0, |seat: &Seat| seat.row_no + 1);
        for row in 0..block.rows {
            push_row(&mut seats, block, section, first_row, row);
        }
        sections.push(Section {
            name: block.name.to_owned(),
            kind: SectionKind::Seated,
            price: block.price,
            fee: fee(block.price),
            categories: block.front_price.map(front_rows).into_iter().collect(),
            capacity: (seats.len() - before) as i32,
        });
    }
    sections.push(Section {
        name: "FLOOR".to_owned(),
        kind: SectionKind::GeneralAdmission,
        price: FLOOR_PRICE,
        fee: fee(FLOOR_PRICE),
        categories: Vec::new(),
        capacity: FLOOR_CAPACITY,
    });
    SeatMap::new(sections, seats)
}

/// About ten percent of a price, in whole ten cents.
fn fee(price: i64) -> i64 {
    price / 100 * 10
}

fn front_rows(price: i64) -> Category {
    Category {
        name: "Front rows".to_owned(),
        price,
        fee: fee(price),
    }
}

/// Adds the seats of one row, left to right, on an arc around the stage.
fn push_row(seats: &mut Vec<Seat>, block: &Block, section: i16, first_row: i32, row: u16) {
    let count = block.seats + row / 2;
    let radius = block.distance + f32::from(row) * ROW_STEP;
    for number in 0..count {
        let behind_aisle = block.aisle && number >= count / 2;
        let place = number + u16::from(behind_aisle);
        let places = count + u16::from(block.aisle);
        let from_middle = f32::from(place) - f32::from(places - 1) / 2.0;
        let angle = block.direction.to_radians() + from_middle * SEAT_STEP / radius;
        seats.push(Seat {
            section,
            // The first category is that of the front rows.
            category: (row < FRONT_ROWS && block.front_price.is_some()).then_some(0),
            label: format!("{}{}-{}", block.name, row + 1, number + 1),
            row_no: first_row + i32::from(row),
            row_seat: place as i16,
            // Rows in order, in a row from its middle outwards.
            rank: i32::from(row) * 1_000 + (from_middle.abs() * 2.0) as i32,
            x: to_centimetres(radius * angle.sin()),
            y: to_centimetres(radius * angle.cos()),
        });
    }
}

fn to_centimetres(metres: f32) -> f32 {
    (metres * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_hall_has_about_two_thousand_seats_with_labels_of_their_own() {
        let hall = hall();
        assert!(
            (1_900..=2_200).contains(&hall.seats.len()),
            "{}",
            hall.seats.len()
        );
        let labels: HashSet<_> = hall.seats.iter().map(|seat| &seat.label).collect();
        assert_eq!(labels.len(), hall.seats.len());
    }

    #[test]
    fn no_two_seats_are_in_one_place() {
        let seats = hall().seats;
        for (index, one) in seats.iter().enumerate() {
            for other in &seats[index + 1..] {
                let apart = (one.x - other.x).hypot(one.y - other.y);
                assert!(
                    apart > 0.5,
                    "{} and {} are {apart} m apart",
                    one.label,
                    other.label
                );
            }
        }
    }

    #[test]
    fn the_front_rows_of_the_middle_block_cost_more_and_a_tenth_is_fees() {
        let hall = hall();
        let price = |label| {
            let price = hall.seat_price(hall.find_seat(label).unwrap());
            (price.total, price.fees)
        };
        assert_eq!(price("B3-1"), (12_500, 1_250));
        assert_eq!(price("B4-1"), (9_500, 950));
        assert_eq!(price("A1-1"), (8_500, 850));
    }

    #[test]
    fn the_capacities_are_the_seats() {
        let hall = hall();
        let seated = hall
            .sections
            .iter()
            .filter(|section| section.kind == SectionKind::Seated);
        let capacity: i32 = seated.map(|section| section.capacity).sum();
        assert_eq!(capacity as usize, hall.seats.len());
    }
}
