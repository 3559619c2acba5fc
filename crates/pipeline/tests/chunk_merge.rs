//! Chunks against a model of the server: every interleaving of a few transactions with the reading of chunks.
//!
//! The server of the model writes a commit into its WAL, streams it, and shows it to snapshots, in this order
//! and with anything in between; row locks end when the commit is shown; TRUNCATE is not MVCC-safe. The
//! consumer must end with the server's rows, and must never see a state of a row after a newer one.
//! Planted bugs must be found.

use bytes::{BufMut, BytesMut};
use pipeline::chunk::merge::{Marked, Merge, Verdict};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use wal::change::{Old, Span, Transaction};
use wal::table::{Column, ReplicaIdentity};
use wal::types::Type;
use wal::{Change, ChangeBatch, Lsn, Operation, Table, Visibility};

/// What one transaction does, by key.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Act {
    /// Insert or update.
    Put(u8),
    Delete(u8),
    /// The row of one key gets another one.
    Move(u8, u8),
    Truncate,
}

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bug {
    None,
    /// A snapshot that does not see what was routed is taken for good.
    NoDirtyCheck,
    /// Rows are emitted at once, wherever the stream is.
    NoHighMark,
    /// What the stream says after the snapshot is not noted.
    NothingNoted,
    /// No bug: the dirty check makes up for it by reading again.
    LateWindow,
    /// A key's change is noted under the new key only.
    OldKeysForgotten,
    TruncatesForgotten,
    /// The end of the WAL is taken before the snapshot.
    EarlyHighMark,
}

const OID: u32 = 7;
/// Key ranges of the chunks, which are read one after the other.
const CHUNKS: [std::ops::RangeInclusive<u8>; 2] = [1..=1, 2..=2];

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Writer {
    act: usize,
    stage: u8,
    commit: u64,
}

/// A row's state: the number of the transaction that wrote it, from 1; 0: it was there before.
type Rows = BTreeMap<u8, usize>;

#[derive(Clone)]
struct World {
    acts: Vec<Act>,
    bug: Bug,
    writers: Vec<Writer>,
    /// By xid, which is the number of the transaction.
    wal: Vec<usize>,
    routed: usize,
    merge: Merge,
    chunk: usize,
    step: u8,
    snapshot: Option<(Visibility, BTreeSet<usize>, Rows)>,
    high: u64,
    ticket: u64,
    /// What the consumer got: a key (0: all) and the state, `None`: gone.
    log: Vec<(u8, Option<usize>, usize)>,
    retries: u8,
}

const WRITTEN: u8 = 1;
const COMMITTED: u8 = 2;
const SHOWN: u8 = 3;

fn table() -> Arc<Table> {
    let column = Column {
        name: "id".into(),
        type_: Arc::new(Type::unknown(25)),
        type_modifier: -1,
        not_null: true,
        default: None,
        in_identity: true,
    };
    Arc::new(Table {
        oid: OID,
        version: 1,
        schema: "public".into(),
        name: "t".into(),
        identity: ReplicaIdentity::Default,
        columns: vec![Column { name: "v".into(), in_identity: false, ..column.clone() }, column],
        key: vec![1],
        unique: Vec::new(),
    })
}

fn row(bytes: &mut BytesMut, key: u8, value: usize) -> Span {
    let start = u32::try_from(bytes.len()).expect("short");
    bytes.put_u16(2);
    for text in [value.to_string(), key.to_string()] {
        bytes.put_u8(b't');
        bytes.put_u32(u32::try_from(text.len()).expect("short"));
        bytes.put_slice(text.as_bytes());
    }
    Span { start, end: u32::try_from(bytes.len()).expect("short") }
}

fn batch(xid: usize, commit: u64, rows: &[(Operation, Option<u8>, Option<u8>)]) -> ChangeBatch {
    let mut bytes = BytesMut::new();
    let change = |(operation, old, new): &(Operation, Option<u8>, Option<u8>)| Change {
        transaction: 0,
        table: 0,
        ordinal: 0,
        lsn: Lsn(commit),
        operation: *operation,
        old: old.map(|key| Old::Key(row(&mut bytes, key, 0))),
        new: new.map(|key| row(&mut bytes, key, xid)),
    };
    let changes = rows.iter().map(change).collect();
    ChangeBatch {
        bytes: bytes.freeze(),
        changes,
        transactions: vec![Transaction {
            xid: u32::try_from(xid).expect("few"),
            commit_lsn: Lsn(commit),
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        }],
        tables: vec![table()],
        committed_end_lsn: Some(Lsn(commit + 5)),
        ends_transaction: true,
        ..ChangeBatch::default()
    }
}

