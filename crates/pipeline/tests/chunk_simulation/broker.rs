//! A model of what lanes rest on in Kafka: producer epochs, open transactions, fences, commit requests that
//! come late. Beside the model of `simulation.rs` it knows what records say and which chunk their rows are
//! of; whether a commit is taken for clean is not asked here, but given.

use super::Bug;
use super::postgres::{Key, Row};
use crate::bench::broker::{FENCES_MAX, checkpoint, fenced, unreachable, verify};
use kafka::checkpoint::Checkpoint;
use kafka::meta::Watermark;
use kafka::sink::{CommitPoint, Committed, LaneSink, Opened};
use pipeline::chunk::copy::{Range, Record as CopyRecord};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use record::Record;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use wal::{Lsn, Position};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    Read(Row),
    /// `text`: not where it was not sent.
    Put {
        text: Option<u32>,
        version: u32,
    },
    Deleted,
    Truncated,
}

/// A record that a reader with `read_committed` sees.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Of what the stream says: its place, and which part of its change it is.
    pub(crate) at: (Position, u64),
    /// `None`: all rows.
    pub(crate) key: Option<Key>,
    pub(crate) said: Said,
    /// The chunk that the row is of.
    pub(crate) chunk: Option<String>,
}

/// A checkpoint that became visible, and the chunks whose rows became visible with it.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) chunks: Vec<Option<String>>,
}

#[derive(Debug, Default)]
pub(crate) struct LaneLog {
    epoch: i64,
    /// Of the open transaction.
    open: Vec<(i32, Seen)>,
    open_checkpoint: Option<Checkpoint>,
    /// Next offset in the lane's partition of the checkpoint topic.
    offset: i64,
    pub(crate) commits: Vec<Commit>,
    /// Records that became visible without a checkpoint.
    pub(crate) uncovered: usize,
    /// Epochs of commit requests that are still on their way.
    late: Vec<i64>,
}

impl LaneLog {
    /// Chunks that the lane holds.
    pub(crate) fn held(&self) -> &[String] {
        self.commits.last().map_or(&[], |it| &it.checkpoint.snap)
    }
}

/// What is copied: the snapshot's name, and the table's record.
pub(crate) type Plan = (String, CopyRecord);

/// The meta lane.
#[derive(Debug)]
pub(crate) struct MetaLog {
    /// Number of the process that owns the task.
    pub(crate) owner: u64,
    pub(crate) watermark: Watermark,
    pub(crate) plan: Plan,
    /// By the name of a chunk, the ranges that ever were recorded for it.
    pub(crate) ranges: BTreeMap<String, Vec<Range>>,
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) lanes: Vec<LaneLog>,
    pub(crate) meta: MetaLog,
    /// What a reader with `read_committed` sees in each partition.
    pub(crate) partitions: Vec<Vec<Seen>>,
    rng: SmallRng,
    /// Percent of the calls that go wrong.
    pub(crate) trouble: u32,
    bug: Option<Bug>,
}

pub(crate) type Shared = Arc<Mutex<Broker>>;

pub(crate) fn lock(broker: &Shared) -> MutexGuard<'_, Broker> {
    broker.lock().expect("no call panicked")
}

impl Broker {
    pub(crate) fn shared(
        lanes: u8,
        partitions: i32,
        meta: MetaLog,
        seed: u64,
        bug: Option<Bug>,
    ) -> Shared {
        let lanes = (0..lanes).map(|_| LaneLog::default()).collect();
        let partitions = (0..partitions).map(|_| Vec::new()).collect();
        let mut rng = SmallRng::seed_from_u64(seed);
        let trouble = rng.random_range(0..12);
        Arc::new(Mutex::new(Self { lanes, meta, partitions, rng, trouble, bug }))
    }

    /// Ends the open transaction of a lane.
    fn commit(&mut self, lane: u8) {
        let log = &mut self.lanes[usize::from(lane)];
        if log.open_checkpoint.is_none() {
            log.uncovered += log.open.len();
        }
        let mut chunks = Vec::new();
        for (partition, seen) in log.open.drain(..) {
            if let Said::Read(_) = seen.said {
                chunks.push(seen.chunk.clone());
            }
            self.partitions[usize::try_from(partition).expect("a partition")].push(seen);
        }
        let checkpoint = log.open_checkpoint.take();
        log.commits.extend(checkpoint.map(|checkpoint| Commit { checkpoint, chunks }));
    }

