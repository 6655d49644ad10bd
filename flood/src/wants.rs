//! What a buyer wants and does: drawn from the seed and the buyer's number alone, so that a flood
//! can be repeated whatever the server's timing was.

use std::str::FromStr;

use clap::ValueEnum;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    hall::Hall,
    pay::{PayHabits, Paying},
    wish::Wish,
};

/// Shares of the first wishes' kinds; any unit, only their proportions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mix {
    pub seats: u32,
    pub best: u32,
    pub general: u32,
}

impl FromStr for Mix {
    type Err = String;

    /// Such as `seats=60,best=30,general=10`; what is not named is 0.
    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Mix {
            seats: 0,
            best: 0,
            general: 0,
        };
        for part in text.split(',') {
            let (kind, share) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not of the form kind=share"))?;
            let share = share
                .trim()
                .parse()
                .map_err(|_| format!("`{share}` is not a share"))?;
            match kind.trim() {
                "seats" => mix.seats = share,
                "best" => mix.best = share,
                "general" => mix.general = share,
                other => return Err(format!("`{other}` is none of seats, best, general")),
            }
        }
        if mix
            .seats
            .saturating_add(mix.best)
            .saturating_add(mix.general)
            == 0
        {
            return Err("all shares are 0".to_owned());
        }
        Ok(mix)
    }
}

/// When buyers ask for their outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// As soon as they are accepted.
    AtOnce,
    /// When everybody has submitted.
    Later,
}

/// What buyers are like. Shares are between 0 and 1.
#[derive(Debug, Clone, Serialize)]
pub struct Habits {
    pub mix: Mix,
    /// Who names a second choice.
    pub fallback: f64,
    /// How much named seats crowd at the front: 0 is evenly, 3 is three quarters on the best third.
    pub heat: f64,
    /// Who would not pay the full price.
    pub stingy: f64,
    /// Who asks again although they asked before.
    pub returning: f64,
    /// Who sends the request twice, with the same key.
    pub replay: f64,
    pub ask: Ask,
    /// Who leaves the line right after the acceptance.
    pub leave: f64,
    /// Of those who won a hold: who pays for it, and who cancels it. The rest let it expire.
    pub confirm: f64,
    pub cancel: f64,
    /// `None`: there is nothing to pay.
    pub pay: Option<PayHabits>,
}

/// What a buyer does with a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Confirm,
    Cancel,
    Abandon,
}

/// One buyer's plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Want {
    /// The number of the buyer: that of the request, or a smaller one for who asks again.
    pub buyer: u64,
    pub wishes: Vec<Wish>,
    pub max_total: Option<i64>,
    pub replay: bool,
    pub leave: bool,
    pub then: Then,
    /// How they pay; `None`: there is nothing to pay.
    pub paying: Option<Paying>,
}

