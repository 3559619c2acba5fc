//! A model of the source: transactions are written, then committed, which is when the stream has them, then
//! shown, which is when snapshots see them and their locks end. They are shown in any order.

use bytes::{BufMut, BytesMut};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use wal::change::{Old, Span, Transaction};
use wal::table::{Column, ReplicaIdentity};
use wal::types::{Type, oid};
use wal::{Change, ChangeBatch, Lsn, Operation, Position, Table, Visibility};

/// Where the slot is made.
pub(crate) const BEGIN: Lsn = Lsn(100);
pub(crate) const OID: u32 = 7;
/// Keys are 1 to this: as numbers and as texts they have one order.
pub(crate) const KEYS: u8 = 9;
/// What a record takes of the WAL.
const RECORD: u64 = 10;
/// Changes of a transaction at most.
const ACTS: usize = 4;

pub(crate) type Key = u8;

/// A row's state. Each that is ever written has a version of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) version: u32,
    /// The version that wrote the value which is not sent where it did not change.
    pub(crate) text: u32,
}

pub(crate) type Rows = BTreeMap<Key, Row>;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Insert(Key, Row),
    /// `old`: where the row had another key.
    Update {
        old: Option<Key>,
        key: Key,
        row: Row,
        is_part: bool,
    },
    Delete(Key),
    Truncate,
}

/// A transaction that is not over.
#[derive(Debug)]
struct Writer {
    xid: u32,
    acts: Vec<Act>,
    locked: BTreeSet<Key>,
    is_committed: bool,
    /// It waits for a standby before it is shown.
    is_slow: bool,
}

/// A transaction of the WAL.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) xid: u32,
    pub(crate) commit: Lsn,
    pub(crate) acts: Vec<Act>,
}

impl Logged {
    pub(crate) fn end(&self) -> Lsn {
        Lsn(self.commit.0 + RECORD)
    }
}

/// What a repeatable read transaction sees.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) visibility: Visibility,
    pub(crate) rows: Rows,
    pub(crate) files: u32,
}

#[derive(Debug)]
pub(crate) struct Server {
    /// What is shown.
    rows: Rows,
    /// Changes with every TRUNCATE.
    files: u32,
    writers: Vec<Writer>,
    /// Somebody waits for the lock of the whole table, and everybody else behind.
    is_queued: bool,
    /// Percent of the transactions that are a TRUNCATE.
    truncates: u32,
    pub(crate) wal: Vec<Logged>,
    /// The end of the WAL.
    pub(crate) end: Lsn,
    xid: u32,
    /// Keys up to this one are written to.
    hot: Key,
    /// By version, where it was committed.
    positions: Vec<Position>,
    /// Confirmed position.
    pub(crate) slot: Lsn,
    /// What a restart finds of it on disk.
    remembered: Lsn,
}

impl Server {
    pub(crate) fn new(rng: &mut SmallRng) -> Self {
        let mut server = Self {
            rows: Rows::new(),
            files: 1,
            writers: Vec::new(),
            is_queued: false,
            truncates: [0, 5, 25][rng.random_range(0..3)],
            wal: Vec::new(),
            end: BEGIN,
            xid: 700,
            hot: rng.random_range(3..=KEYS),
            positions: Vec::new(),
            slot: BEGIN,
            remembered: BEGIN,
        };
        for key in (1..=KEYS).filter(|_| rng.random_bool(0.7)) {
            let row = server.row(None);
            server.rows.insert(key, row);
        }
        server
    }

    fn row(&mut self, before: Option<Row>) -> Row {
        let version = u32::try_from(self.positions.len()).expect("few");
        self.positions.push(Position::ZERO);
        Row { version, text: before.map_or(version, |it| it.text) }
    }

    /// Where a state of a row was committed; [`Position::ZERO`]: it was there from the beginning.
    pub(crate) fn committed(&self, version: u32) -> Position {
        self.positions[version as usize]
    }

    /// A transaction writes, as far as locks let it.
    pub(crate) fn write(&mut self, rng: &mut SmallRng) {
        if self.is_truncated_now() {
            return;
        }
        self.is_queued = rng.random_range(0..100) < self.truncates;
        if !self.is_queued {
            let rows = self.rows.clone();
            self.write_rows(rng, Vec::new(), rows);
        }
    }

