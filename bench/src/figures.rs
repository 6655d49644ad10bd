//! What was measured: medians over rounds, and ratios within one run.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// The product's rate, and the bare limit beside it where there is one.
#[derive(Debug, Default)]
pub struct Figure {
    rates: Vec<f64>,
    limits: Vec<f64>,
}

/// A figure as it is reported.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

impl Figure {
    /// A round of the product.
    pub fn add(&mut self, per_s: f64) {
        self.rates.push(per_s);
    }

    /// A round of the bare limit.
    pub fn add_limit(&mut self, per_s: f64) {
        self.limits.push(per_s);
    }

    /// The medians of all rounds.
    pub fn summary(&self) -> Summary {
        let per_s = median(&self.rates).unwrap_or(0.0);
        let limit_per_s = median(&self.limits);
        Summary {
            per_s,
            limit_per_s,
            ratio: limit_per_s.map(|limit| per_s / limit),
        }
    }
}

/// Latencies, to three digits.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new(3).expect("three digits are a valid precision"))
    }
}

/// Latencies as they are reported, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct LatencySummary {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latencies {
    pub fn record(&mut self, latency: Duration) -> Result<()> {
        Ok(self.0.record(latency.as_micros() as u64)?)
    }

    pub fn add(&mut self, other: &Latencies) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn summary(&self) -> LatencySummary {
        let ms = |micros: u64| micros as f64 / 1000.0;
        LatencySummary {
            p50: ms(self.0.value_at_quantile(0.5)),
            p99: ms(self.0.value_at_quantile(0.99)),
            max: ms(self.0.max()),
        }
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let mut figure = Figure::default();
        for per_s in [1.0, 30.0, 20.0] {
            figure.add(per_s);
            figure.add_limit(per_s * 2.0);
        }
        let summary = figure.summary();
        assert_eq!((summary.per_s, summary.limit_per_s), (20.0, Some(40.0)));
        assert_eq!(summary.ratio, Some(0.5));
        assert_eq!(Figure::default().summary().ratio, None);
    }
}