impl Want {
    /// The plan of the request with this number.
    pub fn draw(seed: u64, index: u64, habits: &Habits, hall: &Hall) -> Want {
        // Numbers next to each other must not give similar dice; the multiplier is that of splitmix64.
        let mut dice =
            SmallRng::seed_from_u64(seed ^ (index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let buyer = match index {
            1.. if dice.random_bool(habits.returning) => dice.random_range(0..index),
            _ => index,
        };
        let quantity = quantity(&mut dice, hall.buyer_limit);
        let first = first_wish(&mut dice, habits, hall, quantity);
        let mut wishes = vec![first];
        if dice.random_bool(habits.fallback) {
            wishes.extend(second_wish(&wishes[0], hall, quantity));
        }
        let max_total = dice
            .random_bool(habits.stingy)
            .then(|| wishes[0].price(hall) - 1)
            .filter(|max| *max > 0);
        let then = dice.random::<f64>();
        let then = if then < habits.confirm {
            Then::Confirm
        } else if then < habits.confirm + habits.cancel {
            Then::Cancel
        } else {
            Then::Abandon
        };
        let replay = dice.random_bool(habits.replay);
        let leave = dice.random_bool(habits.leave);
        let pay = habits.pay.as_ref();
        let paying = pay.map(|habits| Paying::draw(&mut dice, habits));
        Want {
            buyer,
            wishes,
            max_total,
            replay,
            leave,
            then,
            paying,
        }
    }

    /// The body of the submission.
    pub fn body(&self, hall: &Hall) -> Vec<u8> {
        let wishes: Vec<Value> = self.wishes.iter().map(|wish| wish.json(hall)).collect();
        let mut body = json!({ "wishes": wishes });
        if let Some(amount) = self.max_total {
            body["max_total"] = json!({ "amount": amount, "currency": crate::hall::CURRENCY });
        }
        body.to_string().into_bytes()
    }

    /// Whether a hold of these seats, or of so many places of that section, is what was asked for.
    pub fn is_met_by(
        &self,
        hall: &Hall,
        section: Option<&str>,
        seats: &[String],
        quantity: usize,
    ) -> bool {
        self.wishes
            .iter()
            .any(|wish| wish.is_met_by(hall, section, seats, quantity))
    }
}

/// Mostly pairs, as at a real box office.
fn quantity(dice: &mut SmallRng, limit: u32) -> usize {
    let quantity = match dice.random_range(0..100) {
        0..25 => 1,
        25..70 => 2,
        70..85 => 3,
        _ => 4,
    };
    quantity.min(limit.max(1) as usize)
}

fn first_wish(dice: &mut SmallRng, habits: &Habits, hall: &Hall, quantity: usize) -> Wish {
    let Mix {
        seats,
        best,
        general,
    } = habits.mix;
    let (seats, best) = if hall.sections.is_empty() {
        (0, 0)
    } else {
        (seats, best)
    };
    let general = if hall.floor.is_none() { 0 } else { general };
    let total = seats + best + general;
    let drawn = if total == 0 {
        0
    } else {
        dice.random_range(0..total)
    };
    if drawn < seats {
        named_seats(dice, habits, hall, quantity)
    } else if drawn < seats + best || (general == 0 && !hall.sections.is_empty()) {
        let section = dice.random_range(0..hall.sections.len());
        Wish::Best {
            section,
            quantity,
            adjacent: dice.random_bool(0.5),
        }
    } else {
        Wish::General { quantity }
    }
}

/// Neighbouring seats of one row; the front rows are hot.
fn named_seats(dice: &mut SmallRng, habits: &Habits, hall: &Hall, quantity: usize) -> Wish {
    let section = dice.random_range(0..hall.sections.len());
    let rows = &hall.sections[section].rows;
    // A power of an even number crowds at 0.
    let row = (dice.random::<f64>().powf(1.0 + habits.heat) * rows.len() as f64) as usize;
    let row = row.min(rows.len() - 1);
    let quantity = quantity.min(rows[row].len());
    let first = dice.random_range(0..=rows[row].len() - quantity);
    Wish::Seats {
        section,
        row,
        first,
        quantity,
    }
}

/// Named seats fall back to any of their section, those to the floor.
fn second_wish(first: &Wish, hall: &Hall, quantity: usize) -> Option<Wish> {
    match first {
        Wish::Seats { section, .. } => Some(Wish::Best {
            section: *section,
            quantity,
            adjacent: false,
        }),
        Wish::Best { .. } => hall.floor.as_ref().map(|_| Wish::General { quantity }),
        Wish::General { .. } => (!hall.sections.is_empty()).then_some(Wish::Best {
            section: 0,
            quantity,
            adjacent: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hall::HallPlan;

    fn hall(seats: usize, floor: u32) -> Hall {
        let plan = HallPlan {
            seats,
            sections: 3,
            floor,
            buyer_limit: 8,
            hold_seconds: 600,
            queue_limit: 1000,
        };
        Hall::new(&plan).unwrap()
    }

    fn habits() -> Habits {
        Habits {
            mix: Mix {
                seats: 60,
                best: 30,
                general: 10,
            },
            fallback: 0.4,
            heat: 2.0,
            stingy: 0.02,
            returning: 0.1,
            replay: 0.01,
            ask: Ask::AtOnce,
            leave: 0.01,
            confirm: 0.7,
            cancel: 0.1,
            pay: Some(PayHabits {
                declines: 0.05,
                hangs: 0.01,
                abandons: 0.02,
                odd: 0.02,
            }),
        }
    }

    fn draw(seed: u64, hall: &Hall) -> Vec<Want> {
        (0..10_000)
            .map(|index| Want::draw(seed, index, &habits(), hall))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_wants() {
        let hall = hall(2000, 600);
        assert_eq!(draw(1, &hall), draw(1, &hall));
        assert_ne!(draw(1, &hall), draw(2, &hall));
    }

    #[test]
    fn what_buyers_want_is_the_same_whether_or_not_they_pay() {
        let hall = hall(2000, 600);
        let free = Habits {
            pay: None,
            ..habits()
        };
        for index in 0..100 {
            let paid = Want::draw(1, index, &habits(), &hall);
            let free = Want::draw(1, index, &free, &hall);
            assert!(paid.paying.is_some() && free.paying.is_none());
            assert_eq!(
                Want {
                    paying: None,
                    ..paid
                },
                free
            );
        }
    }

    #[test]
    fn the_mix_is_that_of_the_habits() {
        let wants = draw(1, &hall(2000, 600));
        let share = |kind: fn(&Wish) -> bool| {
            wants.iter().filter(|want| kind(&want.wishes[0])).count() as f64 / 10_000.0
        };
        assert!((share(|wish| matches!(wish, Wish::Seats { .. })) - 0.6).abs() < 0.02);
        assert!((share(|wish| matches!(wish, Wish::Best { .. })) - 0.3).abs() < 0.02);
        assert!((share(|wish| matches!(wish, Wish::General { .. })) - 0.1).abs() < 0.02);
        let confirming = wants
            .iter()
            .filter(|want| want.then == Then::Confirm)
            .count();
        assert!((6_800..7_200).contains(&confirming), "{confirming}");
    }

    #[test]
    fn heat_crowds_the_front_rows() {
        let wants = draw(1, &hall(2000, 0));
        let (mut front, mut named) = (0, 0);
        for want in &wants {
            if let Wish::Seats { row, .. } = want.wishes[0] {
                named += 1;
                front += usize::from(row < 11);
            }
        }
        assert!(
            front * 3 > named * 2,
            "{front} of {named} in the first third"
        );
    }

    #[test]
    fn a_hall_without_seats_or_without_a_floor_is_only_asked_for_what_it_has() {
        for want in draw(1, &hall(0, 10)) {
            assert!(
                want.wishes
                    .iter()
                    .all(|wish| matches!(wish, Wish::General { .. }))
            );
        }
        for want in draw(1, &hall(10, 0)) {
            assert!(
                !want
                    .wishes
                    .iter()
                    .any(|wish| matches!(wish, Wish::General { .. }))
            );
        }
    }

    #[test]
    fn a_mix_is_read_as_it_is_written() {
        assert_eq!(
            "best=1".parse(),
            Ok(Mix {
                seats: 0,
                best: 1,
                general: 0
            })
        );
        assert!("seats".parse::<Mix>().is_err());
        assert!("seats=0".parse::<Mix>().is_err());
        assert!("chairs=1".parse::<Mix>().is_err());
    }
}