    fn write_rows(&mut self, rng: &mut SmallRng, acts: Vec<Act>, mut rows: Rows) {
        let mut writer = Writer {
            xid: 0,
            acts,
            locked: BTreeSet::new(),
            is_committed: false,
            is_slow: rng.random_bool(0.2),
        };
        for _ in 0..rng.random_range(1..=ACTS) {
            let key = rng.random_range(1..=self.hot);
            let other = rng.random_range(1..=self.hot);
            let is_locked = |key| self.writers.iter().any(|it| it.locked.contains(&key));
            if is_locked(key) || is_locked(other) {
                continue;
            }
            writer.locked.insert(key);
            let act = self.act(rng, &mut rows, key, other);
            if matches!(act, Act::Update { old: Some(_), .. }) {
                writer.locked.insert(other);
            }
            writer.acts.push(act);
        }
        if !writer.acts.is_empty() {
            writer.xid = self.xid;
            self.xid += 1;
            self.end.0 += RECORD;
            self.writers.push(writer);
        }
    }

    /// Something that may be done to the row of a key, maybe by giving it another one.
    fn act(&mut self, rng: &mut SmallRng, rows: &mut Rows, key: Key, other: Key) -> Act {
        let Some(&before) = rows.get(&key) else {
            let row = self.row(None);
            rows.insert(key, row);
            return Act::Insert(key, row);
        };
        match rng.random_range(0..6) {
            0 | 1 => {
                rows.remove(&key);
                Act::Delete(key)
            }
            2 | 3 if !rows.contains_key(&other) => {
                // Always whole: under its new key nobody could know what was not sent.
                let row = self.row(None);
                rows.remove(&key);
                rows.insert(other, row);
                Act::Update { old: Some(key), key: other, row, is_part: false }
            }
            _ => {
                let is_part = rng.random();
                let row = self.row(Some(before).filter(|_| is_part));
                rows.insert(key, row);
                Act::Update { old: None, key, row, is_part }
            }
        }
    }

    /// Some transaction goes on: it commits, or is rolled back, or is shown. `is_held`: somebody reads the table.
    pub(crate) fn go_on(&mut self, rng: &mut SmallRng, is_held: bool) {
        if self.writers.is_empty() {
            if self.is_queued && !is_held {
                self.is_queued = false;
                self.write_rows(rng, vec![Act::Truncate], Rows::new());
            }
            return;
        }
        let index = rng.random_range(0..self.writers.len());
        if self.writers[index].is_committed {
            if !self.writers[index].is_slow || rng.random_bool(0.1) {
                self.show(index);
            }
            return;
        }
        if rng.random_bool(0.1) {
            self.writers.remove(index);
            return;
        }
        let writer = &mut self.writers[index];
        writer.is_committed = true;
        let (xid, acts, commit) = (writer.xid, writer.acts.clone(), self.end);
        for (act, ordinal) in acts.iter().zip(0..) {
            if let Act::Insert(_, row) | Act::Update { row, .. } = act {
                self.positions[row.version as usize] = Position { commit_lsn: commit, ordinal };
            }
        }
        self.wal.push(Logged { xid, commit, acts });
        self.end.0 += RECORD;
    }

