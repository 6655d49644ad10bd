//! The figures as a table and as JSON.

use serde::Serialize;

use crate::figures::{LatencySummary, Summary};

/// All that was measured. `ratio` is the product's rate by the bare limit's.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// HTTP to durable 202, everything on; limit: a bare HTTP server that commits the same rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<Summary>,
    /// With all connections busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_ms: Option<LatencySummary>,
    /// One client alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_alone_ms: Option<LatencySummary>,
    /// Turns over a log of named seats, ten requests a seat; limit: the same rows without rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decide: Option<Summary>,
    /// The same when next to nothing is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decide_sold_out: Option<Summary>,
    /// Best available in sections of 2,000 seats, until all are sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_available: Option<Summary>,
    /// Long-polls woken and answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Summary>,
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
            ("accept: HTTP to durable 202", &self.accept),
            ("decide: named seats, ten requests a seat", &self.decide),
            ("decide: sold out", &self.decide_sold_out),
            ("decide: best available, all met", &self.best_available),
            ("decide: sold out, a tenth of the line", &self.backlog_short),
            ("decide: sold out, ten times the line", &self.backlog_long),
            ("answer: long-polls woken", &self.answer),
        ];
        for (name, summary) in rows {
            if let Some(summary) = summary {
                table.push_str(&row(name, summary));
            }
        }
        let latencies = [
            (
                format!("at {} connections", crate::accept::CONNECTIONS),
                &self.accept_ms,
            ),
            ("alone".to_owned(), &self.accept_alone_ms),
        ];
        for (who, ms) in latencies {
            if let Some(LatencySummary { p50, p99, max }) = ms {
                table.push_str(&format!(
                    "\naccept {who}, in ms: p50 {p50:.1}, p99 {p99:.1}, max {max:.1}\n"
                ));
            }
        }
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
