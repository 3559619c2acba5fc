//! What moves on a terminal: a bar for the snapshot, then one line of figures for the stream.

use super::status::Sample;
use crate::console::Console;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use pipeline::rate::Rate;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const SNAPSHOT: &str =
    "snapshot {bar:30} {human_pos} of about {human_len} rows, {msg}, {elapsed_precise}";
const STREAM: &str = "streaming {human_pos} records, {msg}";
const DRAW_EVERY: Duration = Duration::from_millis(500);
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// One bar at a time. Removed when dropped.
pub(crate) struct Bars {
    console: Console,
    shown: Option<Shown>,
    drawn_at: Option<Instant>,
}

struct Shown {
    phase: Phase,
    bar: ProgressBar,
    /// The bar's own would take what was there before it for speed.
    rate: Rate,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Snapshot,
    Stream,
}

impl Bars {
    /// `None` where nobody watches.
    pub(crate) fn new(console: Console) -> Option<Self> {
        std::io::stderr().is_terminal().then_some(Self { console, shown: None, drawn_at: None })
    }

    pub(crate) fn show(&mut self, sample: &Sample, latency_ms: u64, now: Instant) {
        let rests = self.drawn_at.map(|at| now.saturating_duration_since(at));
        if rests.is_some_and(|rests| rests < DRAW_EVERY) {
            return;
        }
        self.drawn_at = Some(now);
        if sample.snapshot_running {
            let rows = sample.snapshot_rows;
            let Shown { bar, rate, .. } = self.of(Phase::Snapshot);
            // The estimate may be too low.
            bar.set_length(sample.snapshot_rows_estimated.max(rows));
            bar.set_message(format!("{}/s", HumanCount(rate.per_second(rows, now).round() as u64)));
            bar.set_position(rows);
        } else if 0 < sample.records {
            let Shown { bar, rate, .. } = self.of(Phase::Stream);
            let per_second = rate.per_second(sample.records, now).round() as u64;
            bar.set_message(figures(sample, per_second, latency_ms));
            bar.set_position(sample.records);
        } else {
            self.clear();
        }
    }

    fn of(&mut self, phase: Phase) -> &mut Shown {
        if self.shown.as_ref().is_some_and(|shown| shown.phase != phase) {
            self.clear();
        }
        self.shown.get_or_insert_with(|| {
            let bar = ProgressBar::no_length().with_style(style(phase));
            Shown { phase, bar: self.console.bars.add(bar), rate: Rate::over(RATE_WINDOW) }
        })
    }

    fn clear(&mut self) {
        if let Some(Shown { bar, .. }) = self.shown.take() {
            bar.finish_and_clear();
            self.console.bars.remove(&bar);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Snapshot => SNAPSHOT,
        Phase::Stream => STREAM,
    };
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn figures(sample: &Sample, per_second: u64, latency_ms: u64) -> String {
    let mut text = format!("{}/s, latency {latency_ms} ms", HumanCount(per_second));
    if let (Some(watermark), Some(lag)) = (sample.watermark(), sample.lag_bytes()) {
        text.push_str(&format!(", lag {}, watermark {watermark}", HumanBytes(lag)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_can_be_read() {
        for template in [SNAPSHOT, STREAM] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn before_the_first_watermark_there_is_no_lag() {
        assert_eq!(figures(&Sample::default(), 1200, 7), "1,200/s, latency 7 ms");
    }
}