fn apply(act: Act, by: usize, rows: &mut Rows) {
    match act {
        Act::Put(key) => drop(rows.insert(key, by)),
        Act::Delete(key) => drop(rows.remove(&key)),
        Act::Move(from, to) => {
            if rows.remove(&from).is_some() {
                rows.insert(to, by);
            }
        }
        Act::Truncate => rows.clear(),
    }
}

fn locks(act: Act, key: u8) -> bool {
    match act {
        Act::Put(it) | Act::Delete(it) => it == key,
        Act::Move(from, to) => from == key || to == key,
        Act::Truncate => true,
    }
}

impl World {
    fn new(acts: &[Act], bug: Bug) -> Self {
        let writers = (0..acts.len()).map(|act| Writer { act, ..Writer::default() }).collect();
        Self {
            acts: acts.into(),
            bug,
            writers,
            wal: Vec::new(),
            routed: 0,
            merge: Merge::default(),
            chunk: 0,
            step: 0,
            snapshot: None,
            high: 0,
            ticket: 0,
            log: Vec::new(),
            retries: 0,
        }
    }

    /// Rows that are there once these transactions are.
    fn rows_of(&self, seen: impl Fn(usize) -> bool) -> Rows {
        let mut rows = Rows::from([(1, 0), (2, 0)]);
        for &xid in self.wal.iter().filter(|&&xid| seen(xid)) {
            apply(self.acts[xid - 1], xid, &mut rows);
        }
        rows
    }

    fn wal_end(&self) -> u64 {
        10 * (self.wal.len() as u64 + 1)
    }

    /// Whether the writer may take its locks: row locks, and the table's for TRUNCATE.
    fn may_write(&self, act: Act) -> bool {
        // A chunk holds its table while it reads.
        let is_held = act == Act::Truncate && self.step == 2;
        let holds = |other: &Writer| (WRITTEN..SHOWN).contains(&other.stage);
        let clash = |other: Act| (1..=2).any(|key| locks(other, key) && locks(act, key));
        !is_held && !self.writers.iter().any(|it| holds(it) && clash(self.acts[it.act]))
    }

    /// Every world that may follow.
    fn next(&self) -> Vec<Self> {
        let mut found = Vec::new();
        for (index, writer) in self.writers.iter().enumerate() {
            let is_free = writer.stage != 0 || self.may_write(self.acts[writer.act]);
            if writer.stage < SHOWN && is_free {
                let mut next = self.clone();
                next.writers[index].stage += 1;
                if next.writers[index].stage == COMMITTED {
                    next.wal.push(writer.act + 1);
                }
                found.push(next);
            }
        }
        if self.routed < self.wal.len() {
            let mut next = self.clone();
            next.route();
            found.push(next);
        }
        found.extend(self.read_on());
        found
    }

    /// The next transaction of the WAL goes to the consumer.
    fn route(&mut self) {
        let xid = self.wal[self.routed];
        let commit = 10 * (self.routed as u64 + 1);
        let before = self.wal[..self.routed].to_vec();
        self.routed += 1;
        let old = self.rows_of(|it| before.contains(&it));
        let act = self.acts[xid - 1];
        let mut rows = Vec::new();
        match act {
            Act::Put(key) if old.contains_key(&key) => {
                rows.push((Operation::Update, None, Some(key)));
                self.log.push((key, Some(xid), xid));
            }
            Act::Put(key) => {
                rows.push((Operation::Insert, None, Some(key)));
                self.log.push((key, Some(xid), xid));
            }
            Act::Delete(key) if old.contains_key(&key) => {
                rows.push((Operation::Delete, Some(key), None));
                self.log.push((key, None, xid));
            }
            Act::Move(from, to) if old.contains_key(&from) => {
                let told = Some(from).filter(|_| self.bug != Bug::OldKeysForgotten);
                rows.push((Operation::Update, told, Some(to)));
                self.log.push((from, None, xid));
                self.log.push((to, Some(xid), xid));
            }
            Act::Delete(_) | Act::Move(..) => {}
            Act::Truncate => {
                if self.bug != Bug::TruncatesForgotten {
                    rows.push((Operation::Truncate, None, None));
                }
                self.log.push((0, None, xid));
            }
        }
        self.merge.route(&batch(xid, commit, &rows));
    }

    /// The next step of the chunk that is read; several where that is open.
    fn read_on(&self) -> Option<Self> {
        let mut next = self.clone();
        let range = CHUNKS.get(self.chunk)?.clone();
        let truncating = |it: &Writer| {
            self.acts[it.act] == Act::Truncate && (WRITTEN..SHOWN).contains(&it.stage)
        };
        let late = self.bug == Bug::LateWindow;
        match self.step {
            0 => {
                if !late {
                    next.merge.open(self.ticket, OID, vec!["id".into()]);
                }
                next.high = self.wal_end();
                next.step = 1;
            }
            // Waits for the lock of the table; then the snapshot.
            1 if self.writers.iter().any(truncating) => return None,
            1 => {
                next.snapshot = Some(self.look(&range));
                next.step = 2;
            }
            2 => {
                if self.bug != Bug::EarlyHighMark {
                    next.high = self.wal_end();
                }
                next.step = 3;
            }
            3 => next.mark(late),
            _ => next.emit()?,
        }
        Some(next)
    }

