//! The figures as JSON, for other programs.

use anyhow::Context;

use crate::summary::Summary;

/// All of the summary, with the course over time.
pub fn render(summary: &Summary) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(summary).context("writing the figures as JSON")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::summary::tests::{summary, takings};

    #[test]
    fn the_promised_names_are_there() {
        let json: Value = serde_json::from_str(&super::render(&summary()).unwrap()).unwrap();
        for name in [
            "submitted",
            "accepted",
            "decided",
            "held",
            "rejected",
            "lost",
        ] {
            assert!(json[name].is_u64(), "{name}");
        }
        for name in ["accepted_per_s", "decided_per_s"] {
            assert!(json[name].is_f64(), "{name}");
        }
        for latency in ["submit_ms", "outcome_ms"] {
            for quantile in ["p50", "p90", "p99", "max"] {
                assert!(json[latency][quantile].is_f64(), "{latency}.{quantile}");
            }
        }
        assert_eq!(json["payments"], Value::Null);
        assert_eq!(json["violations"], Value::Array(vec![]));
        assert_eq!(json["config"]["seed"], 1);
    }
    #[test]
    fn payments_are_there_when_buyers_paid() {
        let mut summary = summary();
        summary.payments = Some(takings());
        let json: Value = serde_json::from_str(&super::render(&summary).unwrap()).unwrap();
        let payments = &json["payments"];
        for name in [
            "captured",
            "refunded",
            "declined",
            "voided",
            "failed",
            "unresolved",
            "mismatches",
        ] {
            assert!(payments[name].is_u64(), "{name}");
        }
        assert!(payments["paid_per_s"].is_f64());
        assert!(payments["pay_ms"]["p99"].is_f64());
        assert!(payments["stuck_resolved_ms"]["p99"].is_f64());
        assert_eq!(payments["mismatched"], Value::Array(vec![]));
    }
}
