//! The hall that a flood is about: what it creates for itself.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Seats of a row of the flood's own hall; an aisle is in its middle.
const ROW_SEATS: usize = 20;

/// The seat of a row that has the aisle before it.
pub const AISLE_BEFORE: usize = ROW_SEATS / 2;

/// What the flood's own show is like.
#[derive(Debug, Clone, Serialize)]
pub struct HallPlan {
    /// Numbered seats, spread over the sections.
    pub seats: usize,
    pub sections: usize,
    /// Places of the general-admission section.
    pub floor: u32,
    pub buyer_limit: u32,
    pub hold_seconds: u32,
    pub queue_limit: u32,
}

/// What buyers know of a show: names and labels.
#[derive(Debug, Clone)]
pub struct Hall {
    /// Of seats, the best first.
    pub sections: Vec<Section>,
    /// General admission.
    pub floor: Option<Floor>,
    pub buyer_limit: u32,
}

#[derive(Debug, Clone)]
pub struct Section {
    pub name: String,
    pub price: i64,
    /// The price of the first row, where it has one of its own.
    pub front_price: Option<i64>,
    /// Labels, row by row.
    pub rows: Vec<Vec<String>>,
}

impl Section {
    /// What a seat of a row costs.
    pub fn price_of(&self, row: usize) -> i64 {
        match self.front_price {
            Some(price) if row == 0 => price,
            _ => self.price,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Floor {
    pub name: String,
    pub price: i64,
}

/// Of all prices.
pub const CURRENCY: &str = "EUR";

/// The category of the first section's first row.
const FRONT: &str = "Front row";
const FRONT_SURCHARGE: i64 = 3_000;

impl Hall {
    pub fn new(plan: &HallPlan) -> anyhow::Result<Hall> {
        ensure!(
            plan.seats > 0 || plan.floor > 0,
            "a hall needs seats or a floor"
        );
        ensure!(plan.sections <= 200, "at most 200 sections");
        let sections = if plan.seats == 0 {
            0
        } else {
            plan.sections.clamp(1, plan.seats)
        };
        let sections: Vec<Section> = (0..sections)
            .map(|index| {
                // The remainder goes to the first sections.
                let seats = plan.seats / sections + usize::from(index < plan.seats % sections);
                section(index, seats)
            })
            .collect();
        let floor = (plan.floor > 0).then(|| Floor {
            name: "FLOOR".to_owned(),
            price: 4500,
        });
        Ok(Hall {
            sections,
            floor,
            buyer_limit: plan.buyer_limit,
        })
    }

    /// The body that creates the show; `paid`: what costs something is paid.
    pub fn creation(&self, plan: &HallPlan, paid: bool) -> Value {
        let policy = if paid { "required" } else { "complimentary" };
        let mut sections = Vec::new();
        for (index, section) in self.sections.iter().enumerate() {
            let rows: Vec<Value> = section
                .rows
                .iter()
                .enumerate()
                .map(|(row, labels)| {
                    let front = (row == 0 && section.front_price.is_some()).then_some(FRONT);
                    row_json(index, row, labels, front)
                })
                .collect();
            let front = section.front_price.map(
                |price| json!({ "name": FRONT, "price": money(price), "fee": money(fee(price)) }),
            );
            sections.push(json!({
                "name": section.name, "kind": "seated", "price": money(section.price),
                "fee": money(fee(section.price)), "categories": Vec::from_iter(front), "rows": rows,
            }));
        }
        if let Some(floor) = &self.floor {
            sections.push(json!({
                "name": floor.name, "kind": "general_admission", "price": money(floor.price),
                "fee": money(fee(floor.price)), "capacity": plan.floor,
            }));
        }
        json!({
            "name": "Flood", "currency": CURRENCY, "buyer_limit": plan.buyer_limit,
            "hold_seconds": plan.hold_seconds, "queue_limit": plan.queue_limit,
            "payment_policy": policy, "opens_at": null, "closes_at": null, "sections": sections,
        })
    }

    /// How many numbered seats there are.
    pub fn seats(&self) -> usize {
        self.sections
            .iter()
            .flat_map(|section| &section.rows)
            .map(Vec::len)
            .sum()
    }
}

fn section(index: usize, seats: usize) -> Section {
    let name = section_name(index);
    let labels: Vec<String> = (0..seats)
        .map(|seat| format!("{name}{}-{}", seat / ROW_SEATS + 1, seat % ROW_SEATS + 1))
        .collect();
    let rows = labels.chunks(ROW_SEATS).map(<[String]>::to_vec).collect();
    // The first section is the dearest, and its first row more so.
    let price = (9_500 - 500 * index as i64).max(2_500);
    Section {
        name,
        price,
        front_price: (index == 0).then_some(price + FRONT_SURCHARGE),
        rows,
    }
}

/// The part of a price that is fees.
fn fee(price: i64) -> i64 {
    price / 10
}

/// A, B, … Z, AA, AB, …
fn section_name(index: usize) -> String {
    let letter = char::from(b'A' + (index % 26) as u8);
    match index / 26 {
        0 => letter.to_string(),
        more => format!("{}{letter}", section_name(more - 1)),
    }
}

fn row_json(section: usize, row: usize, labels: &[String], category: Option<&str>) -> Value {
    let mut seats: Vec<Value> = Vec::with_capacity(labels.len() + 1);
    for (seat, label) in labels.iter().enumerate() {
        if seat == AISLE_BEFORE {
            seats.push(Value::Null);
        }
        let x = seat as f64 + if seat >= AISLE_BEFORE { 1.0 } else { 0.0 };
        seats.push(json!({
            "label": label, "category": category, "x": x + 24.0 * section as f64, "y": row as f64,
        }));
    }
    json!({ "seats": seats })
}

fn money(amount: i64) -> Value {
    json!({ "amount": amount, "currency": CURRENCY })
}

/// The part of the created show that the flood reads.
#[derive(Debug, Deserialize)]
pub struct CreatedShow {
    pub id: uuid::Uuid,
}

/// Reads the answer to the creation.
pub fn created(body: &[u8]) -> anyhow::Result<CreatedShow> {
    serde_json::from_slice(body).context("reading the created show")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(seats: usize, sections: usize, floor: u32) -> HallPlan {
        HallPlan {
            seats,
            sections,
            floor,
            buyer_limit: 8,
            hold_seconds: 600,
            queue_limit: 1000,
        }
    }

    #[test]
    fn a_hall_has_the_seats_that_were_asked_for_each_with_its_own_label() {
        for (seats, sections) in [(2000, 4), (7, 3), (1, 5), (2001, 30)] {
            let hall = Hall::new(&plan(seats, sections, 0)).unwrap();
            let labels: HashSet<&String> = hall
                .sections
                .iter()
                .flat_map(|section| section.rows.iter().flatten())
                .collect();
            assert_eq!((hall.seats(), labels.len()), (seats, seats));
        }
    }

    #[test]
    fn a_hall_of_nothing_is_refused() {
        assert!(Hall::new(&plan(0, 4, 0)).is_err());
    }

    #[test]
    fn a_row_has_its_aisle_in_the_middle() {
        let plan = plan(20, 1, 5);
        let show = Hall::new(&plan).unwrap().creation(&plan, true);
        let seats = show["sections"][0]["rows"][0]["seats"].as_array().unwrap();
        assert_eq!(seats.len(), 21);
        assert!(seats[10].is_null());
        assert_eq!(show["sections"][1]["capacity"], 5);
    }

    #[test]
    fn the_first_row_of_the_first_section_has_a_price_of_its_own() {
        let plan = plan(80, 2, 5);
        let hall = Hall::new(&plan).unwrap();
        let prices = |section: usize| [0, 1].map(|row| hall.sections[section].price_of(row));
        assert_eq!((prices(0), prices(1)), ([12_500, 9_500], [9_000, 9_000]));
        let show = hall.creation(&plan, true);
        let category = |row: usize| &show["sections"][0]["rows"][row]["seats"][0]["category"];
        assert_eq!((category(0), category(1)), (&json!(FRONT), &Value::Null));
        assert_eq!(show["sections"][0]["categories"][0]["fee"]["amount"], 1_250);
        assert_eq!(show["sections"][1]["categories"], json!([]));
    }
}
