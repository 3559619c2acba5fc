//! Opening a lane: OPENING → FENCING → READING → READY (delivery-protocol.md, section 4).

use crate::Error;
use crate::beside::beside;
use crate::checkpoint::{
    CHECKPOINT_KEY, Checkpoint, Diverged, Ends, FENCE_KEY, Fence, VERSION, verify_read,
};
use crate::holder::{FENCES_MAX, fence_seat, last_offset, never_clean};
use crate::idempotent::{Idempotent, IdempotentLane};
use crate::lookup::{Looks, Lookup};
use crate::names::{LaneId, Names};
use crate::read::{Entry, Reader};
use crate::ready::{Clients, discard};
use crate::settings::Settings;
use crate::sink::{LaneSink, Opened};
use crate::transactional::{Connected, Ledger, Transactional, TransactionalLane};
use crate::unsettled;
use config::Delivery;
use std::time::Instant;
use tracing::debug;

/// Opens a lane, fencing every older owner, and reads where it stands. Blocks. `partitions` are those of
/// topics that the lane may have written to: whatever an older owner has left open there is ended.
///
/// # Errors
/// Kafka does not answer or does not permit it; the checkpoint cannot be trusted; a topic lost what
/// was written to it.
pub fn open(
    settings: &Settings,
    names: &Names,
    lane: LaneId,
    revision: u64,
    partitions: &[(String, i32)],
) -> Result<(Box<dyn LaneSink>, Opened), Error> {
    match settings.delivery() {
        Delivery::ExactlyOnce => {
            let clients = Clients::of(settings, &names.seat(lane))?;
            let began = Instant::now();
            let Clients { producer, reader, looks } = clients;
            let (transactional, term) = fence(settings, names, lane, partitions, producer, &looks)?;
            let fenced = began.elapsed();
            let opened = read(names, lane, term, &reader, |ends, older| {
                let are_there = || looks.all.verify_ends(ends, older);
                let are_visible = || looks.verify_visible(settings, [ends, older]);
                let (there, visible) = beside(are_there, are_visible);
                // What is gone says more than that it cannot be seen.
                there.and(visible)
            })?;
            let (fence_ms, open_ms) = (fenced.as_millis(), began.elapsed().as_millis());
            debug!(%lane, fence_ms, open_ms, "opened from connected clients");
            discard(reader, looks);
            let last = opened.checkpoint.clone();
            let ledger = Ledger::new(settings, names, lane, revision, term, last);
            Ok((Box::new(TransactionalLane::new(transactional, ledger)), opened))
        }
        Delivery::AtLeastOnce => {
            let (producers, term) = announce(settings, names, lane)?;
            let reader = Reader::new(settings, &names.seat(lane))?;
            let opened = read(names, lane, term, &reader, |ends, older| {
                Lookup::new(settings)?.verify_ends(ends, older)
            })?;
            let last = opened.checkpoint.clone();
            let ledger = Ledger::new(settings, names, lane, revision, term, last);
            Ok((Box::new(IdempotentLane::new(producers, ledger)), opened))
        }
    }
}

/// As [`open`], and the lane begins anew: a person has decided that what it held does not count. What
/// its checkpoint says is not even read, since it may be what nobody can trust.
///
/// # Errors
/// Kafka does not answer or does not permit it.
pub fn open_anew(
    settings: &Settings,
    names: &Names,
    lane: LaneId,
    revision: u64,
    partitions: &[(String, i32)],
) -> Result<(Box<dyn LaneSink>, Opened), Error> {
    let ledger = |term| Ledger::new(settings, names, lane, revision, term, None);
    match settings.delivery() {
        Delivery::ExactlyOnce => {
            for _ in 0..FENCES_MAX {
                let Clients { producer, looks, .. } = Clients::of(settings, &names.seat(lane))?;
                let (mut transactional, term) =
                    fence(settings, names, lane, partitions, producer, &looks)?;
                let mut ledger = ledger(term);
                let (reset, json) = reset(&ledger)?;
                transactional.send(&ledger.record(&json))?;
                transactional.settle()?;
                transactional.writer().deliveries().take_ends();
                if transactional.commit()? {
                    ledger.advance(reset.clone());
                    let opened = Opened { term, checkpoint: Some(reset) };
                    return Ok((Box::new(TransactionalLane::new(transactional, ledger)), opened));
                }
            }
            Err(never_clean(&names.seat(lane)))
        }
        Delivery::AtLeastOnce => {
            let (mut producers, term) = announce(settings, names, lane)?;
            let mut ledger = ledger(term);
            let (reset, json) = reset(&ledger)?;
            producers.write_down(&ledger.record(&json))?;
            producers.checkpoints().deliveries().take_ends();
            ledger.advance(reset.clone());
            let opened = Opened { term, checkpoint: Some(reset) };
            Ok((Box::new(IdempotentLane::new(producers, ledger)), opened))
        }
    }
}

fn reset(ledger: &Ledger) -> Result<(Checkpoint, Vec<u8>), Error> {
    let reset = ledger.reset();
    let json = serde_json::to_vec(&reset);
    Ok((reset, json.map_err(|error| Error::from_json("writing a checkpoint", &error))?))
}

/// At-least-once: a new owner's fence, which fences nobody, and its term.
fn announce(settings: &Settings, names: &Names, lane: LaneId) -> Result<(Idempotent, i64), Error> {
    let seat = names.seat(lane);
    let mut producers = Idempotent::open(settings, &seat)?;
    let json = fence_json(names, lane, settings.node())?;
    producers.write_down(&seat.record(FENCE_KEY, Some(&json)))?;
    let term = last_offset(producers.checkpoints(), &seat)?;
    Ok((producers, term))
}

