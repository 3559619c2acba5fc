//! The progress of the snapshot on a terminal.

use super::status::Sample;
use crate::console::Console;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

const STYLE: &str =
    "snapshot {bar:30} {human_pos} of about {human_len} rows, {per_sec}, {elapsed_precise}";

/// A bar while a snapshot runs. Removed when dropped.
pub(crate) struct SnapshotBar {
    console: Console,
    bar: Option<ProgressBar>,
}

impl SnapshotBar {
    /// `None` where nobody watches.
    pub(crate) fn new(console: Console) -> Option<Self> {
        std::io::stderr().is_terminal().then_some(Self { console, bar: None })
    }

    pub(crate) fn show(&mut self, sample: &Sample) {
        if !sample.snapshot_running {
            self.clear();
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(STYLE);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            self.console.bars.add(ProgressBar::new(0).with_style(style))
        });
        // The estimate may be too low.
        bar.set_length(sample.snapshot_rows_estimated.max(sample.snapshot_rows));
        bar.set_position(sample.snapshot_rows);
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.console.bars.remove(&bar);
        }
    }
}

impl Drop for SnapshotBar {
    fn drop(&mut self) {
        self.clear();
    }
}
