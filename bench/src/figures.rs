//! What was measured: medians over rounds, and ratios within one run.

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