    fn show(&mut self, index: usize) {
        for act in self.writers.remove(index).acts {
            match act {
                Act::Insert(key, row) => drop(self.rows.insert(key, row)),
                Act::Update { old, key, row, .. } => {
                    if let Some(old) = old {
                        self.rows.remove(&old);
                    }
                    self.rows.insert(key, row);
                }
                Act::Delete(key) => drop(self.rows.remove(&key)),
                Act::Truncate => {
                    self.rows.clear();
                    self.files += 1;
                }
            }
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.writers.is_empty() && !self.is_queued
    }

    /// Rows of a quiet server.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Whether who truncates the table has its lock, or waits for it before all others.
    pub(crate) fn is_truncated_now(&self) -> bool {
        let truncates = |it: &Writer| it.acts.iter().any(|act| matches!(act, Act::Truncate));
        self.is_queued || self.writers.iter().any(truncates)
    }

    pub(crate) fn look(&self) -> Snapshot {
        let xmin = self.writers.iter().map(|it| it.xid).min().unwrap_or(self.xid);
        let mut running: Vec<u32> = self.writers.iter().map(|it| it.xid).collect();
        running.sort_unstable();
        let running: Vec<String> = running.iter().map(ToString::to_string).collect();
        let text = format!("{xmin}:{}:{}", self.xid, running.join(","));
        let visibility = text.parse().expect("a snapshot");
        Snapshot { visibility, rows: self.rows.clone(), files: self.files }
    }

    /// An id above all that were given out.
    pub(crate) fn given_out(&mut self) -> u32 {
        self.xid += 1;
        self.xid - 1
    }

    /// How many transactions a slot at `lsn` has left behind.
    pub(crate) fn behind(&self, lsn: Lsn) -> usize {
        self.wal.iter().take_while(|it| it.end() <= lsn).count()
    }

    pub(crate) fn confirm(&mut self, lsn: Lsn) {
        self.slot = self.slot.max(lsn);
    }

    /// The slot is written to disk.
    pub(crate) fn remember(&mut self) {
        self.remembered = self.slot;
    }

    /// A crash: what was committed is shown, the rest is gone, and so are the newest confirmations.
    pub(crate) fn restart(&mut self) {
        self.is_queued = false;
        self.writers.retain(|it| it.is_committed);
        // In any order: no two of them have touched one row.
        while !self.writers.is_empty() {
            self.show(0);
        }
        self.slot = self.remembered;
    }
}

/// `public.orders(id int4 primary key, version int4, text int4)`.
pub(crate) fn table() -> Arc<Table> {
    static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| {
        let column = |name: &str, in_identity| Column {
            name: name.into(),
            type_: Arc::new(Type::builtin(oid::INT4, "int4")),
            type_modifier: -1,
            not_null: true,
            default: None,
            in_identity,
        };
        Arc::new(Table {
            oid: OID,
            version: 1,
            schema: "public".into(),
            name: "orders".into(),
            identity: ReplicaIdentity::Default,
            columns: vec![column("id", true), column("version", false), column("text", false)],
            key: vec![0],
            unique: Vec::new(),
        })
    });
    Arc::clone(&TABLE)
}

#[derive(Clone, Copy)]
enum Value {
    Text(u32),
    Null,
    Unchanged,
}

fn put(bytes: &mut BytesMut, values: [Value; 3]) -> Span {
    let start = u32::try_from(bytes.len()).expect("short");
    bytes.put_u16(3);
    for value in values {
        match value {
            Value::Null => bytes.put_u8(b'n'),
            Value::Unchanged => bytes.put_u8(b'u'),
            Value::Text(number) => {
                let text = number.to_string();
                bytes.put_u8(b't');
                bytes.put_u32(u32::try_from(text.len()).expect("short"));
                bytes.put_slice(text.as_bytes());
            }
        }
    }
    Span { start, end: u32::try_from(bytes.len()).expect("short") }
}

fn put_row(bytes: &mut BytesMut, key: Key, row: Row, is_part: bool) -> Span {
    let text = if is_part { Value::Unchanged } else { Value::Text(row.text) };
    put(bytes, [Value::Text(key.into()), Value::Text(row.version), text])
}

fn put_key(bytes: &mut BytesMut, key: Key) -> Old {
    Old::Key(put(bytes, [Value::Text(key.into()), Value::Null, Value::Null]))
}

/// Some acts of a transaction, as the decoder hands them on.
pub(crate) fn batch(logged: &Logged, acts: std::ops::Range<usize>) -> ChangeBatch {
    let ends = acts.end == logged.acts.len();
    let (mut bytes, mut changes) = (BytesMut::new(), Vec::new());
    for (act, ordinal) in logged.acts[acts.clone()].iter().zip(acts.start as u64..) {
        let (operation, old, new) = match *act {
            Act::Insert(key, row) => {
                (Operation::Insert, None, Some(put_row(&mut bytes, key, row, false)))
            }
            Act::Update { old, key, row, is_part } => {
                let old = old.map(|old| put_key(&mut bytes, old));
                (Operation::Update, old, Some(put_row(&mut bytes, key, row, is_part)))
            }
            Act::Delete(key) => (Operation::Delete, Some(put_key(&mut bytes, key)), None),
            Act::Truncate => (Operation::Truncate, None, None),
        };
        let lsn = logged.commit;
        changes.push(Change { transaction: 0, table: 0, ordinal, lsn, operation, old, new });
    }
    let tables = if changes.is_empty() { Vec::new() } else { vec![table()] };
    ChangeBatch {
        bytes: bytes.freeze(),
        changes,
        transactions: vec![Transaction {
            xid: logged.xid,
            commit_lsn: logged.commit,
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        }],
        tables,
        committed_end_lsn: ends.then_some(logged.end()),
        ends_transaction: ends,
        ..ChangeBatch::default()
    }
}
