//! The invariants of delivery-protocol.md, section 11, each under its own name. Looks only at what is new
//! since the last look.

use super::broker::{Broker, Commit};
use super::history::{History, owner};
use std::collections::BTreeMap;
use wal::Lsn;

/// What has been looked at.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Commits by lane.
    commits: Vec<usize>,
    /// Events by partition.
    shown: Vec<usize>,
    watermark: (u32, Lsn),
    /// Which lane has written to a partition in a revision.
    owners: BTreeMap<(u64, usize), u8>,
    newest_revision: u64,
}

/// What the world knows besides.
pub(crate) struct View<'a> {
    pub(crate) history: &'a History,
    /// Lanes of each revision, from the first.
    pub(crate) lanes: &'a [u8],
    /// Confirmed position of a slot that nobody else has moved.
    pub(crate) slot: Option<Lsn>,
}

impl View<'_> {
    fn lanes_of(&self, revision: u64) -> u8 {
        self.lanes[usize::try_from(revision).expect("few") - 1]
    }
}

impl Watch {
    pub(crate) fn new(broker: &Broker) -> Self {
        Self {
            commits: vec![0; broker.lanes.len()],
            shown: vec![0; broker.partitions.len()],
            watermark: (1, Lsn::ZERO),
            owners: BTreeMap::new(),
            newest_revision: 0,
        }
    }

    /// After every step.
    pub(crate) fn check(&mut self, broker: &Broker, view: &View<'_>) -> Result<(), String> {
        for (lane, log) in broker.lanes.iter().enumerate() {
            for index in self.commits[lane]..log.commits.len() {
                let previous = index.checked_sub(1).map(|before| &log.commits[before]);
                let commit = &log.commits[index];
                terms_do_not_fall(lane, previous, commit)?;
                lower_terms_are_not_obeyed(lane, commit)?;
                sequence_and_position_grow(lane, previous, commit)?;
                checkpoints_show_with_their_data(lane, commit, broker, view)?;
            }
            self.commits[lane] = log.commits.len();
        }
        data_shows_with_its_checkpoint(broker)?;
        for partition in 0..broker.partitions.len() {
            self.one_lane_per_partition_and_revision(partition, broker)?;
            self.routing_is_data(partition, broker, view)?;
            self.events_are_a_prefix(partition, broker, view)?;
            self.shown[partition] = broker.partitions[partition].len();
        }
        older_owners_do_not_write(broker)?;
        self.the_watermark_lies_between(broker, view)
    }

    fn routing_is_data(
        &self,
        partition: usize,
        broker: &Broker,
        view: &View<'_>,
    ) -> Result<(), String> {
        for seen in &broker.partitions[partition][self.shown[partition]..] {
            let lane = owner(view.lanes_of(seen.revision), partition);
            if view.history.route(seen.at) != partition || lane != Some(seen.lane) {
                return Err(format!(
                    "I4: {} is in partition {partition} by lane {}, and belongs to partition {} \
                     by lane {lane:?}",
                    seen.at,
                    seen.lane,
                    view.history.route(seen.at)
                ));
            }
        }
        Ok(())
    }

    fn one_lane_per_partition_and_revision(
        &mut self,
        partition: usize,
        broker: &Broker,
    ) -> Result<(), String> {
        for seen in &broker.partitions[partition][self.shown[partition]..] {
            let first = *self.owners.entry((seen.revision, partition)).or_insert(seen.lane);
            if first != seen.lane {
                let second = seen.lane;
                return Err(format!(
                    "I7: lanes {first} and {second} wrote to partition {partition}"
                ));
            }
            if seen.revision < self.newest_revision {
                return Err(format!(
                    "I7: partition {partition} got {} of revision {}, whose lanes were sealed",
                    seen.at, seen.revision
                ));
            }
        }
        let new = broker.partitions[partition][self.shown[partition]..].iter();
        self.newest_revision = new.map(|it| it.revision).fold(self.newest_revision, u64::max);
        Ok(())
    }

    fn events_are_a_prefix(
        &self,
        partition: usize,
        broker: &Broker,
        view: &View<'_>,
    ) -> Result<(), String> {
        let expected = &view.history.expected[partition];
        let new = broker.partitions[partition].iter().enumerate().skip(self.shown[partition]);
        for (index, seen) in new {
            if expected.get(index) != Some(&seen.at) {
                let shown: Vec<_> = broker.partitions[partition].iter().map(|it| it.at).collect();
                return Err(format!(
                    "I3: partition {partition} shows {shown:?}, no prefix of {expected:?}"
                ));
            }
        }
        Ok(())
    }

