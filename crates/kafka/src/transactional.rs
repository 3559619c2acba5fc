//! Exactly-once: a producer whose transactions end by the clean-commit rule (delivery-protocol.md,
//! section 5).

use crate::Error;
use crate::checkpoint::{CHECKPOINT_KEY, Checkpoint, Ends, bounded_ends, verify_next};
use crate::clean_commit::{Snapshot, Verdict, is_switched_off, judge_duration, judge_statistics};
use crate::client::Statistics;
use crate::names::{LaneId, Names, Seat};
use crate::settings::{CONNECT_MAX, MESSAGE_TIMEOUT, Settings};
use crate::sink::{CommitPoint, Committed, LaneSink};
use crate::writer::Writer;
use config::Delivery;
use rdkafka::producer::Producer;
use record::Record;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::info;

/// Longest wait for a transactional call: the coordinator may be moving.
const CALL_MAX: Duration = Duration::from_secs(25);
/// Longest wait for the next statistics after a slow commit; without them it counts as dirty.
const STATISTICS_MAX: Duration = Duration::from_secs(3);

/// A transactional producer between `init_transactions` and its first error.
pub(crate) struct Transactional {
    writer: Writer,
    /// Statistics when the open transaction began.
    begun: Option<Statistics>,
}

/// A producer that is connected, and has fenced nobody yet.
pub(crate) struct Connected {
    writer: Writer,
    name: String,
}

impl Connected {
    /// Fences every older owner of the transactional id, and aborts what one has left open.
    pub(crate) fn fence(self) -> Result<Transactional, Error> {
        let Self { mut writer, name } = self;
        writer.producer().init_transactions(CALL_MAX).map_err(|error| {
            writer.transaction_error(&format!("opening transactions as `{name}`"), &error)
        })?;
        Ok(Transactional { writer, begun: None })
    }
}

impl Transactional {
    /// Makes an instance. Nothing is asked of the coordinator before [`Connected::fence`].
    pub(crate) fn connect(settings: &Settings, seat: &Seat) -> Result<Connected, Error> {
        let name = seat.transactional_id.clone();
        let config = settings.transactional(&name);
        let writer = Writer::new(&config, name.clone(), settings)?;
        // A client without a connection asks for its coordinator again only after half a second. What is
        // wrong is told by the call that needs it.
        let _ = writer.producer().client().fetch_metadata(Some(&seat.topic), CONNECT_MAX);
        Ok(Connected { writer, name })
    }

    pub(crate) fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Queues a record, in a transaction.
    pub(crate) fn send(&mut self, record: &Record<'_>) -> Result<(), Error> {
        self.writer.usable()?;
        if self.begun.is_none() {
            self.writer.producer().begin_transaction().map_err(|error| {
                self.writer.transaction_error("beginning a transaction", &error)
            })?;
            self.begun = Some(self.writer.watch().statistics());
        }
        self.writer.send(record)
    }

    /// Waits for all delivery reports.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        self.writer.usable()?;
        self.writer.settle(MESSAGE_TIMEOUT + Duration::from_secs(5))
    }

    /// Commits what was delivered. `true`: clean, the instance may go on. Nothing may be in flight:
    /// the binding's flush would wait in steps of 100 ms.
    pub(crate) fn commit(&mut self) -> Result<bool, Error> {
        self.writer.usable()?;
        let Some(begun) = self.begun.take() else { return Ok(true) };
        let started = Instant::now();
        self.writer
            .producer()
            .commit_transaction(CALL_MAX)
            .map_err(|error| self.writer.transaction_error("committing", &error))?;
        let (took, returned) = (started.elapsed(), self.writer.age());
        let clean = match judge_duration(took) {
            Verdict::Clean => true,
            Verdict::Dirty => false,
            Verdict::WaitForStatistics if is_switched_off() => true,
            Verdict::WaitForStatistics => self.wait_for_statistics(&begun, returned),
        };
        if !clean {
            info!(took_ms = took.as_millis(), "a commit was slow or repeated");
        }
        Ok(clean)
    }

    /// The transaction is committed whatever this finds: a failure only makes the instance dirty.
    fn wait_for_statistics(&mut self, begun: &Statistics, returned: Duration) -> bool {
        let before = if begun.json.is_empty() {
            Some(Snapshot::default())
        } else {
            Snapshot::parse(&begun.json)
        };
        let until = Instant::now() + STATISTICS_MAX;
        let mut count = begun.count;
        while self.writer.check().is_ok() {
            let patience = until.saturating_duration_since(Instant::now());
            let Some(next) = self.writer.watch().statistics_after(count, patience) else { break };
            count = next.count;
            let after = Snapshot::parse(&next.json);
            match judge_statistics(before.as_ref(), returned, after.as_ref()) {
                Verdict::WaitForStatistics => {}
                Verdict::Clean => return true,
                Verdict::Dirty => break,
            }
        }
        false
    }
}

impl Seat {
    /// A record under `key`; without a value it deletes the ones before.
    pub(crate) fn record<'a>(&'a self, key: &'a str, value: Option<&'a [u8]>) -> Record<'a> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            key: Some(key.as_bytes()),
            value,
            headers: &[],
            timestamp_ms: millis_now(),
        }
    }
}

