//! When buyers arrive: the intended starts of an open model, decided before the first one comes.
//!
//! Latencies are counted from these times, so a server that stalls is not spared the buyers who
//! would have come meanwhile (no coordinated omission).

use std::time::Duration;

use clap::ValueEnum;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;

/// How arrivals spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// All at once, when the sale opens.
    Burst,
    /// From none to twice the rate, so that the rate is the mean.
    Ramp,
    /// At the rate, evenly.
    Constant,
    /// At the rate on average, independent of each other.
    Poisson,
}

/// A plan of arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Arrivals {
    pub shape: Shape,
    /// Per second, on average; not used by a burst.
    pub rate: f64,
    pub requests: u64,
}

impl Arrivals {
    /// The intended starts, counted from the beginning, in ascending order. The same seed gives the
    /// same times.
    pub fn starts(self, seed: u64) -> impl Iterator<Item = Duration> {
        let mut dice = SmallRng::seed_from_u64(seed);
        let mut poisson = 0.0;
        (0..self.requests).map(move |index| {
            let seconds = match self.shape {
                Shape::Burst => 0.0,
                Shape::Constant => index as f64 / self.rate,
                Shape::Ramp => self.ramp(index),
                Shape::Poisson => {
                    // Exponential gaps by inversion; 1 - u is never 0.
                    poisson -= (1.0 - dice.random::<f64>()).ln() / self.rate;
                    poisson
                }
            };
            Duration::from_secs_f64(seconds)
        })
    }

    /// How long arrivals come, on average.
    pub fn duration(self) -> Duration {
        match self.shape {
            Shape::Burst => Duration::ZERO,
            _ => Duration::from_secs_f64(self.requests as f64 / self.rate),
        }
    }

    /// With a rate of 2 * r * t / d at time t, r * t^2 / d requests have come by then.
    fn ramp(self, index: u64) -> f64 {
        (index as f64 * self.duration().as_secs_f64() / self.rate).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [Shape; 4] = [Shape::Burst, Shape::Ramp, Shape::Constant, Shape::Poisson];

    fn starts(shape: Shape, seed: u64) -> Vec<f64> {
        let arrivals = Arrivals {
            shape,
            rate: 1000.0,
            requests: 10_000,
        };
        arrivals
            .starts(seed)
            .map(|start| start.as_secs_f64())
            .collect()
    }

    fn between(starts: &[f64], from: f64, to: f64) -> usize {
        starts
            .iter()
            .filter(|start| (from..to).contains(*start))
            .count()
    }

    #[test]
    fn every_shape_has_all_its_requests_in_ascending_order() {
        for shape in SHAPES {
            let starts = starts(shape, 1);
            assert_eq!(starts.len(), 10_000, "{shape:?}");
            assert!(starts.is_sorted(), "{shape:?}");
        }
    }

    #[test]
    fn a_burst_comes_at_once() {
        assert!(starts(Shape::Burst, 1).iter().all(|start| *start == 0.0));
    }

    #[test]
    fn a_constant_rate_is_the_same_in_every_second() {
        let starts = starts(Shape::Constant, 1);
        for second in 0..10 {
            let count = between(&starts, second as f64 - 1e-6, second as f64 + 1.0 - 1e-6);
            assert_eq!(count, 1000);
        }
    }

    #[test]
    fn a_ramp_has_a_quarter_of_its_requests_in_its_first_half() {
        let starts = starts(Shape::Ramp, 1);
        let first_half = between(&starts, 0.0, 5.0);
        assert!((2_490..=2_510).contains(&first_half), "{first_half}");
        assert!(starts[9_999] < 10.0);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_as_their_mean_and_as_their_variance() {
        let starts = starts(Shape::Poisson, 1);
        let counts: Vec<f64> = (0..90)
            .map(|tenth| between(&starts, tenth as f64 * 0.1, tenth as f64 * 0.1 + 0.1) as f64)
            .collect();
        let mean = counts.iter().sum::<f64>() / 90.0;
        let variance = counts
            .iter()
            .map(|count| (count - mean).powi(2))
            .sum::<f64>()
            / 89.0;
        assert!((95.0..105.0).contains(&mean), "mean {mean}");
        assert!((60.0..150.0).contains(&variance), "variance {variance}");
    }

    #[test]
    fn the_same_seed_gives_the_same_times() {
        for shape in SHAPES {
            assert_eq!(starts(shape, 7), starts(shape, 7));
        }
        assert_ne!(starts(Shape::Poisson, 7), starts(Shape::Poisson, 8));
    }
}
