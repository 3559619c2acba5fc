//! How far the tables of a snapshot have come. Pure: the caller says what time it is.

use crate::chunk::copy::Record;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A table of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableProgress {
    pub schema: String,
    pub table: String,
    /// Id of the snapshot, in the header of each row.
    pub snapshot: String,
    /// Number of the order that asked for it; `None`: it is a part of the first snapshot.
    pub asked: Option<u64>,
    /// Read so far, what was read again included.
    pub rows: u64,
    pub bytes: u64,
    /// Rows that it is expected to have, the server's estimate; 0: not known.
    pub estimate: u64,
    pub state: TableState,
    /// When this process began to read it, and the rows that it found read.
    began: Option<(Instant, u64)>,
    /// When rows were read last.
    last: Option<Instant>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TableState {
    Waiting,
    Reading,
    Done,
    /// Why it is not copied, or not any further.
    Refused(String),
}

impl TableProgress {
    /// Of a table that nothing was read of.
    #[must_use]
    pub fn waiting(schema: &str, table: &str, snapshot: &str, estimate: u64) -> Self {
        Self {
            schema: schema.into(),
            table: table.into(),
            snapshot: snapshot.into(),
            asked: None,
            rows: 0,
            bytes: 0,
            estimate,
            state: TableState::Waiting,
            began: None,
            last: None,
        }
    }

    /// As the meta lane has it. `snapshot`: the id.
    #[must_use]
    pub fn of(record: &Record, snapshot: &str) -> Self {
        let state = match &record.refused {
            Some(why) => TableState::Refused(why.clone()),
            None if record.done => TableState::Done,
            None if record.files.is_empty() => TableState::Waiting,
            None => TableState::Reading,
        };
        let Record { rows, bytes, asked, .. } = *record;
        let waiting = Self::waiting(&record.schema, &record.table, snapshot, record.estimate);
        Self { asked, rows, bytes, state, ..waiting }
    }

    /// Rows per second since this process began to read it, up to the last row.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        let (Some((began, before)), Some(last)) = (self.began, self.last) else { return 0.0 };
        let seconds = last.saturating_duration_since(began).as_secs_f64();
        if seconds == 0.0 { 0.0 } else { self.rows.saturating_sub(before) as f64 / seconds }
    }

    /// What is left by estimate and rate; `None`: that cannot be said.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let rate = self.per_second();
        let is_read = self.state == TableState::Reading && self.rows < self.estimate;
        let rows = self.estimate.checked_sub(self.rows).filter(|_| is_read && 0.0 < rate)?;
        Duration::try_from_secs_f64(rows as f64 / rate).ok()
    }

    /// What is known now, after what was known before.
    fn after(mut self, before: Option<&Self>, now: Instant) -> Self {
        let known = before.filter(|it| it.rows <= self.rows);
        (self.began, self.last) = known.map_or((None, None), |it| (it.began, it.last));
        if self.state == TableState::Reading && self.began.is_none() {
            self.began = Some((now, self.rows));
        }
        if known.is_some_and(|it| it.rows < self.rows) {
            self.last = Some(now);
        }
        self
    }
}

/// Tables by the names of their plans.
#[derive(Clone, Debug, Default)]
pub struct Tables(BTreeMap<String, TableProgress>);

impl Tables {
    pub fn note(&mut self, name: &str, table: TableProgress, now: Instant) {
        let table = table.after(self.0.get(name), now);
        self.0.insert(name.to_owned(), table);
    }

    /// More of a table was read.
    pub fn add(&mut self, name: &str, rows: u64, bytes: u64, now: Instant) {
        let Some(before) = self.0.get(name).cloned() else { return };
        let (rows, bytes) = (before.rows + rows, before.bytes + bytes);
        self.note(name, TableProgress { rows, bytes, state: TableState::Reading, ..before }, now);
    }

    /// All of a table was read.
    pub fn done(&mut self, name: &str) {
        if let Some(table) = self.0.get_mut(name) {
            table.state = TableState::Done;
        }
    }

    /// What comes now is another snapshot, or is not known yet.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A table that is spoken of no more.
    pub fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Those that are read first, then those that wait, then the others; not more than `max`.
    #[must_use]
    pub fn shown(&self, max: usize) -> Vec<TableProgress> {
        let rank = |it: &TableProgress| match it.state {
            TableState::Reading => 0,
            TableState::Refused(_) => 1,
            TableState::Waiting => 2,
            TableState::Done => 3,
        };
        let mut shown: Vec<&TableProgress> = self.0.values().collect();
        shown.sort_by_key(|it| (rank(it), std::cmp::Reverse(it.asked)));
        shown.into_iter().take(max).cloned().collect()
    }

    /// Tables in all, and those of which nothing more will be read.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let is_over =
            |it: &&TableProgress| matches!(it.state, TableState::Done | TableState::Refused(_));
        (self.0.len() as u64, self.0.values().filter(is_over).count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rows: u64) -> Record {
        Record {
            rows,
            bytes: 10 * rows,
            files: "1".into(),
            estimate: 1000,
            ..Record::waiting("public", "t", true)
        }
    }

    #[test]
    fn rate_and_time_left_come_from_what_this_process_has_read() {
        let (mut tables, start) = (Tables::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (rows, seconds) in [(500, 0), (500, 5), (600, 10)] {
            tables.note("a/1", TableProgress::of(&record(rows), "a"), after(seconds));
        }
        let table = &tables.shown(9)[0];
        assert_eq!((table.per_second(), table.left()), (10.0, Some(Duration::from_secs(40))));
        tables.add("a/1", 400, 0, after(20));
        let table = &tables.shown(9)[0];
        assert_eq!((table.rows, table.per_second(), table.left()), (1000, 25.0, None));
        tables.done("a/1");
        assert_eq!((tables.counts(), tables.shown(9)[0].left()), ((1, 1), None));
    }

    #[test]
    fn what_is_read_is_shown_first_and_what_is_over_last() {
        let (mut tables, now) = (Tables::default(), Instant::now());
        let states = [
            ("a/1", TableState::Done),
            ("a/2", TableState::Waiting),
            ("a/3", TableState::Reading),
            ("a/4", TableState::Refused("no key".into())),
        ];
        for (name, state) in states {
            let table = TableProgress { state, ..TableProgress::waiting("s", name, "a", 0) };
            tables.note(name, table, now);
        }
        let shown: Vec<_> = tables.shown(3).into_iter().map(|it| it.table).collect();
        assert_eq!(shown, ["a/3", "a/4", "a/2"]);
        assert_eq!(tables.counts(), (4, 2));
    }
}
