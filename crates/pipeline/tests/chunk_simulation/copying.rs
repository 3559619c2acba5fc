//! The stage that copies, as `pipeline::copying` drives it: connections that read chunks, what is written
//! down, what is emitted and not settled. Which parts are read is up to the real [`Copy`].

use super::Bug;
use super::broker::Plan;
use super::postgres::{self, Key, OID, Rows, Server, Snapshot};
use pipeline::chunk::copy::{Copy, Range, Record, Work};
use pipeline::chunk::merge::{Marked, Merge, Ticket};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use wal::copy::SnapshotBatch;
use wal::{ChangeBatch, Lsn};

/// Connections.
pub(crate) const READERS: usize = 3;

#[derive(Clone, Debug)]
enum Job {
    /// Find the last key.
    Begin,
    Work(Work),
}

/// How far a connection is with its job.
#[derive(Debug)]
enum Stage {
    /// The window is open. `early`: the end of the WAL then.
    Opened { early: Lsn },
    /// The table is locked, the snapshot taken.
    Looked { snapshot: Snapshot, early: Lsn },
    /// The snapshot sees what was routed.
    Marked { snapshot: Snapshot },
    /// What was read is being written down; rows are emitted then.
    Saving { version: u64, emission: Option<Box<Emission>> },
}

#[derive(Debug)]
struct Reader {
    job: Job,
    epoch: u64,
    ticket: Ticket,
    stage: Stage,
}

/// The rows of a chunk.
#[derive(Debug)]
pub(crate) struct Emission {
    pub(crate) ticket: Ticket,
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) files: String,
    pub(crate) batch: ChangeBatch,
    pub(crate) is_redo: bool,
}

/// What a step of a connection asks of who drives it.
pub(crate) enum Asked {
    Nothing,
    Emit(Box<Emission>),
    /// The snapshot did not see what was routed.
    Dirty,
    /// The table was rewritten.
    BegunAgain,
}

#[derive(Debug)]
pub(crate) struct Copying {
    pub(crate) name: String,
    pub(crate) copy: Copy,
    /// Somebody looks for the last key.
    beginning: bool,
    readers: [Option<Reader>; READERS],
    /// By the number of their batch: epoch and number of chunks that are not known to be durable.
    pub(crate) emitted: BTreeMap<u64, (u64, u64)>,
    ticket: Ticket,
    /// Changes so far, and how many of them are written down.
    version: u64,
    saved: u64,
    /// A record is on its way.
    pub(crate) is_saving: bool,
    /// Chunks that are open by what is written down.
    open: Vec<u64>,
    bug: Option<Bug>,
}

impl Copying {
    pub(crate) fn restored((name, mut record): Plan, bug: Option<Bug>) -> Self {
        if bug == Some(Bug::NumberedAnew) {
            let chunks = std::mem::take(&mut record.chunks);
            record.segments.extend(chunks.into_values());
        }
        let copy = Copy::restored(record);
        Self {
            name,
            open: copy.open().collect(),
            copy,
            beginning: false,
            readers: [const { None }; READERS],
            emitted: BTreeMap::new(),
            ticket: 0,
            version: 0,
            saved: 0,
            is_saving: false,
            bug,
        }
    }

    /// Everything is durable, and that is written down.
    pub(crate) fn is_done(&self) -> bool {
        self.copy.is_done() && self.saved == self.version
    }

    /// Whether a connection holds the lock of the table.
    pub(crate) fn holds(&self) -> bool {
        let locks = |it: &Reader| matches!(it.stage, Stage::Looked { .. } | Stage::Marked { .. });
        self.readers.iter().flatten().any(locks)
    }

