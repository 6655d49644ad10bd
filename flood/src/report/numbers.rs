//! Numbers as people read them.

use std::collections::BTreeMap;

use crate::{
    figures::Percentiles,
    plan::{Model, Plan},
    summary::Summary,
    takings::Takings,
};

/// With a comma between the thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whole, or with as many decimals as say something.
pub fn rate(per_s: f64) -> String {
    if per_s >= 99.95 {
        count(per_s.round() as u64)
    } else {
        format!("{per_s:.1}")
    }
}

/// Milliseconds, to three digits.
pub fn ms(millis: f64) -> String {
    match millis {
        _ if millis >= 100.0 => count(millis.round() as u64),
        _ if millis >= 10.0 => format!("{millis:.1}"),
        _ => format!("{millis:.2}"),
    }
}

/// Words with their counts, the most frequent first.
pub fn tally(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(word, number)| format!("{word} {}", count(*number)))
        .collect();
    parts.join(", ")
}

/// Of a tally.
pub fn sum(counts: &BTreeMap<String, u64>) -> u64 {
    counts.values().sum()
}

/// What became of the payments that did not end in a booking, and how fast the others were.
pub fn payments(takings: &Takings) -> String {
    let mut words = vec![format!("{}/s", rate(takings.paid_per_s))];
    let others = [
        ("declined", takings.declined),
        ("refunded", takings.refunded),
        ("voided", takings.voided),
        ("failed", takings.failed),
        ("waiting", takings.waiting),
        ("unresolved", takings.unresolved),
    ];
    let others = others.iter().filter(|(_, number)| *number > 0);
    words.extend(others.map(|(word, number)| format!("{word} {}", count(*number))));
    words.join(", ")
}

/// Every latency with its name and what it is, in milliseconds.
pub fn latencies(summary: &Summary) -> Vec<(&'static str, Percentiles, &'static str)> {
    let mut rows = vec![
        ("submit", summary.submit_ms, "intended start to 202"),
        (
            "outcome",
            summary.outcome_ms,
            "intended start to outcome told",
        ),
        (
            "service",
            summary.service_ms,
            "first byte sent to 202, of the last try",
        ),
        (
            "decide",
            summary.decide_ms,
            "accepted to decided, on the server",
        ),
    ];
    if let Some(takings) = &summary.payments {
        rows.push(("pay", takings.pay_ms, "call to booking"));
        let stuck = "call to end, where the gateway hangs";
        rows.push(("stuck", takings.stuck_resolved_ms, stuck));
    }
    rows
}

/// How the requests came.
pub fn model(plan: &Plan) -> String {
    match plan.model {
        Model::Open(arrivals) => {
            let shape = format!("{:?}", arrivals.shape).to_lowercase();
            let requests = count(arrivals.requests);
            match arrivals.duration().as_secs_f64() {
                0.0 => format!("{requests} requests at once ({shape})"),
                seconds => format!("{requests} requests in {seconds:.1} s ({shape}, open model)"),
            }
        }
        Model::Closed(closed) => match closed.duration_s {
            Some(seconds) => format!("{} buyers for {seconds:.0} s (closed model)", closed.buyers),
            None => {
                let requests = count(closed.requests);
                format!(
                    "{requests} requests of {} buyers (closed model)",
                    closed.buyers
                )
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn small_numbers_keep_their_decimals() {
        assert_eq!(
            (ms(0.123).as_str(), ms(12.34).as_str(), ms(1234.5).as_str()),
            ("0.12", "12.3", "1,235")
        );
        assert_eq!(
            (rate(9.87).as_str(), rate(15_432.1).as_str()),
            ("9.9", "15,432")
        );
    }
}
