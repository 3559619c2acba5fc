//! A model of what lanes rest on in Kafka: producer epochs, open transactions, fences, commit requests
//! that come late. How an owner judges its commits is the real rule.

use super::Bug;
use crate::bench::broker::{FENCES_MAX, checkpoint, fenced, unreachable, verify};
use kafka::checkpoint::Checkpoint;
use kafka::clean_commit::{Snapshot, Verdict, judge_duration, judge_statistics};
use kafka::meta::{Revision, Watermark};
use kafka::sink::{CommitPoint, Committed, LaneSink, Opened};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use record::Record;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use wal::{Lsn, Position};

/// The library waits at least so long before it sends a request again: its back-off less the jitter.
const RETRY_MIN_MS: u64 = 800;

/// A record that a reader with `read_committed` sees, by its place in the source, and who wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) at: Position,
    pub(crate) lane: u8,
    pub(crate) revision: u64,
}

/// A checkpoint that became visible, and the newest fence that was visible before.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) fence: i64,
}

#[derive(Debug, Default)]
pub(crate) struct LaneLog {
    epoch: i64,
    /// Of the open transaction.
    open: Vec<(Position, i32)>,
    open_checkpoint: Option<Checkpoint>,
    open_fence: Option<i64>,
    /// Next offset in the lane's partition of the checkpoint topic.
    offset: i64,
    fence: i64,
    pub(crate) commits: Vec<Commit>,
    /// Events that became visible without a checkpoint.
    pub(crate) uncovered: usize,
    /// Records that were ever sent.
    pub(crate) sent: u64,
    /// Epochs of commit requests that are still on their way.
    late: Vec<i64>,
}

/// The meta lane: who owns the task, and its low watermark.
#[derive(Debug)]
pub(crate) struct MetaLog {
    pub(crate) owner: u64,
    pub(crate) watermark: Watermark,
    pub(crate) revision: Revision,
    /// Who wrote it, and who owned the task then.
    pub(crate) written: (u64, u64),
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) lanes: Vec<LaneLog>,
    pub(crate) meta: MetaLog,
    /// What a reader with `read_committed` sees in each partition.
    pub(crate) partitions: Vec<Vec<Seen>>,
    pub(crate) rng: SmallRng,
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
        let trouble = rng.random_range(0..16);
        Arc::new(Mutex::new(Self { lanes, meta, partitions, rng, trouble, bug }))
    }

    /// Ends the open transaction of a lane.
    fn commit(&mut self, lane: u8) {
        let log = &mut self.lanes[usize::from(lane)];
        let last = log.commits.last().map(|it| it.checkpoint.rev);
        let revision = log.open_checkpoint.as_ref().map(|it| it.rev).or(last).unwrap_or_default();
        if log.open_checkpoint.is_none() {
            log.uncovered += log.open.len();
        }
        for (at, partition) in log.open.drain(..) {
            let partition = usize::try_from(partition).expect("a partition");
            self.partitions[partition].push(Seen { at, lane, revision });
        }
        let fence = log.fence;
        log.commits
            .extend(log.open_checkpoint.take().map(|checkpoint| Commit { checkpoint, fence }));
        log.fence = log.open_fence.take().unwrap_or(fence);
    }

    pub(crate) fn is_trouble(&mut self) -> bool {
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
        let kind = if trouble { self.rng.random_range(0..6) } else { 6 };
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
            3 | 4 => late.push(epoch),
            // Slow, or not even that.
            _ => {}
        }
        self.commit(lane);
        let repeated = kind < 5;
        let took = match kind {
            0..5 => self.rng.random_range(RETRY_MIN_MS..20_000),
            5 => self.rng.random_range(0..20_000),
            _ => self.rng.random_range(0..RETRY_MIN_MS - 100),
        };
        Ok(self.is_clean(Duration::from_millis(took), repeated)
            || self.bug == Some(Bug::DirtyIgnored))
    }

    /// As the producer asks the real rule: first by the time it took, then by each statistics document
    /// that comes. The first one may have been made while the commit was under way.
    fn is_clean(&mut self, took: Duration, repeated: bool) -> bool {
        match judge_duration(took) {
            Verdict::Clean => return true,
            Verdict::Dirty => return false,
            Verdict::WaitForStatistics => {}
        }
        let since = Duration::from_millis(self.rng.random_range(0..5_000));
        let returned = since + took;
        let counter = self.rng.random_range(0..3);
        let before = statistics(since, false, counter);
        let documents = [
            self.rng.random_bool(0.5).then(|| statistics(returned - took / 2, false, counter)),
            self.rng
                .random_bool(0.9)
                .then(|| statistics(returned + Duration::from_millis(250), repeated, counter)),
        ];
        // A planted fault: the age of a document is not looked at.
        let returned = if self.bug == Some(Bug::OldStatistics) { Duration::ZERO } else { returned };
        for after in documents.iter().flatten() {
            match judge_statistics(before.as_ref(), returned, after.as_ref()) {
                Verdict::WaitForStatistics => {}
                Verdict::Clean => return true,
                Verdict::Dirty => return false,
            }
        }
        false
    }

    /// The watermark of a process; refused once another one owns the task.
    pub(crate) fn write_watermark(
        &mut self,
        process: u64,
        watermark: Watermark,
    ) -> Result<(), kafka::Error> {
        if process != self.meta.owner && self.bug != Some(Bug::OlderProcessObeyed) {
            return Err(fenced("meta".into()));
        }
        let (fails, arrives) = (self.is_trouble(), self.rng.random());
        if !fails || arrives {
            self.meta.watermark = watermark;
            self.meta.written = (process, self.meta.owner);
        }
        if fails { Err(unreachable()) } else { Ok(()) }
    }

    /// The revision of a process, with its marks; refused as a watermark is.
    pub(crate) fn write_revision(
        &mut self,
        process: u64,
        revision: Revision,
    ) -> Result<(), kafka::Error> {
        if process != self.meta.owner {
            return Err(fenced("meta".into()));
        }
        let (fails, arrives) = (self.is_trouble(), self.rng.random());
        if !fails || arrives {
            self.meta.revision = revision;
        }
        if fails { Err(unreachable()) } else { Ok(()) }
    }
}

