//! Line charts as inline SVG: axes with round numbers, one line for each series, gaps where there
//! is nothing.

use std::fmt::Write;

use super::numbers::count;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 28.0;

/// How many lines of the grid there are at most.
const TICKS_MAX: f64 = 6.0;

/// A chart over time.
pub struct Chart<'a> {
    pub title: &'a str,
    pub unit: &'a str,
    /// The beginnings of the points, in seconds.
    pub times: &'a [f64],
    pub lines: Vec<Line<'a>>,
}

/// One series of a chart, as long as its times.
pub struct Line<'a> {
    pub name: &'a str,
    /// Of the page's style sheet.
    pub class: &'a str,
    pub values: Vec<Option<f64>>,
}

impl Chart<'_> {
    /// The figure, with the values for the page's hover in a `data` attribute.
    pub fn render(&self) -> String {
        let values = || {
            self.lines
                .iter()
                .flat_map(|line| line.values.iter().flatten())
        };
        let y_step = step(values().copied().fold(0.0, f64::max));
        let y_max = ceil(values().copied().fold(0.0, f64::max), y_step);
        let x_last = self.times.last().copied().unwrap_or(0.0).max(1e-3);
        let x_step = step(x_last);
        let x = |time: f64| LEFT + time / x_last * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / y_max * (HEIGHT - TOP - BOTTOM);

        let mut svg = String::new();
        for value in ticks(y_max, y_step) {
            let (at, text) = (y(value), label(value, y_step));
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}"/><text class="y" x="{}" y="{:.1}">{text}</text>"#,
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0
            );
        }
        for time in ticks(x_last, x_step) {
            let text = label(time, x_step);
            let _ = write!(
                svg,
                r#"<text class="x" x="{:.1}" y="{}">{text} s</text>"#,
                x(time),
                HEIGHT - 8.0
            );
        }
        for line in &self.lines {
            let points = self.times.iter().zip(&line.values);
            let points = points.map(|(time, value)| value.map(|value| (x(*time), y(value))));
            let _ = write!(
                svg,
                r#"<path class="line {}" d="{}"/>"#,
                line.class,
                path(points)
            );
        }
        self.figure(&svg)
    }

    fn figure(&self, svg: &str) -> String {
        let legend: String = self
            .lines
            .iter()
            .map(|line| {
                format!(
                    r#"<span class="key {}">{} <b></b></span>"#,
                    line.class, line.name
                )
            })
            .collect();
        let lines: Vec<&Vec<Option<f64>>> = self.lines.iter().map(|line| &line.values).collect();
        // Numbers and brackets only: nothing of it needs escaping in an attribute.
        let data = serde_json::json!({ "times": self.times, "lines": lines }).to_string();
        let data = data.replace('"', "&quot;");
        format!(
            r#"<figure data-chart="{data}" data-left="{LEFT}" data-right="{}" data-width="{WIDTH}">
<figcaption><strong>{}</strong> <small>{}</small><span class="legend"><i class="time"></i>{legend}</span></figcaption>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">{svg}<line class="cursor" y1="{TOP}" y2="{}" x1="-9" x2="-9"/></svg>
</figure>
"#,
            WIDTH - RIGHT,
            self.title,
            self.unit,
            self.title,
            HEIGHT - BOTTOM
        )
    }
}

/// A point without neighbours is drawn as a dot: a line of no length with round ends.
fn path(points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
    let mut path = String::new();
    let mut drawing = false;
    for point in points {
        if let Some((x, y)) = point {
            let command = if drawing {
                format!("L{x:.1} {y:.1}")
            } else {
                format!("M{x:.1} {y:.1}h0")
            };
            path.push_str(&command);
        }
        drawing = point.is_some();
    }
    path
}

/// 1, 2 or 5 times a power of ten, so that at most [`TICKS_MAX`] of them reach the greatest value.
fn step(greatest: f64) -> f64 {
    let least = (greatest / TICKS_MAX).max(1e-3);
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

/// The first multiple of the step that is not below the value, at least one.
fn ceil(value: f64, step: f64) -> f64 {
    (value / step).ceil().max(1.0) * step
}

fn ticks(last: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..=(last / step + 1e-6) as usize).map(move |index| index as f64 * step)
}

fn label(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    if decimals > 0 {
        format!("{value:.decimals$}")
    } else {
        count(value.round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (greatest, expected) in [(100.0, 20.0), (18_532.0, 5_000.0), (0.9, 0.2), (6.0, 1.0)] {
            assert!(
                (step(greatest) / expected - 1.0).abs() < 1e-9,
                "{greatest}: {}",
                step(greatest)
            );
            assert!(ticks(ceil(greatest, expected), expected).count() <= 7);
        }
    }

    #[test]
    fn nothing_at_all_still_makes_a_chart() {
        let chart = Chart {
            title: "T",
            unit: "u",
            times: &[],
            lines: vec![],
        };
        assert!(!chart.render().contains("NaN"));
    }

    #[test]
    fn a_gap_is_not_drawn_over() {
        let points = [Some((0.0, 0.0)), Some((1.0, 1.0)), None, Some((3.0, 3.0))];
        assert_eq!(path(points.into_iter()), "M0.0 0.0h0L1.0 1.0M3.0 3.0h0");
    }
}
