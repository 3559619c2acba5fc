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
use crate::process::Process;
use crate::read::{Entry, Reader};
use crate::ready::{Clients, discard};
use crate::settings::Settings;
use crate::sink::{LaneSink, Opened};
use crate::tenure::{Lease, Tenure, await_older, older};
use crate::transactional::{Connected, Ledger, Transactional, TransactionalLane};
use crate::unsettled;
use config::Delivery;
use std::sync::Arc;
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
            let opened = read(settings, names, lane, term, &reader, None, |ends, older| {
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
            let Announced { producers, lease, tenure, term } = announce(settings, names, lane)?;
            let reader = Reader::new(settings, &names.seat(lane))?;
            let tenure = Some(&*tenure);
            let opened = read(settings, names, lane, term, &reader, tenure, |ends, older| {
                Lookup::new(settings)?.verify_ends(ends, older)
            })?;
            let last = opened.checkpoint.clone();
            let ledger = Ledger::new(settings, names, lane, revision, term, last);
            Ok((Box::new(IdempotentLane::new(producers, ledger, lease)), opened))
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
        Delivery::AtLeastOnce => open_anew_unfenced(settings, names, lane, ledger),
    }
}

fn open_anew_unfenced(
    settings: &Settings,
    names: &Names,
    lane: LaneId,
    ledger: impl FnOnce(i64) -> Ledger,
) -> Result<(Box<dyn LaneSink>, Opened), Error> {
    let Announced { producers, lease, tenure, term } = announce(settings, names, lane)?;
    let seat = names.seat(lane);
    let reader = Reader::new(settings, &seat)?;
    let older = older(&reader.up_to(term)?, term, true);
    await_older(&seat, &reader, older, Some(&tenure))?;
    let ledger = ledger(term);
    let (reset, json) = reset(&ledger)?;
    let mut lane = IdempotentLane::new(producers, ledger, lease);
    lane.write_down(reset.clone(), &json)?;
    Ok((Box::new(lane), Opened { term, checkpoint: Some(reset) }))
}

fn reset(ledger: &Ledger) -> Result<(Checkpoint, Vec<u8>), Error> {
    let reset = ledger.reset();
    let json = serde_json::to_vec(&reset);
    Ok((reset, json.map_err(|error| Error::from_json("writing a checkpoint", &error))?))
}

/// A new owner in at-least-once delivery.
struct Announced {
    producers: Idempotent,
    lease: Lease,
    tenure: Arc<Tenure>,
    term: i64,
}

/// At-least-once: ends the older owner in this process, and writes a fence that keeps nobody from writing, but is looked for.
fn announce(settings: &Settings, names: &Names, lane: LaneId) -> Result<Announced, Error> {
    let seat = names.seat(lane);
    let tenure = Tenure::take(&seat)?;
    let mut producers = Idempotent::open(settings, &seat)?;
    let json = fence_json_of(names, lane, settings.node(), Process::this())?;
    let asked = Instant::now();
    producers.write_down(&seat.record(FENCE_KEY, Some(&json)))?;
    let term = last_offset(producers.checkpoints(), &seat)?;
    let lease = Lease::new(settings, seat, Arc::clone(&tenure), term, asked);
    Ok(Announced { producers, lease, tenure, term })
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
    fence_json_of(names, lane, node, None)
}

fn fence_json_of(
    names: &Names,
    lane: LaneId,
    node: &str,
    process: Option<Process>,
) -> Result<Vec<u8>, Error> {
    let fence = Fence {
        v: VERSION,
        task: names.task().into(),
        lane,
        node: node.into(),
        ver: env!("CARGO_PKG_VERSION").into(),
        process,
    };
    serde_json::to_vec(&fence).map_err(|error| Error::from_json("writing a fence", &error))
}