    fn look(&self, range: &std::ops::RangeInclusive<u8>) -> (Visibility, BTreeSet<usize>, Rows) {
        let is_shown = |xid: usize| self.writers[xid - 1].stage == SHOWN;
        let running: Vec<usize> = (1..=self.writers.len()).filter(|&xid| !is_shown(xid)).collect();
        let xmax = self.writers.len() + 1;
        let xmin = running.first().copied().unwrap_or(xmax);
        let list: Vec<String> = running.iter().map(ToString::to_string).collect();
        let text = format!("{xmin}:{xmax}:{}", list.join(","));
        let mut rows = self.rows_of(is_shown);
        rows.retain(|key, _| range.contains(key));
        let seen = (1..=self.writers.len()).filter(|&xid| is_shown(xid)).collect();
        (text.parse().expect("a snapshot"), seen, rows)
    }

    fn mark(&mut self, late: bool) {
        let Some((snapshot, ..)) = self.snapshot.clone() else { unreachable!("taken") };
        let high = if self.bug == Bug::NoHighMark { 0 } else { self.high };
        if late {
            self.merge.open(self.ticket, OID, vec!["id".into()]);
        }
        if self.bug == Bug::NoDirtyCheck {
            self.merge = self.blind();
        }
        match self.merge.mark(self.ticket, snapshot, Lsn(high)) {
            Marked::Clean => self.step = 4,
            Marked::Dirty => self.again(),
        }
    }

    /// As if nothing had been routed before.
    fn blind(&self) -> Merge {
        let mut blind = Merge::default();
        blind.route(&ChangeBatch {
            committed_end_lsn: Some(Lsn(10 * self.routed as u64 + 5)),
            ends_transaction: true,
            ..ChangeBatch::default()
        });
        blind.open(self.ticket, OID, vec!["id".into()]);
        blind
    }

    fn again(&mut self) {
        self.merge.close(self.ticket);
        self.ticket += 1;
        self.step = 0;
        self.retries += 1;
    }

    fn emit(&mut self) -> Option<()> {
        let Some((snapshot, _, rows)) = self.snapshot.clone() else { unreachable!("taken") };
        if self.bug == Bug::NothingNoted {
            self.merge = self.blind();
            self.merge.mark(self.ticket, snapshot, Lsn(self.high));
        }
        let mut bytes = BytesMut::new();
        let read = |(&key, &value): (&u8, &usize)| Change {
            transaction: 0,
            table: 0,
            ordinal: 0,
            lsn: Lsn(0),
            operation: Operation::Read,
            old: None,
            new: Some(row(&mut bytes, key, value)),
        };
        let changes = rows.iter().map(read).collect();
        let mut chunk = ChangeBatch { changes, bytes: bytes.freeze(), ..batch(0, 0, &[]) };
        match self.merge.emit(self.ticket, &mut chunk) {
            // The stream moves on by a keepalive where it has told all.
            Verdict::Wait if self.routed == self.wal.len() => {
                self.merge.route(&ChangeBatch {
                    idle_until: Some(Lsn(self.wal_end())),
                    ends_transaction: true,
                    ..ChangeBatch::default()
                });
            }
            Verdict::Wait => return None,
            Verdict::Again => self.again(),
            Verdict::Emit { .. } => {
                for change in &chunk.changes {
                    let tuple = chunk.tuple(change.new.expect("a row"));
                    let mut numbers = tuple.iter().map(|datum| match datum {
                        wal::Datum::Text(text) => {
                            std::str::from_utf8(text).expect("text").parse().expect("a number")
                        }
                        other @ (wal::Datum::Null
                        | wal::Datum::Unchanged
                        | wal::Datum::Binary(_)) => panic!("{other:?}"),
                    });
                    let (Some(value), Some(key)) = (numbers.next(), numbers.next()) else {
                        panic!("two columns")
                    };
                    let value: usize = value;
                    self.log.push((u8::try_from(key).expect("small"), Some(value), value));
                }
                self.ticket += 1;
                self.chunk += 1;
                self.step = 0;
            }
        }
        Some(())
    }

