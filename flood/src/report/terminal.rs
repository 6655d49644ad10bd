//! The summary for the terminal: a screen of aligned lines, the verdict last.

use std::fmt::Write;

use super::numbers::{self, count, model, ms, payments, rate, sum, tally};
use crate::{figures::Percentiles, summary::Summary};

/// The most violations that are shown; the JSON has all of them.
const VIOLATIONS_SHOWN: usize = 10;

/// The summary, with a line break at its end.
pub fn render(summary: &Summary) -> String {
    let mut text = String::new();
    let hall = &summary.config.hall;
    text.push('\n');
    line(
        &mut text,
        "flood",
        format!("{}, seed {}", model(&summary.config), summary.config.seed),
    );
    let seats = format!(
        "{} seats, {} on the floor",
        count(hall.seats as u64),
        count(hall.floor.into())
    );
    line(
        &mut text,
        "show",
        format!("{}, {seats}, at {}", summary.show_id, summary.target),
    );
    line(&mut text, "took", format!("{:.1} s", summary.seconds));
    text.push('\n');
    totals(&mut text, summary);
    text.push('\n');
    latencies(&mut text, summary);
    text.push('\n');
    verdict(&mut text, summary);
    text
}

fn totals(text: &mut String, summary: &Summary) {
    number(text, "submitted", summary.submitted, String::new());
    number(
        text,
        "accepted",
        summary.accepted,
        format!("{}/s", rate(summary.accepted_per_s)),
    );
    for (name, counts) in [("refused", &summary.refused), ("gave up", &summary.gave_up)] {
        if !counts.is_empty() {
            number(text, name, sum(counts), tally(counts));
        }
    }
    number(
        text,
        "decided",
        summary.decided,
        format!("{}/s", rate(summary.decided_per_s)),
    );
    number(text, "  held", summary.held, ends(summary));
    number(
        text,
        "  rejected",
        summary.rejected,
        tally(&summary.reasons),
    );
    number(text, "  left the line", summary.left, String::new());
    if summary.quarantined > 0 {
        number(text, "  quarantined", summary.quarantined, String::new());
    }
    if let Some(takings) = &summary.payments {
        number(text, "paid", takings.captured, payments(takings));
    }
    if !summary.retries.is_empty() {
        number(
            text,
            "tried again",
            sum(&summary.retries),
            tally(&summary.retries),
        );
    }
    if summary.untold > 0 {
        number(
            text,
            "untold",
            summary.untold,
            "patience ended before the outcome came".to_owned(),
        );
    }
}

/// What became of the holds.
fn ends(summary: &Summary) -> String {
    let ends = [
        ("confirmed", summary.confirmed),
        ("cancelled", summary.cancelled),
        ("abandoned", summary.abandoned),
        ("expired", summary.expired),
    ];
    tally(
        &ends
            .into_iter()
            .filter(|end| end.1 > 0)
            .map(|(word, n)| (word.to_owned(), n))
            .collect(),
    )
}

fn latencies(text: &mut String, summary: &Summary) {
    row(
        text,
        "ms",
        ["p50", "p90", "p99", "max"].map(str::to_owned),
        "",
    );
    for (name, Percentiles { p50, p90, p99, max }, meaning) in numbers::latencies(summary) {
        row(text, name, [p50, p90, p99, max].map(ms), meaning);
    }
}