/// What the checkpoints of one lane are made of.
pub(crate) struct Ledger {
    task: String,
    lane: LaneId,
    seat: Seat,
    revision: u64,
    term: i64,
    /// At-least-once.
    unfenced: bool,
    node: String,
    last: Option<Checkpoint>,
    /// Chunks of snapshots that the next checkpoint names.
    chunks: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(
        settings: &Settings,
        names: &Names,
        lane: LaneId,
        revision: u64,
        term: i64,
        last: Option<Checkpoint>,
    ) -> Self {
        let (task, seat) = (names.task().to_owned(), names.seat(lane));
        let chunks = last.as_ref().map(|it| it.snap.clone()).unwrap_or_default();
        let (unfenced, node) =
            (settings.delivery() == Delivery::AtLeastOnce, settings.node().into());
        Self { task, lane, seat, revision, term, unfenced, node, last, chunks }
    }

    /// The checkpoint after the records that `writer` has delivered, as JSON.
    pub(crate) fn next(
        &self,
        writer: &mut Writer,
        point: &CommitPoint,
    ) -> Result<(Checkpoint, Vec<u8>), Error> {
        let ends = bounded_ends(writer.deliveries().take_ends());
        let next = Checkpoint {
            v: crate::checkpoint::VERSION,
            task: self.task.clone(),
            rev: self.revision,
            lane: self.lane,
            term: self.term,
            txn_seq: self.last.as_ref().map_or(0, |last| last.txn_seq) + 1,
            pos: point.position,
            end_lsn: point.end_lsn,
            complete: point.complete,
            sealed: point.sealed,
            snap: self.chunks.clone(),
            counted: point.counted,
            older_end: self.last.as_ref().map(|it| it.carried_ends(&ends)).unwrap_or_default(),
            prev_end: ends,
            unfenced: self.unfenced,
            node: self.node.clone(),
            ver: env!("CARGO_PKG_VERSION").into(),
        };
        verify_next(self.last.as_ref(), &next).map_err(|diverged| {
            writer.fail(Error::CheckpointDiverged {
                topic: self.seat.topic.clone(),
                partition: self.seat.partition,
                reason: diverged.to_string(),
            })
        })?;
        let json = serde_json::to_vec(&next)
            .map_err(|error| writer.fail(Error::from_json("writing a checkpoint", &error)))?;
        Ok((next, json))
    }

    /// The checkpoint of a lane that begins anew.
    pub(crate) fn reset(&self) -> Checkpoint {
        Checkpoint {
            v: crate::checkpoint::VERSION,
            task: self.task.clone(),
            rev: self.revision,
            lane: self.lane,
            term: self.term,
            txn_seq: 0,
            pos: wal::Position::ZERO,
            end_lsn: wal::Lsn::ZERO,
            complete: true,
            sealed: false,
            snap: Vec::new(),
            counted: self.last.as_ref().map_or(0, |last| last.counted),
            prev_end: Ends::new(),
            older_end: Ends::new(),
            unfenced: self.unfenced,
            node: self.node.clone(),
            ver: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The record of the checkpoint topic that holds a checkpoint.
    pub(crate) fn record<'a>(&'a self, json: &'a [u8]) -> Record<'a> {
        self.seat.record(CHECKPOINT_KEY, Some(json))
    }

    pub(crate) fn note_chunks(&mut self, chunks: &[String]) {
        self.chunks = chunks.into();
    }

    /// The checkpoint is durable.
    pub(crate) fn advance(&mut self, checkpoint: Checkpoint) -> u64 {
        let txn_seq = checkpoint.txn_seq;
        self.last = Some(checkpoint);
        txn_seq
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A lane in exactly-once delivery.
pub(crate) struct TransactionalLane {
    transactional: Transactional,
    ledger: Ledger,
    /// The last commit was dirty.
    dirty: bool,
}

impl TransactionalLane {
    pub(crate) fn new(transactional: Transactional, ledger: Ledger) -> Self {
        Self { transactional, ledger, dirty: false }
    }
}

impl LaneSink for TransactionalLane {
    fn send(&mut self, record: &Record<'_>) -> Result<(), Error> {
        if self.dirty {
            return Err(Error::Dirty);
        }
        self.transactional.send(record)
    }

    fn poll(&mut self) -> Result<(), Error> {
        self.transactional.writer().usable()?;
        self.transactional.writer().check()
    }

    fn pending(&self) -> u64 {
        self.transactional.writer.pending()
    }

    fn note_chunks(&mut self, chunks: &[String]) {
        self.ledger.note_chunks(chunks);
    }

    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, Error> {
        if self.dirty {
            return Err(Error::Dirty);
        }
        let Self { transactional, ledger, .. } = self;
        transactional.settle()?;
        let (checkpoint, json) = ledger.next(transactional.writer(), point)?;
        transactional.send(&ledger.record(&json))?;
        transactional.settle()?;
        let clean = transactional.commit()?;
        // The checkpoint's own offset is not one of the lane's topics.
        transactional.writer().deliveries().take_ends();
        self.dirty = !clean;
        Ok(Committed { clean, txn_seq: self.ledger.advance(checkpoint) })
    }
}
