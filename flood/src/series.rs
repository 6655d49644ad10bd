//! The course of a flood over time, for the charts.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::figures::{Latencies, Percentiles, Record};

/// The most points of a chart.
const POINTS_MAX: usize = 240;

/// The narrowest of them.
const POINT_MIN: Duration = Duration::from_millis(100);

/// The course of the flood, in points of `width_s` seconds each.
#[derive(Debug, Default, Serialize)]
pub struct Series {
    pub width_s: f64,
    pub points: Vec<Point>,
}

/// One stretch of time.
#[derive(Debug, Default, Serialize)]
pub struct Point {
    /// Its beginning, from the beginning of the flood.
    pub at_s: f64,
    pub accepted_per_s: f64,
    pub decided_per_s: f64,
    /// Accepted and not decided at its end.
    pub waiting: i64,
    /// Of the 202s that came in it; `None` when none came.
    pub submit_ms: Option<Percentiles>,
    /// Of the outcomes that were told in it.
    pub outcome_ms: Option<Percentiles>,
}

impl Series {
    /// The course of these records until `end`; `began_at` is the beginning on the server's clock.
    pub fn new(records: &[Record], began_at: DateTime<Utc>, end: Duration) -> Series {
        let width = POINT_MIN.max(round_up(end / POINTS_MAX as u32));
        let count = (end.as_nanos() / width.as_nanos()) as usize + 1;
        let index = |at: Duration| ((at.as_nanos() / width.as_nanos()) as usize).min(count - 1);
        let on_our_clock = |at: DateTime<Utc>| {
            (at - began_at)
                .max(TimeDelta::zero())
                .to_std()
                .unwrap_or_default()
        };
        let mut accepted = vec![0_i64; count];
        let mut decided = vec![0_i64; count];
        let mut submit: Vec<Latencies> = Vec::new();
        let mut outcome: Vec<Latencies> = Vec::new();
        submit.resize_with(count, Latencies::default);
        outcome.resize_with(count, Latencies::default);
        for record in records {
            if let Some(at) = record.accepted_at() {
                submit[index(at)].record(at.saturating_sub(record.intended));
            }
            if let Some(told) = &record.outcome {
                outcome[index(told.at)].record(told.at.saturating_sub(record.intended));
                accepted[index(on_our_clock(told.accepted_at))] += 1;
                decided[index(on_our_clock(told.decided_at))] += 1;
            } else if let Some(at) = record.accepted_at() {
                accepted[index(at)] += 1;
            }
        }
        let mut waiting = 0;
        let seconds = width.as_secs_f64();
        let points = (0..count)
            .map(|point| {
                waiting += accepted[point] - decided[point];
                Point {
                    at_s: point as f64 * seconds,
                    accepted_per_s: accepted[point] as f64 / seconds,
                    decided_per_s: decided[point] as f64 / seconds,
                    waiting,
                    submit_ms: (!submit[point].is_empty()).then(|| submit[point].percentiles()),
                    outcome_ms: (!outcome[point].is_empty()).then(|| outcome[point].percentiles()),
                }
            })
            .collect();
        Series {
            width_s: seconds,
            points,
        }
    }
}

/// To a multiple of the narrowest width.
fn round_up(width: Duration) -> Duration {
    let step = POINT_MIN.as_nanos();
    POINT_MIN * (width.as_nanos().div_ceil(step)).max(1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::summary;

    #[test]
    fn the_points_of_the_series_sum_up_to_the_totals() {
        let series = summary().series;
        let sum = |of: fn(&Point) -> f64| -> f64 {
            series
                .points
                .iter()
                .map(|point| of(point) * series.width_s)
                .sum()
        };
        assert!((sum(|point| point.accepted_per_s) - 1000.0).abs() < 1e-6);
        assert!((sum(|point| point.decided_per_s) - 1000.0).abs() < 1e-6);
        assert_eq!(series.points.last().map(|point| point.waiting), Some(0));
        assert!(series.points.len() <= POINTS_MAX + 1);
    }
}
