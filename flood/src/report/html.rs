//! The page: one file without any other resource, for a browser or an e-mail.

use super::{
    chart::{Chart, Line},
    numbers::{self, count, model, ms, payments, rate, sum, tally},
};
use crate::{figures::Percentiles, series::Point, summary::Summary, takings::Takings};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
pub fn render(summary: &Summary) -> String {
    let verdict = if summary.is_clean() {
        "clean"
    } else {
        "broken"
    };
    let hall = &summary.config.hall;
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Flood: {requests} submitted, {verdict}</title>
<style>{STYLE}</style>
<main>
<header>
<h1>Flood <em class="{verdict}">{verdict}</em></h1>
<p>{model} for {seats} seats and {floor} places on the floor, seed {seed}. Began {began}, took {seconds:.1}&nbsp;s.</p>
</header>
{tiles}{violations}{charts}{tables}
<footer>Stampede flood of show {show}. Latencies count from the intended start of each request, so a
stalled server is not spared the buyers who would have come meanwhile.</footer>
</main>
<script>{SCRIPT}</script>
</html>
"#,
        requests = count(summary.submitted),
        model = escape(&model(&summary.config)),
        seats = count(hall.seats as u64),
        floor = count(hall.floor.into()),
        seed = summary.config.seed,
        began = summary.began_at.format("%Y-%m-%d %H:%M:%S UTC"),
        seconds = summary.seconds,
        tiles = tiles(summary),
        violations = violations(summary),
        charts = charts(summary),
        tables = tables(summary),
        show = summary.show_id,
    )
}

/// The figures that matter most.
fn tiles(summary: &Summary) -> String {
    let tiles = [
        (
            "accepted / s",
            rate(summary.accepted_per_s),
            count(summary.accepted),
        ),
        (
            "decided / s",
            rate(summary.decided_per_s),
            count(summary.decided),
        ),
        (
            "submit, p99 ms",
            ms(summary.submit_ms.p99),
            format!("p50 {}", ms(summary.submit_ms.p50)),
        ),
        (
            "outcome, p99 ms",
            ms(summary.outcome_ms.p99),
            format!("p50 {}", ms(summary.outcome_ms.p50)),
        ),
        (
            "lost",
            count(summary.lost),
            format!("of {}", count(summary.accepted)),
        ),
        (
            "violations",
            count(summary.violations.len() as u64),
            checked(summary).to_owned(),
        ),
    ];
    let tiles: String = tiles
        .iter()
        .map(|(name, value, note)| {
            format!("<div><dt>{name}</dt><dd>{value}</dd><dd class=\"note\">{note}</dd></div>")
        })
        .collect();
    format!("<dl class=\"tiles\">{tiles}</dl>\n")
}

fn checked(summary: &Summary) -> &'static str {
    if summary.database_checked {
        "every row checked"
    } else {
        "API checked, not the rows"
    }
}

fn ledger(takings: &Takings) -> String {
    match takings.mismatches {
        Some(_) => "with the gateway's ledger".to_owned(),
        None => "the gateway's ledger was not read".to_owned(),
    }
}

fn violations(summary: &Summary) -> String {
    let violations = summary.violations.iter();
    let mut broken: Vec<(&str, String)> =
        violations.map(|it| (it.rule, it.detail.clone())).collect();
    let mismatched = summary.payments.iter().flat_map(|it| &it.mismatched);
    broken.extend(mismatched.map(|it| ("mismatch", it.to_string())));
    if broken.is_empty() {
        return String::new();
    }
    let items: String = broken
        .iter()
        .map(|(rule, detail)| format!("<li><b>{rule}</b> {}</li>", escape(detail)))
        .collect();
    format!("<section class=\"violations\"><h2>Broken promises</h2><ul>{items}</ul></section>\n")
}

