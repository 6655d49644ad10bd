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

    use crate::summary::tests::summary;

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
        assert_eq!(json["violations"], Value::Array(vec![]));
        assert_eq!(json["config"]["seed"], 1);
    }
}