/// The library's statistics: one counter moves where a request was sent again.
fn statistics(age: Duration, repeated: bool, counter: usize) -> Option<Snapshot> {
    let name = ["req_timeouts", "txretries", "disconnects"][counter];
    let (age, count) = (age.as_micros(), u8::from(repeated));
    let json = format!(r#"{{"age":{age},"brokers":{{"k1:9092/1":{{"{name}":{count}}}}}}}"#);
    Snapshot::parse(json.as_bytes())
}

/// A producer of one lane and epoch.
pub(crate) struct Sink {
    broker: Shared,
    lane: u8,
    revision: u64,
    epoch: i64,
    term: i64,
    last: Option<Checkpoint>,
    dirty: bool,
}

/// Opens a lane as `kafka::open` does: the older epoch is fenced, its transaction aborted, a fence
/// committed clean, the checkpoint read.
pub(crate) fn open(
    broker: &Shared,
    lane: u8,
    revision: u64,
) -> Result<(Box<dyn LaneSink>, Opened), kafka::Error> {
    let mut held = lock(broker);
    let forgets = held.bug == Some(Bug::CheckpointIgnored);
    for _ in 0..FENCES_MAX {
        if held.is_trouble() {
            return Err(unreachable());
        }
        let log = &mut held.lanes[usize::from(lane)];
        log.epoch += 1;
        log.open.clear();
        log.open_checkpoint = None;
        let (epoch, term) = (log.epoch, log.offset);
        log.open_fence = Some(term);
        log.offset += 1;
        if !held.request_commit(lane, epoch)? {
            continue;
        }
        let last = held.lanes[usize::from(lane)].commits.last().map(|it| it.checkpoint.clone());
        let last = last.filter(|_| !forgets);
        let opened = Opened { term, checkpoint: last.clone() };
        let broker = Arc::clone(broker);
        let sink = Sink { broker, lane, revision, epoch, term, last, dirty: false };
        return Ok((Box::new(sink), opened));
    }
    Err(unreachable())
}

impl Sink {
    /// The lane's log, unless a newer owner has fenced this one.
    fn reach<'a>(&self, broker: &'a mut Broker) -> Result<&'a mut LaneLog, kafka::Error> {
        let unfenced = broker.bug == Some(Bug::NoFencing);
        let log = &mut broker.lanes[usize::from(self.lane)];
        if self.dirty {
            return Err(kafka::Error::Dirty);
        }
        if log.epoch != self.epoch && !unfenced {
            return Err(fenced(format!("lane {}", self.lane)));
        }
        Ok(log)
    }

    fn next(&self, point: &CommitPoint) -> Checkpoint {
        let next = checkpoint(self.lane, self.term, self.last.as_ref(), point);
        Checkpoint { rev: self.revision, ..next }
    }
}

impl LaneSink for Sink {
    fn note_chunks(&mut self, chunks: &[String]) {
        assert!(chunks.is_empty(), "no snapshot runs here");
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), kafka::Error> {
        let mut broker = lock(&self.broker);
        let fails = broker.rng.random_range(0..400) < broker.trouble;
        let arrives = broker.rng.random();
        let log = self.reach(&mut broker)?;
        let header = |name: &str| {
            let found = record.headers.iter().find(|(header, _)| *header == name);
            std::str::from_utf8(found.expect("a header").1).expect("text")
        };
        if !fails || arrives {
            let commit_lsn: Lsn = header("distributary.lsn").parse().expect("an LSN");
            let ordinal = header("distributary.seq").parse().expect("an ordinal");
            log.open.push((Position { commit_lsn, ordinal }, record.partition));
            log.sent += 1;
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
        let log = self.reach(&mut broker)?;
        let next = self.next(point);
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
