//! How buyers pay: the shares of what goes wrong, and the card that each has.
//!
//! The cards are those of the simulated gateway (`stampede gateway`), which shows them at its address.

use clap::Args;
use rand::{Rng, rngs::SmallRng};
use serde::Serialize;

use crate::args::share;

#[derive(Debug, Clone, Args)]
pub struct PayArgs {
    /// Nobody pays: the show is complimentary, to measure the queue alone
    #[arg(long, env = "STAMPEDE_FLOOD_FREE")]
    pub free: bool,

    /// Share of payments with a card that is declined; half of these buyers then pay with another one,
    /// the others abandon the hold
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_PAY_DECLINES",
        value_name = "SHARE",
        default_value_t = 0.05
    )]
    #[arg(value_parser = share)]
    pub pay_declines: f64,

    /// Share of payments at which the gateway hangs, or says 500 after the effect
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_PAY_HANGS",
        value_name = "SHARE",
        default_value_t = 0.01
    )]
    #[arg(value_parser = share)]
    pub pay_hangs: f64,

    /// Share of payments that are never finished: half need a further step that the buyer does not take,
    /// in the others the buyer goes away in the middle of the call
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_PAY_ABANDONS",
        value_name = "SHARE",
        default_value_t = 0.02
    )]
    #[arg(value_parser = share)]
    pub pay_abandons: f64,

    /// Share of payments with an odd card: the gateway forgets keys, takes the money at once, or sends
    /// callbacks twice, late, newest first, with forged ones, or never
    #[arg(
        long,
        env = "STAMPEDE_FLOOD_PAY_ODD",
        value_name = "SHARE",
        default_value_t = 0.02
    )]
    #[arg(value_parser = share)]
    pub pay_odd: f64,

    /// With --target: the simulated gateway that the server uses, where buyers get their payment methods
    /// [default: none, the show is complimentary]
    #[arg(long, env = "STAMPEDE_GATEWAY_URL", value_name = "URL")]
    pub gateway_url: Option<String>,

    /// With --gateway-url: its secret key, to compare its ledger with what buyers were told and with the
    /// rows
    #[arg(
        long,
        env = "STAMPEDE_GATEWAY_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub gateway_key: Option<String>,
}

/// The shares of payments that go wrong, between 0 and 1.
#[derive(Debug, Clone, Serialize)]
pub struct PayHabits {
    pub declines: f64,
    pub hangs: f64,
    pub abandons: f64,
    pub odd: f64,
}

/// How a buyer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paying {
    /// The card is accepted; it may be an odd one.
    Well { card: &'static str },
    /// The card is declined, and then another is tried, or not.
    Declined { again: bool },
    /// The gateway gives no clear answer to the first call of a step.
    Hangs { card: &'static str },
    /// The buyer does not take the further step.
    StepLeft,
    /// The buyer goes away so long after the call began.
    GoesAway { after_ms: u64 },
}

pub const GOOD_CARD: &str = "4242424242424242";
const DECLINED_CARD: &str = "4000000000000002";
const STEP_CARD: &str = "4000002500003155";

/// Authorize and capture: hang without effect, hang after it, 500 after it; captured at once, and then
/// a hang.
const HANGING_CARDS: [&str; 7] = [
    "4000000000010101",
    "4000000000010102",
    "4000000000010104",
    "4000000000010201",
    "4000000000010202",
    "4000000000010204",
    "4000000000010602",
];

/// Keys are forgotten, captured at once, and every manner of callbacks.
const ODD_CARDS: [&str; 8] = [
    "4000000000010501",
    "4000000000010601",
    "4000000000010701",
    "4000000000010702",
    "4000000000010703",
    "4000000000010704",
    "4000000000010705",
    "4000000000010706",
];

/// A payment through the API takes a few milliseconds, so some go away before its end and some after.
const GONE_WITHIN_MS: u64 = 30;

impl Paying {
    pub fn draw(dice: &mut SmallRng, habits: &PayHabits) -> Paying {
        // All dice are thrown whatever comes of the first, so that shares do not change the rest.
        let drawn = dice.random::<f64>();
        let half = dice.random_bool(0.5);
        let any = dice.random::<u32>() as usize;
        let after_ms = dice.random_range(0..GONE_WITHIN_MS);
        let shares = [habits.declines, habits.hangs, habits.abandons, habits.odd];
        let mut below = 0.0;
        let kind = shares.iter().position(|share| {
            below += share;
            drawn < below
        });
        match kind {
            None => Paying::Well { card: GOOD_CARD },
            Some(0) => Paying::Declined { again: half },
            Some(1) => Paying::Hangs {
                card: HANGING_CARDS[any % HANGING_CARDS.len()],
            },
            Some(2) if half => Paying::StepLeft,
            Some(2) => Paying::GoesAway { after_ms },
            Some(_) => Paying::Well {
                card: ODD_CARDS[any % ODD_CARDS.len()],
            },
        }
    }

    /// The card that is tried first.
    pub fn card(self) -> &'static str {
        match self {
            Paying::Well { card } | Paying::Hangs { card } => card,
            Paying::Declined { .. } => DECLINED_CARD,
            Paying::StepLeft => STEP_CARD,
            Paying::GoesAway { .. } => GOOD_CARD,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn draw(habits: &PayHabits) -> Vec<Paying> {
        let mut dice = SmallRng::seed_from_u64(1);
        (0..10_000)
            .map(|_| Paying::draw(&mut dice, habits))
            .collect()
    }

    #[test]
    fn the_shares_are_those_of_the_habits() {
        let habits = PayHabits {
            declines: 0.2,
            hangs: 0.1,
            abandons: 0.3,
            odd: 0.05,
        };
        let drawn = draw(&habits);
        let share = |is: fn(&Paying) -> bool| {
            drawn.iter().filter(|paying| is(paying)).count() as f64 / 10_000.0
        };
        let well = |paying: &Paying| *paying == Paying::Well { card: GOOD_CARD };
        for (found, expected) in [
            (share(|it| matches!(it, Paying::Declined { .. })), 0.2),
            (share(|it| *it == Paying::Declined { again: true }), 0.1),
            (share(|it| matches!(it, Paying::Hangs { .. })), 0.1),
            (share(|it| *it == Paying::StepLeft), 0.15),
            (share(|it| matches!(it, Paying::GoesAway { .. })), 0.15),
            (share(|it| matches!(it, Paying::Well { .. })), 0.4),
            (
                drawn.iter().filter(|it| well(it)).count() as f64 / 10_000.0,
                0.35,
            ),
        ] {
            assert!((found - expected).abs() < 0.02, "{found}, not {expected}");
        }
    }

    #[test]
    fn every_trouble_and_every_odd_card_comes_up() {
        let habits = PayHabits {
            declines: 0.0,
            hangs: 0.5,
            abandons: 0.0,
            odd: 0.5,
        };
        let mut cards: Vec<&str> = draw(&habits).into_iter().map(Paying::card).collect();
        cards.sort_unstable();
        cards.dedup();
        assert_eq!(cards.len(), HANGING_CARDS.len() + ODD_CARDS.len());
    }
}
