//! At-least-once: no transactions, the checkpoint follows the delivery reports (delivery-protocol.md,
//! section 13).

use crate::Error;
use crate::checkpoint::CHECKPOINT_KEY;
use crate::settings::{MESSAGE_TIMEOUT, Settings};
use crate::sink::{CommitPoint, Committed, LaneSink};
use crate::transactional::Ledger;
use crate::writer::Writer;
use record::Record;
use std::time::Duration;

/// A lane in at-least-once delivery. No older owner is fenced: whoever starts a second one gets
/// doubles.
pub(crate) struct IdempotentLane {
    writer: Writer,
    ledger: Ledger,
}

impl IdempotentLane {
    pub(crate) fn writer(settings: &Settings, name: String) -> Result<Writer, Error> {
        Writer::new(&settings.idempotent(), name, settings.record_bytes_max())
    }

    pub(crate) fn new(writer: Writer, ledger: Ledger) -> Self {
        Self { writer, ledger }
    }

    fn settle(&mut self) -> Result<(), Error> {
        self.writer.settle(MESSAGE_TIMEOUT + Duration::from_secs(5))
    }
}

impl LaneSink for IdempotentLane {
    fn send(&mut self, record: &Record<'_>) -> Result<(), Error> {
        self.writer.usable()?;
        self.writer.send(record)
    }

    fn poll(&mut self) -> Result<(), Error> {
        self.writer.usable()?;
        self.writer.serve(Duration::ZERO)
    }

    fn pending(&self) -> u64 {
        self.writer.pending()
    }

    fn commit(&mut self, point: &CommitPoint) -> Result<Committed, Error> {
        self.settle()?;
        let (checkpoint, json) = self.ledger.next(&mut self.writer, point)?;
        let topic = self.ledger.topic();
        let record = Ledger::record(&topic, self.ledger.lane(), CHECKPOINT_KEY, &json);
        self.send(&record)?;
        self.settle()?;
        self.writer.deliveries().take_ends();
        Ok(Committed { clean: true, txn_seq: self.ledger.advance(checkpoint) })
    }
}