    fn change(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The next record to be written down, one at a time, with what it says of open chunks.
    pub(crate) fn save(&mut self) -> Option<(u64, Plan)> {
        if self.is_saving || self.saved == self.version {
            return None;
        }
        self.is_saving = true;
        Some((self.version, (self.name.clone(), self.copy.record())))
    }

    /// It is written down.
    pub(crate) fn has_saved(&mut self, version: u64, record: &Record) {
        self.is_saving = false;
        self.saved = version;
        self.open = record.chunks.keys().copied().collect();
    }

    /// Names of the chunks that may have to be written again by what is written down.
    pub(crate) fn open(&self, own: u64) -> Vec<String> {
        let own = [own];
        let numbers = if self.bug == Some(Bug::OpenForgotten) { &own[..] } else { &self.open };
        numbers.iter().map(|number| format!("{}/{number}", self.name)).collect()
    }

    /// Every batch up to `seq` is durable in every lane.
    pub(crate) fn settle(&mut self, seq: u64) {
        let later = self.emitted.split_off(&(seq + 1));
        for (epoch, number) in std::mem::replace(&mut self.emitted, later).into_values() {
            self.settled(epoch, number);
        }
    }

    pub(crate) fn settled(&mut self, epoch: u64, number: u64) {
        if self.copy.epoch() == epoch {
            self.copy.settled(number);
        }
        self.change();
    }

    /// The rows of a chunk could not be merged.
    pub(crate) fn again(&mut self, epoch: u64, number: u64) {
        if self.copy.epoch() == epoch {
            self.copy.redo(number);
        }
    }

    fn take(&mut self) -> Option<Job> {
        if self.copy.is_done() {
            return None;
        }
        if !self.copy.files().is_empty() {
            return self.copy.take().map(Job::Work);
        }
        (!std::mem::replace(&mut self.beginning, true)).then_some(Job::Begin)
    }

    fn give_back(&mut self, reader: Reader, merge: &mut Merge) {
        merge.close(reader.ticket);
        if self.copy.epoch() == reader.epoch {
            match reader.job {
                Job::Begin => self.beginning = false,
                Job::Work(work) => self.copy.give_back(work),
            }
        }
    }

    /// A connection breaks; what it had to do is given back, unless it was done but for writing it down.
    pub(crate) fn lose(&mut self, number: usize, merge: &mut Merge) {
        let is_reading = |it: &mut Reader| !matches!(it.stage, Stage::Saving { .. });
        if let Some(reader) = self.readers[number].take_if(is_reading) {
            self.give_back(reader, merge);
        }
    }

    /// A connection goes on. `routed_to`: what commits before was routed.
    pub(crate) fn step(
        &mut self,
        number: usize,
        server: &Server,
        merge: &mut Merge,
        rng: &mut SmallRng,
        routed_to: Lsn,
    ) -> Asked {
        let Some(Reader { job, epoch, ticket, stage }) = self.readers[number].take() else {
            self.begin_job(number, server.end, merge);
            return Asked::Nothing;
        };
        let reader = |stage| Some(Reader { job: job.clone(), epoch, ticket, stage });
        match stage {
            Stage::Opened { .. } if server.is_truncated_now() => {
                // The lock is not to be had.
                self.give_back(Reader { job, epoch, ticket, stage }, merge);
                Asked::Nothing
            }
            Stage::Opened { early } => {
                self.readers[number] = reader(Stage::Looked { snapshot: server.look(), early });
                Asked::Nothing
            }
            Stage::Looked { snapshot, early } => {
                let reader = Reader { job, epoch, ticket, stage: Stage::Opened { early } };
                let high = match self.bug {
                    Some(Bug::HighIgnored) => Lsn::ZERO,
                    Some(Bug::HighTooEarly) => early,
                    _ => server.end,
                };
                self.judge(number, reader, snapshot, high, merge, rng, routed_to)
            }
            Stage::Marked { snapshot } => {
                let Job::Work(work) = job else { return Asked::Nothing };
                self.collect(number, &work, (epoch, ticket), &snapshot, merge, rng)
            }
            Stage::Saving { version, emission } if version <= self.saved => {
                emission.map_or(Asked::Nothing, Asked::Emit)
            }
            Stage::Saving { version, emission } => {
                self.readers[number] = reader(Stage::Saving { version, emission });
                Asked::Nothing
            }
        }
    }

    /// For the trace of a schedule.
    pub(crate) fn tell(&self, number: usize) -> String {
        let Some(Reader { job, ticket, stage, .. }) = &self.readers[number] else {
            return "is free".into();
        };
        let stage = match stage {
            Stage::Opened { .. } => "has opened its window".into(),
            Stage::Looked { snapshot, .. } => format!("has snapshot {}", snapshot.visibility),
            Stage::Marked { .. } => "is clean".into(),
            Stage::Saving { version, .. } => format!("waits until {version} is written down"),
        };
        format!("window {ticket} {stage}, {job:?}")
    }

    fn begin_job(&mut self, number: usize, early: Lsn, merge: &mut Merge) {
        let Some(job) = self.take() else { return };
        let (epoch, ticket) = (self.copy.epoch(), self.ticket);
        self.ticket += 1;
        merge.open(ticket, OID, vec!["id".into()]);
        self.readers[number] = Some(Reader { job, epoch, ticket, stage: Stage::Opened { early } });
    }

    /// What the snapshot is good for.
    #[expect(clippy::too_many_arguments, reason = "all that a connection has in hand")]
    fn judge(
        &mut self,
        number: usize,
        reader: Reader,
        snapshot: Snapshot,
        high: Lsn,
        merge: &mut Merge,
        rng: &mut SmallRng,
        routed_to: Lsn,
    ) -> Asked {
        let Reader { job, epoch, ticket, stage } = reader;
        if self.copy.epoch() != epoch {
            merge.close(ticket);
            return Asked::Nothing;
        }
        if self.copy.files() != snapshot.files.to_string() {
            merge.close(ticket);
            let again = !self.copy.files().is_empty();
            self.beginning = false;
            let last = snapshot.rows.keys().last().copied().map(text);
            self.copy.begin(vec!["id".into()], snapshot.files.to_string(), last);
            let version = self.change();
            let stage = Stage::Saving { version, emission: None };
            self.readers[number] = Some(Reader { job, epoch, ticket, stage });
            return if again { Asked::BegunAgain } else { Asked::Nothing };
        }
        match &job {
            Job::Begin => {
                self.give_back(Reader { job, epoch, ticket, stage }, merge);
                return Asked::Nothing;
            }
            Job::Work(Work::Cut(range)) => {
                merge.close(ticket);
                let rows = rng.random_range(1..4);
                self.copy.cut(within(range, &snapshot.rows).nth(rows).map(text));
                self.change();
                return Asked::Nothing;
            }
            Job::Work(Work::Read(_) | Work::Redo(..)) => {}
        }
        if self.bug == Some(Bug::DirtyIgnored) {
            *merge = Merge::default();
            merge.route(&idle(routed_to));
            merge.open(ticket, OID, vec!["id".into()]);
        }
        match merge.mark(ticket, snapshot.visibility.clone(), high) {
            Marked::Clean => {
                let stage = Stage::Marked { snapshot };
                self.readers[number] = Some(Reader { job, epoch, ticket, stage });
                Asked::Nothing
            }
            Marked::Dirty => {
                self.give_back(Reader { job, epoch, ticket, stage }, merge);
                Asked::Dirty
            }
        }
    }

    /// Reads the rows. A new chunk is written down before they are emitted.
    fn collect(
        &mut self,
        number: usize,
        work: &Work,
        (epoch, ticket): (u64, Ticket),
        snapshot: &Snapshot,
        merge: &mut Merge,
        rng: &mut SmallRng,
    ) -> Asked {
        let emission = |number, files: &str, rows: &[(Key, postgres::Row)], is_redo| {
            let (files, batch) = (files.to_owned(), read(rows));
            Box::new(Emission { ticket, epoch, number, files, batch, is_redo })
        };
        let (Work::Cut(range) | Work::Read(range) | Work::Redo(_, range)) = work;
        let is_redo = matches!(work, Work::Redo(..));
        let widened = Range { after: None, upto: range.upto.clone() };
        let is_widened = is_redo && self.bug == Some(Bug::RangeWidened);
        let wanted = if is_widened { &widened } else { range };
        let all: Vec<_> =
            within(wanted, &snapshot.rows).map(|key| (key, snapshot.rows[&key])).collect();
        if let Work::Redo(chunk, _) = work {
            return Asked::Emit(emission(*chunk, self.copy.files(), &all, true));
        }
        if self.copy.epoch() != epoch {
            merge.close(ticket);
            return Asked::Nothing;
        }
        let rows = &all[..all.len().min(rng.random_range(1..3))];
        let upto = rows.last().filter(|_| rows.len() < all.len() || rng.random());
        let count = rows.len() as u64;
        let chunk = self.copy.read(range, upto.map(|it| text(it.0)), count, count);
        if rows.is_empty() {
            merge.close(ticket);
            self.copy.settled(chunk);
            self.change();
            return Asked::Nothing;
        }
        let version = self.change();
        let emission = emission(chunk, self.copy.files(), rows, false);
        if self.bug == Some(Bug::EmittedFirst) {
            return Asked::Emit(emission);
        }
        let (job, emission) = (Job::Work(work.clone()), Some(emission));
        let stage = Stage::Saving { version, emission };
        self.readers[number] = Some(Reader { job, epoch, ticket, stage });
        Asked::Nothing
    }
}

/// A keepalive.
pub(crate) fn idle(until: Lsn) -> ChangeBatch {
    ChangeBatch { idle_until: Some(until), ends_transaction: true, ..ChangeBatch::default() }
}

fn text(key: Key) -> Vec<Box<str>> {
    vec![key.to_string().into()]
}

fn number(key: &[Box<str>]) -> Key {
    key.concat().parse().expect("a key")
}

/// Whether a range has a key.
pub(crate) fn has(range: &Range, key: Key) -> bool {
    range.after.as_ref().is_none_or(|it| number(it) < key) && key <= number(&range.upto)
}

fn within<'a>(range: &'a Range, rows: &'a Rows) -> impl Iterator<Item = Key> + 'a {
    rows.keys().copied().filter(|key| has(range, *key))
}

/// Rows as COPY tells them.
fn read(rows: &[(Key, postgres::Row)]) -> ChangeBatch {
    let mut batch = SnapshotBatch::new(postgres::table(), Lsn::ZERO, 0, 0);
    for (key, row) in rows {
        let line = format!("{key}\t{}\t{}\n", row.version, row.text);
        batch.push(line.as_bytes()).expect("a row");
    }
    batch.take()
}
