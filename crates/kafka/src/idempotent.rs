//! At-least-once: no transactions, the checkpoint follows the delivery reports (delivery-protocol.md,
//! section 13).

use crate::Error;
use crate::arrival::Arrival;
use crate::checkpoint::{Checkpoint, ENDED_KEY};
use crate::holder::last_offset;
use crate::names::Seat;
use crate::settings::{MESSAGE_TIMEOUT, Settings};
use crate::sink::{CommitPoint, Committed, LaneSink};
use crate::tenure::Lease;
use crate::transactional::Ledger;
use crate::writer::Writer;
use record::Record;
use std::time::{Duration, Instant};

/// A lane's producers in at-least-once delivery. No older owner is fenced by the broker: each looks whether it was taken
/// over ([`crate::tenure`]).
pub(crate) struct Idempotent {
    writer: Writer,
    /// Where the records' own producer is not told what became of them (`acks: 0`).
    unheard: Option<Unheard>,
}

struct Unheard {
    /// Of the checkpoint topic: a checkpoint that may not be there, or whose offset is unknown, is none.
    checkpoints: Writer,
    arrival: Arrival,
}

impl Idempotent {
    pub(crate) fn open(settings: &Settings, seat: &Seat) -> Result<Self, Error> {
        let name = seat.transactional_id.clone();
        let unheard = if settings.acknowledges() {
            None
        } else {
            let config = settings.idempotent_checkpoints();
            let checkpoints = Writer::new(&config, format!("{name} checkpoints"), settings)?;
            Some(Unheard { checkpoints, arrival: Arrival::default() })
        };
        let writer = Writer::new(&settings.idempotent(), name, settings)?;
        Ok(Self { writer, unheard })
    }

    /// Writes to the checkpoint topic and waits until it is durable.
    pub(crate) fn write_down(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let writer = self.checkpoints();
        writer.usable()?;
        writer.send(record)?;
        settle(writer)
    }

    /// The producer of the checkpoint topic.
    pub(crate) fn checkpoints(&mut self) -> &mut Writer {
        let Self { writer, unheard } = self;
        unheard.as_mut().map_or(writer, |it| &mut it.checkpoints)
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), Error> {
        if let Some(unheard) = &mut self.unheard {
            unheard.arrival.note(record.topic, record.partition);
        }
        self.writer.send(record)
    }

    /// Waits until what was sent is with the brokers, as far as they tell.
    fn deliver(&mut self) -> Result<(), Error> {
        let Self { writer, unheard } = self;
        settle(writer)?;
        match unheard {
            Some(unheard) => unheard.arrival.wait(writer).map_err(|error| writer.fail(error)),
            None => Ok(()),
        }
    }
}

/// The library reports every record within its own time-out.
fn settle(writer: &mut Writer) -> Result<(), Error> {
    writer.settle(MESSAGE_TIMEOUT + Duration::from_secs(5))
}

/// How long a last word may take: without it the next owner waits.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// A lane in at-least-once delivery.
pub(crate) struct IdempotentLane {
    producers: Idempotent,
    ledger: Ledger,
    lease: Lease,
}

impl IdempotentLane {
    pub(crate) fn new(producers: Idempotent, ledger: Ledger, lease: Lease) -> Self {
        Self { producers, ledger, lease }
    }

    /// Writes a checkpoint and goes on from it. Returns its number. One that a newer owner's fence has preceded counts for
    /// nobody.
    pub(crate) fn write_down(&mut self, checkpoint: Checkpoint, json: &[u8]) -> Result<u64, Error> {
        let Self { producers, ledger, lease } = self;
        let asked = Instant::now();
        producers.write_down(&ledger.record(json))?;
        // The checkpoint's own offset is not one of the lane's topics.
        let offset = last_offset(producers.checkpoints(), lease.seat())?;
        lease
            .wrote(producers.checkpoints(), offset, asked)
            .map_err(|error| producers.writer.fail(error))?;
        Ok(ledger.advance(checkpoint))
    }

    /// Whether this owner may still write. Where it may not, what waits in its client is thrown away with it.
    fn hold(&mut self) -> Result<(), Error> {
        let Self { producers, lease, .. } = self;
        lease.hold(producers.checkpoints()).map_err(|error| producers.writer.fail(error))
    }
}

impl LaneSink for IdempotentLane {
    fn send(&mut self, record: &Record<'_>) -> Result<(), Error> {
        self.producers.writer.usable()?;
        // Room may be long in coming.
        self.producers.writer.make_room(record)?;
        self.hold()?;
        self.producers.send(record)
    }

    fn poll(&mut self) -> Result<(), Error> {
        self.producers.writer.usable()?;
        let Self { producers, lease, .. } = self;
        lease.check().map_err(|error| producers.writer.fail(error))?;
        producers.writer.check()
    }

    fn pending(&self) -> u64 {
        self.producers.writer.pending()
    }

    fn note_chunks(&mut self, chunks: &[String]) {
        self.ledger.note_chunks(chunks);
    }

    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, Error> {
        self.producers.writer.usable()?;
        self.producers.deliver()?;
        self.hold()?;
        let (checkpoint, json) = self.ledger.next(&mut self.producers.writer, point)?;
        Ok(Committed { clean: true, txn_seq: self.write_down(checkpoint, &json)? })
    }

    fn close(&mut self) {
        let Self { producers, lease, .. } = self;
        // Records of a transaction that has no end here may still be under way.
        if producers.writer.settle(CLOSE_MAX).is_err() {
            return;
        }
        let Ok(json) = serde_json::to_vec(&lease.ended()) else { return };
        let writer = producers.checkpoints();
        // Without it the next owner waits.
        let _ = writer
            .send(&lease.seat().record(ENDED_KEY, Some(&json)))
            .and_then(|()| writer.settle(CLOSE_MAX));
    }
}