    fn the_watermark_lies_between(
        &mut self,
        broker: &Broker,
        view: &View<'_>,
    ) -> Result<(), String> {
        let watermark = &broker.meta.watermark;
        let (timeline, before) = self.watermark;
        if timeline == watermark.timeline && watermark.lsn < before {
            return Err(format!("I6: the low watermark went from {before} to {}", watermark.lsn));
        }
        self.watermark = (watermark.timeline, watermark.lsn);
        if let Some(slot) = view.slot.filter(|&slot| watermark.lsn < slot) {
            let lsn = watermark.lsn;
            return Err(format!("I6: the slot stands at {slot}, the low watermark at {lsn}"));
        }
        for (partition, shown) in broker.partitions.iter().enumerate() {
            if let Some((owed, end)) = view.history.owed(partition, shown.len())
                && end <= watermark.lsn
            {
                return Err(format!(
                    "I6: the low watermark stands at {}, partition {partition} lacks {owed}",
                    watermark.lsn
                ));
            }
        }
        Ok(())
    }
}

fn terms_do_not_fall(lane: usize, previous: Option<&Commit>, next: &Commit) -> Result<(), String> {
    let (before, after) = (previous.map_or(0, |it| it.checkpoint.term), next.checkpoint.term);
    if after < before {
        return Err(format!("I1: lane {lane} committed with term {after} after {before}"));
    }
    Ok(())
}

fn lower_terms_are_not_obeyed(lane: usize, commit: &Commit) -> Result<(), String> {
    let (term, fence) = (commit.checkpoint.term, commit.fence);
    if term < fence {
        return Err(format!("I8: lane {lane} took a commit of term {term} after fence {fence}"));
    }
    Ok(())
}

fn sequence_and_position_grow(
    lane: usize,
    previous: Option<&Commit>,
    next: &Commit,
) -> Result<(), String> {
    let next = &next.checkpoint;
    let txn_seq = previous.map_or(0, |it| it.checkpoint.txn_seq);
    if next.txn_seq != txn_seq + 1 {
        return Err(format!("I5: lane {lane}: transaction {} follows {txn_seq}", next.txn_seq));
    }
    if let Some(before) = previous.map(|it| it.checkpoint.pos).filter(|&it| next.pos < it) {
        return Err(format!("I5: lane {lane}: position {} follows {before}", next.pos));
    }
    Ok(())
}

/// What a checkpoint says is held is visible, and nothing beyond it.
fn checkpoints_show_with_their_data(
    lane: usize,
    commit: &Commit,
    broker: &Broker,
    view: &View<'_>,
) -> Result<(), String> {
    let Commit { checkpoint, .. } = commit;
    let lanes = view.lanes_of(checkpoint.rev);
    for (partition, shown) in broker.partitions.iter().enumerate() {
        if owner(lanes, partition).map(usize::from) != Some(lane) {
            continue;
        }
        let owed = view.history.owed(partition, shown.len());
        if let Some((owed, _)) = owed.filter(|(owed, _)| *owed <= checkpoint.pos) {
            return Err(format!(
                "I2: lane {lane}'s checkpoint says {}, partition {partition} lacks {owed}",
                checkpoint.pos
            ));
        }
        let last = shown.last().filter(|it| checkpoint.pos < it.at);
        if let Some(last) =
            last.filter(|it| usize::from(it.lane) == lane && is_last(commit, broker))
        {
            return Err(format!(
                "I2: lane {lane} shows {}, its checkpoint says {}",
                last.at, checkpoint.pos
            ));
        }
    }
    Ok(())
}

/// Only the newest checkpoint answers for what a lane shows.
fn is_last(commit: &Commit, broker: &Broker) -> bool {
    let same = |it: &Commit| std::ptr::eq(it, commit);
    broker.lanes.iter().any(|log| log.commits.last().is_some_and(same))
}

fn data_shows_with_its_checkpoint(broker: &Broker) -> Result<(), String> {
    let bare = broker.lanes.iter().zip(0..).find(|(log, _)| 0 < log.uncovered);
    bare.map_or(Ok(()), |(log, lane)| {
        let (lane, count): (u8, _) = (lane, log.uncovered);
        Err(format!("I2: lane {lane} shows {count} events without a checkpoint"))
    })
}

fn older_owners_do_not_write(broker: &Broker) -> Result<(), String> {
    let (writer, owner) = broker.meta.written;
    if writer < owner {
        return Err(format!(
            "I8: process {writer} wrote the low watermark after {owner} took over"
        ));
    }
    Ok(())
}