    fn is_trouble(&mut self) -> bool {
        self.rng.random_range(0..100) < self.trouble
    }

    /// A late commit request arrives: it ends whatever transaction its epoch has open.
    pub(crate) fn deliver_late(&mut self, lane: usize) {
        let log = &mut self.lanes[lane];
        if let Some(epoch) = log.late.pop()
            && epoch == log.epoch
        {
            self.commit(u8::try_from(lane).expect("few lanes"));
        }
    }

    /// A commit request of the present epoch of a lane, as its client sees it. `true`: clean.
    fn request_commit(&mut self, lane: u8, epoch: i64) -> Result<bool, kafka::Error> {
        let trouble = self.is_trouble();
        let kind = if trouble { self.rng.random_range(0..5) } else { 5 };
        let late = &mut self.lanes[usize::from(lane)].late;
        match kind {
            // Nobody heard of it.
            0 => return Err(unreachable()),
            // It is under way for long.
            1 => {
                late.push(epoch);
                return Err(unreachable());
            }
            // It was applied, and the answer lost.
            2 => {
                self.commit(lane);
                return Err(unreachable());
            }
            // It was sent again in silence, and the first copy is still under way.
            3 => late.push(epoch),
            // Slow, or not even that.
            _ => {}
        }
        self.commit(lane);
        Ok(kind == 5)
    }

    /// A process writes into the meta lane; refused once another one owns the task.
    pub(crate) fn write_meta(
        &mut self,
        process: u64,
        write: impl FnOnce(&mut MetaLog),
    ) -> Result<(), kafka::Error> {
        if process != self.meta.owner {
            return Err(fenced("meta".into()));
        }
        let (fails, arrives) = (self.is_trouble(), self.rng.random());
        if !fails || arrives {
            write(&mut self.meta);
        }
        if fails { Err(unreachable()) } else { Ok(()) }
    }
}

/// A producer of one lane and epoch.
pub(crate) struct Sink {
    broker: Shared,
    lane: u8,
    epoch: i64,
    term: i64,
    last: Option<Checkpoint>,
    chunks: Vec<String>,
    dirty: bool,
}

/// Opens a lane as `kafka::open` does: the older epoch is fenced, its transaction aborted, a fence committed
/// clean, the checkpoint read.
pub(crate) fn open(broker: &Shared, lane: u8) -> Result<(Box<dyn LaneSink>, Opened), kafka::Error> {
    let mut held = lock(broker);
    let forgets = held.bug == Some(Bug::HeldForgotten);
    for _ in 0..FENCES_MAX {
        if held.is_trouble() {
            return Err(unreachable());
        }
        let log = &mut held.lanes[usize::from(lane)];
        log.epoch += 1;
        log.open.clear();
        log.open_checkpoint = None;
        let (epoch, term) = (log.epoch, log.offset);
        log.offset += 1;
        if !held.request_commit(lane, epoch)? {
            continue;
        }
        let commits = &held.lanes[usize::from(lane)].commits;
        let last = commits.last().map(|it| it.checkpoint.clone());
        let mut checkpoint = last.clone();
        if let Some(checkpoint) = checkpoint.as_mut().filter(|_| forgets) {
            checkpoint.snap.clear();
        }
        let chunks = last.as_ref().map(|it| it.snap.clone()).unwrap_or_default();
        let broker = Arc::clone(broker);
        let sink = Sink { broker, lane, epoch, term, last, chunks, dirty: false };
        return Ok((Box::new(sink), Opened { term, checkpoint }));
    }
    Err(unreachable())
}

