//! A wish: what it looks like in a body, what it costs, and whether a hold meets it.

use serde_json::{Value, json};

use crate::hall::{AISLE_BEFORE, Hall};

/// A wish with what must be true of a hold that meets it.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Indices of a section, a row and the first seat in it, and how many.
    Seats {
        section: usize,
        row: usize,
        first: usize,
        quantity: usize,
    },
    Best {
        section: usize,
        quantity: usize,
        adjacent: bool,
    },
    General {
        quantity: usize,
    },
}

impl Wish {
    pub fn json(&self, hall: &Hall) -> Value {
        match self {
            Wish::Seats { .. } => json!({ "kind": "seats", "seats": self.labels(hall) }),
            Wish::Best {
                section,
                quantity,
                adjacent,
            } => json!({
                "kind": "best_available", "section": hall.sections[*section].name, "quantity": quantity,
                "adjacent": if *adjacent { "required" } else { "preferred" },
            }),
            Wish::General { quantity } => json!({
                "kind": "general_admission", "section": floor_name(hall), "quantity": quantity,
            }),
        }
    }

    fn labels<'a>(&self, hall: &'a Hall) -> &'a [String] {
        match self {
            Wish::Seats {
                section,
                row,
                first,
                quantity,
            } => &hall.sections[*section].rows[*row][*first..*first + *quantity],
            _ => &[],
        }
    }

    /// What it costs in all, if it gets the dearest seats that it may get.
    pub fn price(&self, hall: &Hall) -> i64 {
        match self {
            Wish::Seats {
                section,
                row,
                quantity,
                ..
            } => hall.sections[*section].price_of(*row) * *quantity as i64,
            Wish::Best {
                section, quantity, ..
            } => hall.sections[*section].price_of(0) * *quantity as i64,
            Wish::General { quantity } => {
                hall.floor.as_ref().map_or(0, |floor| floor.price) * *quantity as i64
            }
        }
    }

    /// Whether a hold of these seats, or of so many places of that section, is what it asks for.
    pub fn is_met_by(
        &self,
        hall: &Hall,
        section: Option<&str>,
        seats: &[String],
        quantity: usize,
    ) -> bool {
        match self {
            Wish::Seats { .. } => {
                let wanted = self.labels(hall);
                seats.len() == wanted.len() && wanted.iter().all(|label| seats.contains(label))
            }
            Wish::Best {
                section,
                quantity,
                adjacent,
            } => {
                let rows = &hall.sections[*section].rows;
                let place = |label: &String| {
                    rows.iter().enumerate().find_map(|(row, labels)| {
                        Some((row, labels.iter().position(|other| other == label)?))
                    })
                };
                let mut places: Vec<(usize, usize)> = seats.iter().filter_map(place).collect();
                places.sort_unstable();
                let neighbours = places.windows(2).all(|pair| {
                    pair[0].0 == pair[1].0
                        && pair[0].1 + 1 == pair[1].1
                        && pair[1].1 != AISLE_BEFORE
                });
                seats.len() == *quantity && places.len() == *quantity && (!adjacent || neighbours)
            }
            Wish::General { quantity: wanted } => {
                seats.is_empty() && quantity == *wanted && section == Some(floor_name(hall))
            }
        }
    }
}

fn floor_name(hall: &Hall) -> &str {
    hall.floor.as_ref().map_or("", |floor| &floor.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hall::HallPlan;

    #[test]
    fn a_hold_is_known_to_meet_a_wish_or_not() {
        let plan = HallPlan {
            seats: 60,
            sections: 3,
            floor: 10,
            buyer_limit: 8,
            hold_seconds: 600,
            queue_limit: 1000,
        };
        let hall = Hall::new(&plan).unwrap();
        let row = &hall.sections[1].rows[0];
        let seats = |from: usize, to: usize| row[from..to].to_vec();
        let named = Wish::Seats {
            section: 1,
            row: 0,
            first: 2,
            quantity: 2,
        };
        assert!(named.is_met_by(&hall, None, &seats(2, 4), 2));
        assert!(!named.is_met_by(&hall, None, &seats(3, 5), 2));
        let best = Wish::Best {
            section: 1,
            quantity: 2,
            adjacent: true,
        };
        assert!(best.is_met_by(&hall, None, &seats(4, 6), 2));
        assert!(!best.is_met_by(&hall, None, &seats(4, 7), 3));
        assert!(
            !best.is_met_by(&hall, None, &seats(9, 11), 2),
            "the aisle is between them"
        );
        assert!(!best.is_met_by(&hall, None, &[row[0].clone(), row[5].clone()], 2));
        assert_eq!(named.price(&hall), 2 * hall.sections[1].price);
        let front = Wish::Best {
            section: 0,
            quantity: 2,
            adjacent: false,
        };
        assert_eq!(front.price(&hall), 2 * 12_500);
        let general = Wish::General { quantity: 3 };
        assert!(general.is_met_by(&hall, Some("FLOOR"), &[], 3));
        assert!(!general.is_met_by(&hall, Some("A"), &[], 3));
    }
}