fn charts(summary: &Summary) -> String {
    let points = &summary.series.points;
    let times: Vec<f64> = points
        .iter()
        .map(|point| (point.at_s * 1000.0).round() / 1000.0)
        .collect();
    let line = |name, class, of: fn(&Point) -> Option<f64>| Line {
        name,
        class,
        values: points
            .iter()
            .map(|point| of(point).map(|value| (value * 100.0).round() / 100.0))
            .collect(),
    };
    let chart = |title, unit, lines| {
        Chart {
            title,
            unit,
            times: &times,
            lines,
        }
        .render()
    };
    [
        chart(
            "Accepted and decided",
            "requests per second",
            vec![
                line("accepted", "one", |point| Some(point.accepted_per_s)),
                line("decided", "two", |point| Some(point.decided_per_s)),
            ],
        ),
        chart(
            "Queue depth",
            "accepted and not yet decided",
            vec![line("waiting", "one", |point| Some(point.waiting as f64))],
        ),
        chart(
            "Submit latency",
            "ms from the intended start to the 202",
            vec![
                line("p50", "one", |point| point.submit_ms.map(|it| it.p50)),
                line("p90", "two", |point| point.submit_ms.map(|it| it.p90)),
                line("p99", "three", |point| point.submit_ms.map(|it| it.p99)),
            ],
        ),
        chart(
            "Outcome latency",
            "ms from the intended start until the outcome was told",
            vec![
                line("p50", "one", |point| point.outcome_ms.map(|it| it.p50)),
                line("p90", "two", |point| point.outcome_ms.map(|it| it.p90)),
                line("p99", "three", |point| point.outcome_ms.map(|it| it.p99)),
            ],
        ),
    ]
    .concat()
}

fn tables(summary: &Summary) -> String {
    let mut totals = vec![
        ("submitted", summary.submitted, String::new()),
        (
            "accepted",
            summary.accepted,
            format!("{}/s", rate(summary.accepted_per_s)),
        ),
        ("refused", sum(&summary.refused), tally(&summary.refused)),
        ("gave up", sum(&summary.gave_up), tally(&summary.gave_up)),
        (
            "decided",
            summary.decided,
            format!("{}/s", rate(summary.decided_per_s)),
        ),
        ("held", summary.held, String::new()),
        ("rejected", summary.rejected, tally(&summary.reasons)),
        ("left the line", summary.left, String::new()),
        ("quarantined", summary.quarantined, String::new()),
        ("confirmed", summary.confirmed, String::new()),
        ("cancelled", summary.cancelled, String::new()),
        ("abandoned", summary.abandoned, String::new()),
        ("expired", summary.expired, String::new()),
    ];
    if let Some(takings) = &summary.payments {
        totals.push(("paid", takings.captured, payments(takings)));
        totals.push(("mismatches", summary.mismatches(), ledger(takings)));
    }
    totals.extend([
        (
            "tried again",
            sum(&summary.retries),
            tally(&summary.retries),
        ),
        ("untold", summary.untold, String::new()),
        ("lost", summary.lost, String::new()),
    ]);
    let totals: String = totals
        .iter()
        .map(|(name, value, note)| {
            format!(
                "<tr><th>{name}<td>{}<td class=\"note\">{}</tr>",
                count(*value),
                escape(note)
            )
        })
        .collect();
    let latencies: String = numbers::latencies(summary)
        .iter()
        .map(|(name, Percentiles { p50, p90, p99, max }, note)| {
            let cells: String = [p50, p90, p99, max]
                .map(|value| format!("<td>{}", ms(*value)))
                .concat();
            format!("<tr><th>{name}{cells}<td class=\"note\">{note}</tr>")
        })
        .collect();
    format!(
        "<section class=\"tables\"><table><caption>Requests</caption>{totals}</table>\n\
        <table><caption>Latency in ms</caption><tr class=\"head\"><th><td>p50<td>p90<td>p99<td>max<td></tr>\
        {latencies}</table></section>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checker::Violation, summary::tests::summary};

    #[test]
    fn the_page_needs_nothing_else() {
        let page = render(&summary());
        for resource in [" src=", " href=", "@import", "url(", "https:"] {
            assert!(!page.contains(resource), "{resource}");
        }
        assert_eq!(page.matches("<svg").count(), 4);
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn what_a_violation_says_cannot_break_the_page() {
        let mut summary = summary();
        let detail = "<script>alert(1)</script>".to_owned();
        summary.violations.push(Violation {
            rule: "no_seat_twice",
            detail,
        });
        let page = render(&summary);
        assert!(page.contains("&lt;script&gt;alert(1)"));
        assert!(!page.contains("<script>alert"));
    }
}