impl Sink {
    /// The lane's log, unless a newer owner has fenced this one.
    fn reach<'a>(&self, broker: &'a mut Broker) -> Result<&'a mut LaneLog, kafka::Error> {
        let log = &mut broker.lanes[usize::from(self.lane)];
        if self.dirty {
            return Err(kafka::Error::Dirty);
        }
        if log.epoch != self.epoch {
            return Err(fenced(format!("lane {}", self.lane)));
        }
        Ok(log)
    }

    fn next(&self, point: &CommitPoint, is_marked: bool) -> Checkpoint {
        let next = checkpoint(self.lane, self.term, self.last.as_ref(), point);
        Checkpoint { snap: if is_marked { self.chunks.clone() } else { Vec::new() }, ..next }
    }
}

impl LaneSink for Sink {
    /// The rows that were sent since the last mark are of the chunk that is marked now.
    fn note_chunks(&mut self, chunks: &[String]) {
        self.chunks = chunks.into();
        let mut broker = lock(&self.broker);
        let Ok(log) = self.reach(&mut broker) else { return };
        let of_chunk = |it: &&mut (i32, Seen)| matches!(it.1.said, Said::Read(_));
        for (_, seen) in log.open.iter_mut().filter(of_chunk).filter(|it| it.1.chunk.is_none()) {
            seen.chunk = chunks.last().cloned();
        }
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), kafka::Error> {
        let mut broker = lock(&self.broker);
        let fails = broker.rng.random_range(0..400) < broker.trouble;
        let arrives = broker.rng.random();
        let log = self.reach(&mut broker)?;
        if !fails || arrives {
            log.open.push((record.partition, seen(record)));
        }
        if fails { Err(unreachable()) } else { Ok(()) }
    }

    fn poll(&mut self) -> Result<(), kafka::Error> {
        Ok(())
    }

    fn pending(&self) -> u64 {
        0
    }

    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, kafka::Error> {
        let mut broker = lock(&self.broker);
        let is_marked = broker.bug != Some(Bug::NotMarked);
        let log = self.reach(&mut broker)?;
        let next = self.next(point, is_marked);
        verify(self.lane, self.last.as_ref(), &next)?;
        log.open_checkpoint = Some(next.clone());
        log.offset += 1;
        let clean = broker.request_commit(self.lane, self.epoch)?;
        let txn_seq = next.txn_seq;
        self.last = Some(next);
        self.dirty = !clean;
        Ok(Committed { clean, txn_seq })
    }
}

/// What a record says, in Debezium's JSON.
fn seen(record: &Record<'_>) -> Seen {
    let header = |name: &str| {
        let found = record.headers.iter().find(|(header, _)| *header == name)?;
        Some(std::str::from_utf8(found.1).expect("text"))
    };
    let commit_lsn: Lsn =
        header("distributary.lsn").and_then(|it| it.parse().ok()).expect("an LSN");
    let seq = header("distributary.seq").unwrap_or("0");
    let (ordinal, part) = seq.split_once('.').unwrap_or((seq, "0"));
    let number = |text: &str| text.parse().expect("a number");
    let at = (Position { commit_lsn, ordinal: number(ordinal) }, number(part));
    let text = |bytes| std::str::from_utf8(bytes).expect("text");
    let key = record.key.and_then(|it| member(text(it), "id"));
    let key = key.map(|it| Key::try_from(it).expect("a key"));
    let value = text(record.value.expect("no tombstones"));
    let after = || value.split_once("\"after\":").expect("a row").1;
    let version = || member(after(), "version").expect("a version");
    let operation = value.split_once("\"op\":\"").expect("an operation").1;
    let said = match operation.as_bytes()[0] {
        b'r' => Said::Read(Row { version: version(), text: member(after(), "text").expect("all") }),
        b'c' | b'u' => Said::Put { version: version(), text: member(after(), "text") },
        b'd' => Said::Deleted,
        b't' => Said::Truncated,
        other => panic!("an operation {other}"),
    };
    Seen { at, key, said, chunk: None }
}

/// A member of the first object of a JSON text; `None`: it is no number.
fn member(text: &str, name: &str) -> Option<u32> {
    let rest = text.split_once(&format!("\"{name}\":"))?.1;
    let end = rest.find(|it: char| !it.is_ascii_digit())?;
    rest[..end].parse().ok()
}
