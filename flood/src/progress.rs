//! The progress bar: how far the flood is and at what rates, on a terminal only.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{figures::Counters, line::Line};

const PACE: Duration = Duration::from_millis(200);

/// The weight of the newest rate in the shown one.
const NEWEST: f64 = 0.3;

/// Shows the progress until it is dropped. Where standard error is no terminal, nothing is shown.
pub async fn show(counters: &Counters, line: &Line, requests: u64) {
    let bar = ProgressBar::new(requests);
    let style = "{elapsed:>4} {bar:32.cyan/blue} {percent:>3}%  {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let _clear = ClearOnDrop(bar.clone());
    let (mut accepted, mut decided) = (Rate::default(), Rate::default());
    loop {
        tokio::time::sleep(PACE).await;
        let ended = counters.ended.load(Ordering::Relaxed);
        bar.set_position(ended);
        bar.set_message(format!(
            "accepted {:>6.0}/s  decided {:>6.0}/s  waiting {:>6}  under way {:>6}",
            accepted.update(counters.accepted.load(Ordering::Relaxed)),
            decided.update(line.head().max(0) as u64),
            line.waiting(),
            counters.submitted.load(Ordering::Relaxed) - ended,
        ));
    }
}

/// The bar makes room for the report.
struct ClearOnDrop(ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A smoothed rate of a counter.
struct Rate {
    count: u64,
    at: Instant,
    per_s: f64,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate {
            count: 0,
            at: Instant::now(),
            per_s: 0.0,
        }
    }
}

impl Rate {
    fn update(&mut self, count: u64) -> f64 {
        let seconds = self.at.elapsed().as_secs_f64().max(1e-3);
        let newest = count.saturating_sub(self.count) as f64 / seconds;
        self.per_s += NEWEST * (newest - self.per_s);
        (self.count, self.at) = (count, Instant::now());
        self.per_s
    }
}
