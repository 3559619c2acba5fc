//! What moves on a terminal: a bar for the snapshot, then one line of figures for the stream.

use super::status::Sample;
use crate::console::Console;
use indicatif::{HumanBytes, HumanFloatCount, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;

const SNAPSHOT: &str =
    "snapshot {bar:30} {human_pos} of about {human_len} rows, {rate}/s, {elapsed_precise}";
const STREAM: &str = "streaming {human_pos} records, {rate}/s, {msg}";

/// One bar at a time. Removed when dropped.
pub(crate) struct Bars {
    console: Console,
    shown: Option<(Phase, ProgressBar)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Snapshot,
    Stream,
}

impl Bars {
    /// `None` where nobody watches.
    pub(crate) fn new(console: Console) -> Option<Self> {
        std::io::stderr().is_terminal().then_some(Self { console, shown: None })
    }

    pub(crate) fn show(&mut self, sample: &Sample, latency_ms: u64) {
        if sample.snapshot_running {
            let bar = self.of(Phase::Snapshot);
            // The estimate may be too low.
            bar.set_length(sample.snapshot_rows_estimated.max(sample.snapshot_rows));
            bar.set_position(sample.snapshot_rows);
        } else if 0 < sample.records {
            let bar = self.of(Phase::Stream);
            bar.set_position(sample.records);
            bar.set_message(figures(sample, latency_ms));
        } else {
            self.clear();
        }
    }

    fn of(&mut self, phase: Phase) -> &ProgressBar {
        if self.shown.as_ref().is_some_and(|(shown, _)| *shown != phase) {
            self.clear();
        }
        let (_, bar) = self.shown.get_or_insert_with(|| {
            let bar = ProgressBar::no_length().with_style(style(phase));
            (phase, self.console.bars.add(bar))
        });
        bar
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.shown.take() {
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
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate)
}

/// Whole ones: the library's own rate has four decimals.
fn rate(state: &ProgressState, text: &mut dyn Write) {
    // A bar that cannot be drawn is drawn again soon.
    let _ = write!(text, "{}", HumanFloatCount(state.per_sec().round()));
}

fn figures(sample: &Sample, latency_ms: u64) -> String {
    let mut text = format!("latency {latency_ms} ms");
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
        assert_eq!(figures(&Sample::default(), 7), "latency 7 ms");
    }
}