/// Where the lane stands, once no older owner can write any more; `verify` looks whether what its checkpoint speaks of
/// is still there. `tenure`: at-least-once.
fn read(
    settings: &Settings,
    names: &Names,
    lane: LaneId,
    term: i64,
    reader: &Reader,
    tenure: Option<&Tenure>,
    verify: impl FnOnce(&Ends, &Ends) -> Result<(), Error>,
) -> Result<Opened, Error> {
    let seat = names.seat(lane);
    let entries = reader.up_to(term)?;
    let delivery = settings.delivery();
    let checkpoint = last_checkpoint(&entries, names, lane, delivery);
    let checkpoint = checkpoint.map_err(|it| seat.diverged(&it))?;
    // Also where delivery is exactly-once now: those before it had no epoch.
    let older = older(&entries, term, delivery == Delivery::AtLeastOnce);
    await_older(&seat, reader, older, tenure)?;
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

/// The last checkpoint; those before it, back to where the lane began anew, must lead to it. At-least-once, an older owner may
/// have written one after the fence of a newer one, which had begun without it: it counts for nobody.
fn last_checkpoint(
    entries: &[Entry],
    names: &Names,
    lane: LaneId,
    delivery: Delivery,
) -> Result<Option<Checkpoint>, Diverged> {
    let mut read = Vec::new();
    let mut fence = None;
    for entry in entries {
        match entry.key.as_str() {
            FENCE_KEY => fence = Some(entry.offset),
            CHECKPOINT_KEY => {
                let next = Checkpoint::parse(&entry.value, names, lane);
                let is_late = next.as_ref().is_ok_and(|it| {
                    let unfenced = it.unfenced || delivery == Delivery::AtLeastOnce;
                    unfenced && fence.is_some_and(|fence| it.term < fence)
                });
                if !is_late {
                    read.push(next);
                }
            }
            _ => {}
        }
    }
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
            counted: 0,
            prev_end: Ends::new(),
            older_end: Ends::new(),
            unfenced: false,
            node: "w1".into(),
            ver: "0.1.0".into(),
        }
    }

    fn last(values: &[Vec<u8>]) -> Result<Option<Checkpoint>, Diverged> {
        let entry =
            |value: &Vec<u8>| Entry { offset: 0, key: CHECKPOINT_KEY.into(), value: value.clone() };
        let entries: Vec<Entry> = values.iter().map(entry).collect();
        last_in(&entries, Delivery::ExactlyOnce)
    }

    fn last_in(entries: &[Entry], delivery: Delivery) -> Result<Option<Checkpoint>, Diverged> {
        let names = Names::new("distributary", "shop").expect("valid");
        last_checkpoint(entries, &names, LaneId::Lane(3), delivery)
    }

    /// Where an owner without an epoch goes on after the fence of the next one: term 1 was at its second transaction, and
    /// writes its third and fourth beside those of term 4.
    fn interleaved(unfenced: bool) -> Vec<Entry> {
        let fence = |offset| Entry { offset, key: FENCE_KEY.into(), value: b"{}".to_vec() };
        let of = |offset, term, txn_seq| Entry {
            offset,
            key: CHECKPOINT_KEY.into(),
            value: json(&Checkpoint { unfenced, ..checkpoint(term, txn_seq) }),
        };
        let (first, next) = ([of(2, 1, 1), of(3, 1, 2)], [of(5, 1, 3), of(6, 4, 3), of(7, 1, 4)]);
        [fence(1)].into_iter().chain(first).chain([fence(4)]).chain(next).collect()
    }

    #[test]
    fn what_an_older_owner_writes_after_a_newer_ones_fence_counts_for_nobody() {
        use Delivery::{AtLeastOnce, ExactlyOnce};
        let newest = Some(Checkpoint { unfenced: true, ..checkpoint(4, 3) });
        assert_eq!(last_in(&interleaved(true), AtLeastOnce), Ok(newest.clone()));
        assert_eq!(last_in(&interleaved(true), ExactlyOnce), Ok(newest), "also since then");
        let mut before = interleaved(true);
        before.truncate(5);
        let second = Some(Checkpoint { unfenced: true, ..checkpoint(1, 2) });
        assert_eq!(last_in(&before, AtLeastOnce), Ok(second), "the next owner begins here");
        // Of an earlier release, which did not say how it was written.
        assert_eq!(last_in(&interleaved(false), AtLeastOnce), Ok(Some(checkpoint(4, 3))));
        let diverged = last_in(&interleaved(false), ExactlyOnce);
        assert!(matches!(diverged, Err(Diverged::Sequence { .. })), "epochs do not permit it");
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
