//! Opening a lane: OPENING → FENCING → READING → READY (delivery-protocol.md, section 4).

use crate::Error;
use crate::checkpoint::{CHECKPOINT_KEY, Checkpoint, FENCE_KEY, Fence, VERSION, verify_read};
use crate::idempotent::{Idempotent, IdempotentLane};
use crate::lookup::Lookup;
use crate::names::{LaneId, Names};
use crate::read::{Entry, Reader};
use crate::settings::Settings;
use crate::sink::{LaneSink, Opened};
use crate::transactional::{Ledger, Transactional, TransactionalLane};
use crate::writer::Writer;
use config::Delivery;
use tracing::debug;

/// A fence that is not clean is written again by a new instance; more often than this is no luck.
const FENCES_MAX: usize = 5;

/// Opens a lane, fencing every older owner, and reads where it stands. Blocks.
///
/// # Errors
/// Kafka does not answer or does not permit it; the checkpoint cannot be trusted; a topic lost what
/// was written to it.
pub fn open(
    settings: &Settings,
    names: &Names,
    lane: LaneId,
    revision: u64,
) -> Result<(Box<dyn LaneSink>, Opened), Error> {
    match settings.delivery() {
        Delivery::ExactlyOnce => {
            let (transactional, term) = fence(settings, names, lane, settings.node())?;
            let opened = read(settings, names, lane, term)?;
            let last = opened.checkpoint.clone();
            let ledger = Ledger::new(settings, names, lane, revision, term, last);
            Ok((Box::new(TransactionalLane::new(transactional, ledger)), opened))
        }
        Delivery::AtLeastOnce => {
            let mut producers = Idempotent::open(settings, names, lane)?;
            let json = fence_json(names, lane, settings.node())?;
            let topic = names.checkpoints();
            producers.write_down(&Ledger::record(&topic, lane, FENCE_KEY, &json))?;
            let term = fence_offset(producers.checkpoints(), &topic, lane)?;
            let opened = read(settings, names, lane, term)?;
            let last = opened.checkpoint.clone();
            let ledger = Ledger::new(settings, names, lane, revision, term, last);
            Ok((Box::new(IdempotentLane::new(producers, ledger)), opened))
        }
    }
}

/// A new owner whose fence is committed clean, and its term.
pub(crate) fn fence(
    settings: &Settings,
    names: &Names,
    lane: LaneId,
    node: &str,
) -> Result<(Transactional, i64), Error> {
    let json = fence_json(names, lane, node)?;
    let topic = names.checkpoints();
    for _ in 0..FENCES_MAX {
        let mut transactional = Transactional::open(settings, names, lane)?;
        transactional.send(&Ledger::record(&topic, lane, FENCE_KEY, &json))?;
        transactional.settle()?;
        let term = fence_offset(transactional.writer(), &topic, lane)?;
        if transactional.commit()? {
            return Ok((transactional, term));
        }
        debug!(lane = %lane, term, "fence was not committed clean, fencing again");
    }
    Err(Error::Unreachable {
        doing: format!("fencing lane {lane}"),
        reason: "commits are slow or repeated each time".into(),
    })
}

fn fence_json(names: &Names, lane: LaneId, node: &str) -> Result<Vec<u8>, Error> {
    let fence = Fence {
        v: VERSION,
        task: names.task().into(),
        lane,
        node: node.into(),
        ver: env!("CARGO_PKG_VERSION").into(),
    };
    let failed = |error: serde_json::Error| Error::Client {
        doing: "writing a fence".into(),
        reason: error.to_string(),
    };
    serde_json::to_vec(&fence).map_err(failed)
}

fn fence_offset(writer: &mut Writer, topic: &str, lane: LaneId) -> Result<i64, Error> {
    let ends = writer.deliveries().take_ends();
    let offset = ends.get(topic).and_then(|partitions| partitions.get(&lane.partition()));
    offset.copied().ok_or_else(|| {
        writer.fail(Error::Client {
            doing: format!("fencing lane {lane}"),
            reason: "the broker did not say where the fence was written".into(),
        })
    })
}

fn read(settings: &Settings, names: &Names, lane: LaneId, term: i64) -> Result<Opened, Error> {
    let reader = Reader::new(settings, names, lane)?;
    let entries = reader.up_to(term)?;
    let checkpoint = last_checkpoint(&entries, names, lane).map_err(|it| reader.diverged(&it))?;
    if let Some(checkpoint) = &checkpoint {
        if term <= checkpoint.term {
            return Err(reader.diverged(&format!(
                "its term {} is not below the new one, {term}",
                checkpoint.term
            )));
        }
        if !checkpoint.prev_end.is_empty() {
            Lookup::new(settings)?.verify_ends(&checkpoint.prev_end)?;
        }
    }
    Ok(Opened { term, checkpoint })
}

/// The last checkpoint; those before it must lead to it.
fn last_checkpoint(
    entries: &[Entry],
    names: &Names,
    lane: LaneId,
) -> Result<Option<Checkpoint>, crate::checkpoint::Diverged> {
    let mut last: Option<Checkpoint> = None;
    for entry in entries.iter().filter(|entry| entry.key == CHECKPOINT_KEY) {
        let next = Checkpoint::parse(&entry.value, names, lane)?;
        if let Some(last) = &last {
            verify_read(last, &next)?;
        }
        last = Some(next);
    }
    Ok(last)
}
