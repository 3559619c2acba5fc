//! What moves on a terminal: a bar for the snapshot and one for each table that it reads, and a line of figures for the
//! stream.

use super::status::Sample;
use crate::console::Console;
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use pipeline::progress::{TableProgress, TableState};
use pipeline::rate::Rate;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const SNAPSHOT: &str =
    "snapshot {bar:30} {human_pos} of about {human_len} rows, {msg}, {elapsed_precise}";
/// Of one table.
const TABLE: &str = "  {prefix:24!} {bar:22} {human_pos} of about {human_len} rows, {msg}";
/// Bars of tables at most: what is being read first.
pub(crate) const TABLES_MAX: usize = 8;
const STREAM: &str = "streaming {human_pos} records, {msg}";
const DRAW_EVERY: Duration = Duration::from_millis(500);
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// One phase at a time. Removed when dropped.
pub(crate) struct Bars {
    console: Console,
    shown: Option<Shown>,
    /// Below it: tables that are being read.
    tables: BTreeMap<String, ProgressBar>,
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
        std::io::stderr().is_terminal().then(|| Self {
            console,
            shown: None,
            tables: BTreeMap::new(),
            drawn_at: None,
        })
    }

    /// `tables`: looked at where something is drawn.
    pub(crate) fn show(
        &mut self,
        sample: &Sample,
        tables: impl FnOnce() -> Vec<TableProgress>,
        latency_ms: u64,
        now: Instant,
    ) {
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
            let per_second = rate.per_second(rows, now);
            let left = sample.snapshot_rows_estimated.saturating_sub(rows) as f64 / per_second;
            bar.set_message(pace(sample.snapshot_bytes(), per_second, left));
            bar.set_position(rows);
            self.show_tables(&tables());
        } else if 0 < sample.records {
            let Shown { bar, rate, .. } = self.of(Phase::Stream);
            let per_second = rate.per_second(sample.records, now).round() as u64;
            bar.set_message(figures(sample, per_second, latency_ms));
            bar.set_position(sample.records);
        } else {
            self.clear();
        }
    }

    fn show_tables(&mut self, tables: &[TableProgress]) {
        let is_read = |it: &&TableProgress| it.state == TableState::Reading;
        let read: Vec<_> = tables.iter().filter(is_read).take(TABLES_MAX).collect();
        let name = |it: &TableProgress| format!("{}.{}", it.schema, it.table);
        let is_over = |shown: &String| !read.iter().any(|it| name(it) == *shown);
        for over in self.tables.keys().filter(|it| is_over(it)).cloned().collect::<Vec<_>>() {
            self.remove(&over);
        }
        for table in read {
            let bar = self.tables.entry(name(table)).or_insert_with(|| {
                let bar = ProgressBar::no_length().with_style(styled(TABLE));
                self.console.bars.add(bar.with_prefix(name(table)))
            });
            let left = table.left().map_or(f64::INFINITY, |left| left.as_secs_f64());
            bar.set_length(table.estimate.max(table.rows));
            bar.set_message(pace(table.bytes, table.per_second(), left));
            bar.set_position(table.rows);
        }
    }

    fn remove(&mut self, table: &str) {
        if let Some(bar) = self.tables.remove(table) {
            bar.finish_and_clear();
            self.console.bars.remove(&bar);
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
        for table in self.tables.keys().cloned().collect::<Vec<_>>() {
            self.remove(&table);
        }
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
    styled(match phase {
        Phase::Snapshot => SNAPSHOT,
        Phase::Stream => STREAM,
    })
}

fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How fast a snapshot goes, and for how long. `left`: seconds; not finite or 0: nobody knows.
fn pace(bytes: u64, per_second: f64, left: f64) -> String {
    let rate = HumanCount(per_second.round() as u64);
    let left = Duration::try_from_secs_f64(left.round()).ok().filter(|it| !it.is_zero());
    let left = left.map_or_else(String::new, |it| format!(", {} left", HumanDuration(it)));
    format!("{}, {rate}/s{left}", HumanBytes(bytes))
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
        for template in [SNAPSHOT, TABLE, STREAM] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn the_time_left_is_told_where_it_is_known() {
        assert_eq!(pace(2048, 1200.4, 61.0), "2.00 KiB, 1,200/s, 61 seconds left");
        assert_eq!(pace(0, 0.0, 5.0 / 0.0), "0 B, 0/s");
        assert_eq!(pace(0, 0.0, f64::NAN), "0 B, 0/s");
    }

    #[test]
    fn before_the_first_watermark_there_is_no_lag() {
        assert_eq!(figures(&Sample::default(), 1200, 7), "1,200/s, latency 7 ms");
    }
}
