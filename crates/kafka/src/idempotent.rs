//! At-least-once: no transactions, the checkpoint follows the delivery reports (delivery-protocol.md,
//! section 13).

use crate::Error;
use crate::names::Seat;
use crate::settings::{MESSAGE_TIMEOUT, Settings};
use crate::sink::{CommitPoint, Committed, LaneSink};
use crate::transactional::Ledger;
use crate::writer::Writer;
use record::Record;
use std::time::Duration;

/// A lane's producers in at-least-once delivery. No older owner is fenced: whoever starts a second
/// one gets doubles.
pub(crate) struct Idempotent {
    writer: Writer,
    /// Of the checkpoint topic, where the records' own producer is not told what became of them
    /// (`acks: 0`): a checkpoint that may not be there, or whose offset is unknown, is none.
    checkpoints: Option<Writer>,
}

impl Idempotent {
    pub(crate) fn open(settings: &Settings, seat: &Seat) -> Result<Self, Error> {
        let name = seat.transactional_id.clone();
        let checkpoints = if settings.acknowledges() {
            None
        } else {
            let config = settings.idempotent_checkpoints();
            Some(Writer::new(&config, format!("{name} checkpoints"), settings)?)
        };
        let writer = Writer::new(&settings.idempotent(), name, settings)?;
        Ok(Self { writer, checkpoints })
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
        self.checkpoints.as_mut().unwrap_or(&mut self.writer)
    }
}

/// The library reports every record within its own time-out.
fn settle(writer: &mut Writer) -> Result<(), Error> {
    writer.settle(MESSAGE_TIMEOUT + Duration::from_secs(5))
}

/// A lane in at-least-once delivery.
pub(crate) struct IdempotentLane {
    producers: Idempotent,
    ledger: Ledger,
}

impl IdempotentLane {
    pub(crate) fn new(producers: Idempotent, ledger: Ledger) -> Self {
        Self { producers, ledger }
    }
}

impl LaneSink for IdempotentLane {
    fn send(&mut self, record: &Record<'_>) -> Result<(), Error> {
        self.producers.writer.usable()?;
        self.producers.writer.send(record)
    }

    fn poll(&mut self) -> Result<(), Error> {
        self.producers.writer.usable()?;
        self.producers.writer.check()
    }

    fn pending(&self) -> u64 {
        self.producers.writer.pending()
    }

    fn note_chunks(&mut self, chunks: &[String]) {
        self.ledger.note_chunks(chunks);
    }

    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, Error> {
        let Self { producers, ledger } = self;
        producers.writer.usable()?;
        settle(&mut producers.writer)?;
        let (checkpoint, json) = ledger.next(&mut producers.writer, point)?;
        producers.write_down(&ledger.record(&json))?;
        // The checkpoint's own offset is not one of the lane's topics.
        producers.checkpoints().deliveries().take_ends();
        Ok(Committed { clean: true, txn_seq: ledger.advance(checkpoint) })
    }
}