    /// Two worlds of one name go on alike.
    fn name(&self) -> String {
        let Self { writers, wal, routed, chunk, step, high, log, retries, merge, .. } = self;
        let snapshot = self.snapshot.as_ref().map(|(_, seen, _)| seen);
        format!(
            "{writers:?}{wal:?}{routed}{chunk}{step}{high}{log:?}{retries}{snapshot:?}{merge:?}"
        )
    }

    /// What is wrong with what the consumer got.
    fn judge(&self) -> Result<(), String> {
        let place = |xid: usize| self.wal.iter().position(|it| *it == xid).map_or(0, |it| it + 1);
        let (mut newest, mut rows): (BTreeMap<u8, usize>, Rows) = Default::default();
        for &(key, state, by) in &self.log {
            for key in if key == 0 { vec![1, 2] } else { vec![key] } {
                let before = newest.insert(key, place(by)).unwrap_or_default();
                if place(by) < before {
                    return Err(format!("row {key}: an older state after a newer one"));
                }
                match state {
                    Some(state) => drop(rows.insert(key, state)),
                    None => drop(rows.remove(&key)),
                }
            }
        }
        let expected = self.rows_of(|_| true);
        if rows == expected { Ok(()) } else { Err(format!("{rows:?} instead of {expected:?}")) }
    }
}

/// Walks through every interleaving. Gives their number, or the first that goes wrong.
fn explore(acts: &[Act], bug: Bug) -> Result<usize, String> {
    let (mut seen, mut ends) = (HashSet::new(), 0);
    let mut waiting = vec![World::new(acts, bug)];
    while let Some(world) = waiting.pop() {
        if 3 < world.retries || !seen.insert(world.name()) {
            continue;
        }
        let next = world.next();
        if next.is_empty() {
            let told = || format!("{:?} {acts:?}: WAL {:?}, got {:?}", bug, world.wal, world.log);
            if world.chunk < CHUNKS.len() {
                return Err(format!("it hangs at step {}: {}", world.step, told()));
            }
            world.judge().map_err(|wrong| format!("{wrong}: {}", told()))?;
            ends += 1;
        }
        waiting.extend(next);
    }
    Ok(ends)
}

/// Histories that have what is hard: key changes into and out of what was read, a row that goes and
/// comes back, truncates.
const HISTORIES: [&[Act]; 8] = [
    &[Act::Put(1), Act::Put(1)],
    &[Act::Delete(1), Act::Put(1)],
    &[Act::Put(2), Act::Delete(2)],
    &[Act::Move(1, 3), Act::Put(2)],
    &[Act::Delete(2), Act::Move(1, 2)],
    &[Act::Delete(1), Act::Move(2, 1)],
    &[Act::Truncate, Act::Put(1)],
    &[Act::Put(1), Act::Truncate],
];

#[test]
fn no_interleaving_goes_wrong() {
    for acts in HISTORIES {
        let ends = explore(acts, Bug::None).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert!(20 < ends, "{acts:?}: {ends}");
    }
}

#[test]
fn a_window_that_is_opened_late_is_made_up_for_by_the_dirty_check() {
    for acts in HISTORIES {
        assert!(explore(acts, Bug::LateWindow).is_ok(), "{acts:?}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in [
        Bug::NoDirtyCheck,
        Bug::NoHighMark,
        Bug::EarlyHighMark,
        Bug::NothingNoted,
        Bug::OldKeysForgotten,
        Bug::TruncatesForgotten,
    ] {
        let found = HISTORIES.iter().any(|acts| explore(acts, bug).is_err());
        assert!(found, "{bug:?} was not found");
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u8..=2).prop_map(Act::Put),
        2 => (1u8..=2).prop_map(Act::Delete),
        2 => prop_oneof![Just(Act::Move(1, 2)), Just(Act::Move(2, 1))],
        1 => Just(Act::Truncate),
    ]
}

/// A move onto a row that is there would break its key.
fn is_possible(acts: &[Act]) -> bool {
    !acts.iter().any(|it| matches!(it, Act::Move(..)))
}

/// One way through, chosen at random.
fn walk(acts: &[Act], choices: &[u8]) -> Result<(), String> {
    let mut world = World::new(acts, Bug::None);
    let mut choices = choices.iter().cycle();
    for _ in 0..10_000 {
        let mut next = world.next();
        if next.is_empty() {
            return world.judge();
        }
        let choice = choices.next().copied().unwrap_or_default();
        world = next.swap_remove(usize::from(choice) % next.len());
        world.retries = 0;
    }
    Err("it does not end".into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn longer_histories_do_not_go_wrong(
        acts in prop::collection::vec(act(), 1..8).prop_filter("keys are kept", |it| is_possible(it)),
        choices in prop::collection::vec(any::<u8>(), 200)
    ) {
        prop_assert_eq!(walk(&acts, &choices), Ok(()));
    }
}