fn verdict(text: &mut String, summary: &Summary) {
    let mut checked = if summary.database_checked {
        "against every row of the database".to_owned()
    } else {
        "against the API only: no --database-url was given".to_owned()
    };
    if let Some(takings) = &summary.payments {
        checked += match takings.mismatches {
            Some(_) => ", and the gateway's ledger",
            None => ", without the gateway's ledger",
        };
    }
    let lost = count(summary.lost);
    line(text, "checked", checked);
    if summary.is_clean() {
        line(
            text,
            "verdict",
            "clean: nothing lost, nothing doubled, no promise broken".to_owned(),
        );
        return;
    }
    let broken = summary.violations.len();
    line(
        text,
        "verdict",
        match summary.mismatches() {
            0 => format!("BROKEN: {lost} lost, {broken} violations"),
            mismatches => format!(
                "BROKEN: {lost} lost, {broken} violations, {} mismatches with the gateway",
                count(mismatches)
            ),
        },
    );
    for violation in summary.violations.iter().take(VIOLATIONS_SHOWN) {
        let _ = writeln!(text, "    {violation}");
    }
    if broken > VIOLATIONS_SHOWN {
        let _ = writeln!(text, "    and {} more", broken - VIOLATIONS_SHOWN);
    }
    let mismatched = summary.payments.iter().flat_map(|it| &it.mismatched);
    for mismatch in mismatched.take(VIOLATIONS_SHOWN) {
        let _ = writeln!(text, "    mismatch: {mismatch}");
    }
}

fn line(text: &mut String, name: &str, value: String) {
    let _ = writeln!(text, "  {name:<15} {value}");
}

fn number(text: &mut String, name: &str, value: u64, remark: String) {
    let row = format!("  {name:<15} {:>11}   {remark}", count(value));
    let _ = writeln!(text, "{}", row.trim_end());
}

fn row(text: &mut String, name: &str, [a, b, c, d]: [String; 4], meaning: &str) {
    let row = format!("  {name:<15} {a:>11} {b:>9} {c:>9} {d:>9}   {meaning}");
    let _ = writeln!(text, "{}", row.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::Violation,
        summary::tests::{summary, takings},
        takings::Takings,
    };

    #[test]
    fn a_clean_flood_reads_like_this() {
        let expected = "
  flood           1,000 requests in 10.0 s (constant, open model), seed 1
  show            00000000-0000-0000-0000-000000000000, 100 seats, 0 on the floor, at http://127.0.0.1:1
  took            10.0 s

  submitted             1,000
  accepted              1,000   100/s
  decided               1,000   100/s
    held                    0
    rejected            1,000   seats_taken 1,000
    left the line           0

  ms                      p50       p90       p99       max
  submit                 5.00      5.00      5.00      5.00   intended start to 202
  outcome                25.0      25.0      25.0      25.0   intended start to outcome told
  service                4.00      4.00      4.00      4.00   first byte sent to 202, of the last try
  decide                 15.0      15.0      15.0      15.0   accepted to decided, on the server

  checked         against the API only: no --database-url was given
  verdict         clean: nothing lost, nothing doubled, no promise broken
";
        assert_eq!(render(&summary()), expected);
    }

    #[test]
    fn payments_are_a_line_of_the_totals_and_two_of_the_latencies() {
        let mut summary = summary();
        summary.payments = Some(takings());
        let text = render(&summary);
        for line in [
            "  paid                     90   12.5/s, declined 8, voided 2\n",
            "  pay                    5.00      6.00      7.00      8.00   call to booking\n",
            "  checked         against the API only: no --database-url was given, and the gateway's ledger\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("verdict         clean"), "{text}");
    }

    #[test]
    fn a_mismatch_with_the_gateway_breaks_the_verdict() {
        let mut summary = summary();
        summary.payments = Some(Takings {
            mismatches: Some(2),
            ..takings()
        });
        let text = render(&summary);
        assert!(
            text.contains("BROKEN: 0 lost, 0 violations, 2 mismatches with the gateway"),
            "{text}"
        );
    }

    #[test]
    fn a_broken_promise_is_named() {
        let mut summary = summary();
        let violation = Violation {
            rule: "no_seat_twice",
            detail: "seat A-1".to_owned(),
        };
        summary.violations = vec![violation; 12];
        summary.lost = 3;
        let text = render(&summary);
        assert!(text.contains("BROKEN: 3 lost, 12 violations"), "{text}");
        assert!(text.contains("no_seat_twice: seat A-1"), "{text}");
        assert!(text.ends_with("and 2 more\n"), "{text}");
    }
}