/// A new owner whose fence is committed clean, and its term.
fn fence(
    settings: &Settings,
    names: &Names,
    lane: LaneId,
    partitions: &[(String, i32)],
    producer: Connected,
    looks: &Looks,
) -> Result<(Transactional, i64), Error> {
    let json = fence_json(names, lane, settings.node())?;
    fence_seat(settings, &names.seat(lane), &json, producer, |transactional| {
        unsettled::end_aborted(settings, looks, names, lane, transactional, partitions)
    })
}

pub(crate) fn fence_json(names: &Names, lane: LaneId, node: &str) -> Result<Vec<u8>, Error> {
    let fence = Fence {
        v: VERSION,
        task: names.task().into(),
        lane,
        node: node.into(),
        ver: env!("CARGO_PKG_VERSION").into(),
    };
    serde_json::to_vec(&fence).map_err(|error| Error::from_json("writing a fence", &error))
}

/// Where the lane stands; `verify` looks whether what its checkpoint speaks of is still there.
fn read(
    names: &Names,
    lane: LaneId,
    term: i64,
    reader: &Reader,
    verify: impl FnOnce(&Ends, &Ends) -> Result<(), Error>,
) -> Result<Opened, Error> {
    let seat = names.seat(lane);
    let entries = reader.up_to(term)?;
    let checkpoint = last_checkpoint(&entries, names, lane).map_err(|it| seat.diverged(&it))?;
    if let Some(checkpoint) = &checkpoint {
        if term <= checkpoint.term {
            return Err(seat.diverged(&format!(
                "its term {} is not below the new one, {term}",
                checkpoint.term
            )));
        }
        let Checkpoint { prev_end, older_end, .. } = checkpoint;
        if !prev_end.is_empty() || !older_end.is_empty() {
            verify(prev_end, older_end)?;
        }
    }
    Ok(Opened { term, checkpoint })
}

/// The last checkpoint; those before it, back to where the lane began anew, must lead to it.
fn last_checkpoint(
    entries: &[Entry],
    names: &Names,
    lane: LaneId,
) -> Result<Option<Checkpoint>, Diverged> {
    let entries = entries.iter().filter(|entry| entry.key == CHECKPOINT_KEY);
    let read: Vec<_> = entries.map(|entry| Checkpoint::parse(&entry.value, names, lane)).collect();
    let is_reset = |read: &Result<Checkpoint, _>| read.as_ref().is_ok_and(Checkpoint::is_reset);
    let begin = read.iter().rposition(is_reset).unwrap_or_default();
    let mut last: Option<Checkpoint> = None;
    // Written again by somebody, a reset must not make what came after its first time forgotten.
    let newest = read[..begin].iter().flatten().map(|before| before.term).max();
    for next in read.into_iter().skip(begin) {
        let next = next?;
        match (&last, newest) {
            (Some(last), _) => verify_read(last, &next)?,
            (None, Some(newest)) if next.term <= newest => {
                return Err(Diverged::Term { previous: newest, next: next.term });
            }
            (None, _) => {}
        }
        last = Some(next);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wal::{Lsn, Position};

    fn checkpoint(term: i64, txn_seq: u64) -> Checkpoint {
        Checkpoint {
            v: VERSION,
            task: "shop".into(),
            rev: 1,
            lane: LaneId::Lane(3),
            term,
            txn_seq,
            pos: Position { commit_lsn: Lsn(txn_seq), ordinal: 0 },
            end_lsn: Lsn(txn_seq),
            complete: true,
            sealed: false,
            snap: Vec::new(),
            prev_end: Ends::new(),
            older_end: Ends::new(),
            node: "w1".into(),
            ver: "0.1.0".into(),
        }
    }

    fn last(values: &[Vec<u8>]) -> Result<Option<Checkpoint>, Diverged> {
        let names = Names::new("distributary", "shop").expect("valid");
        let entry =
            |value: &Vec<u8>| Entry { offset: 0, key: CHECKPOINT_KEY.into(), value: value.clone() };
        let entries: Vec<Entry> = values.iter().map(entry).collect();
        last_checkpoint(&entries, &names, LaneId::Lane(3))
    }

    fn json(checkpoint: &Checkpoint) -> Vec<u8> {
        serde_json::to_vec(checkpoint).expect("JSON")
    }

    #[test]
    fn the_last_checkpoint_counts_and_every_other_leads_to_it() {
        let [one, two] = [checkpoint(4, 7), checkpoint(4, 8)];
        assert_eq!(last(&[]), Ok(None));
        assert_eq!(last(&[json(&one), json(&two)]), Ok(Some(two.clone())));
        assert!(matches!(last(&[json(&two), json(&one)]), Err(Diverged::Sequence { .. })));
        assert!(matches!(last(&[b"{".to_vec(), json(&two)]), Err(Diverged::Unreadable(_))));
        assert_eq!(last(&[json(&one), Vec::new()]), Err(Diverged::Deleted));
    }

    #[test]
    fn what_was_before_a_reset_does_not_count() {
        let (reset, first) = (checkpoint(9, 0), checkpoint(9, 1));
        let before = [json(&checkpoint(4, 700)), b"{".to_vec(), Vec::new()];
        let with = |after: &[&Checkpoint]| {
            last(&[&before[..], &after.iter().map(|it| json(it)).collect::<Vec<_>>()].concat())
        };
        assert_eq!(with(&[&reset]), Ok(Some(reset.clone())));
        assert_eq!(with(&[&reset, &first]), Ok(Some(first.clone())));
        assert!(matches!(with(&[&reset, &first, &reset]), Err(Diverged::Term { .. })));
        let old = checkpoint(4, 0);
        assert!(matches!(with(&[&old]), Err(Diverged::Term { previous: 4, next: 4 })));
    }
}
