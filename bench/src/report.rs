//! The figures as a table and as JSON.

use serde::Serialize;

use crate::figures::{LatencySummary, Summary};

/// All that was measured. `ratio` is the product's rate by the bare limit's.
#[derive(Debug, Serialize)]
pub struct Report {
    /// HTTP to durable 202, everything on; limit: a bare HTTP server that commits the same rows.
    pub accept: Summary,
    pub accept_ms: LatencySummary,
    pub accept_alone_ms: LatencySummary,
    /// Turns over a log of named seats, ten requests a seat; limit: the same rows without rules.
    pub decide: Summary,
    /// The same when next to nothing is left.
    pub decide_sold_out: Summary,
    /// Best available in sections of 2,000 seats, until all are sold.
    pub best_available: Summary,
    /// Long-polls woken and answered.
    pub answer: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_short: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_long: Option<Summary>,
}

impl Report {
    /// One line a figure, in the form of a Markdown table.
    pub fn table(&self) -> String {
        let mut table =
            String::from("| per second | product | bare limit | ratio |\n|---|---:|---:|---:|\n");
        let rows = [
            ("accept: HTTP to durable 202", Some(&self.accept)),
            (
                "decide: named seats, ten requests a seat",
                Some(&self.decide),
            ),
            ("decide: sold out", Some(&self.decide_sold_out)),
            (
                "decide: best available, all met",
                Some(&self.best_available),
            ),
            (
                "decide: a tenth of the backlog",
                self.backlog_short.as_ref(),
            ),
            ("decide: ten times the backlog", self.backlog_long.as_ref()),
            ("answer: long-polls woken", Some(&self.answer)),
        ];
        for (name, summary) in rows {
            if let Some(summary) = summary {
                table.push_str(&row(name, summary));
            }
        }
        let (many, alone) = (&self.accept_ms, &self.accept_alone_ms);
        table.push_str(&format!(
            "\naccept, in ms: p50 {:.1}, p99 {:.1}, max {:.1} at {} connections; p50 {:.1}, p99 {:.1} alone\n",
            many.p50,
            many.p99,
            many.max,
            crate::accept::CONNECTIONS,
            alone.p50,
            alone.p99
        ));
        table
    }
}

fn row(name: &str, summary: &Summary) -> String {
    let limit = summary.limit_per_s.map_or_else(String::new, thousands);
    let ratio = summary
        .ratio
        .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    format!(
        "| {name} | {} | {limit} | {ratio} |\n",
        thousands(summary.per_s)
    )
}

/// Such as `12,345`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(thousands(0.4), "0");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(1_234_567.8), "1,234,568");
    }
}
