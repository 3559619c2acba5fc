//! A model of what the cluster rests on in Kafka: the control topic behind the epoch of the leader's
//! producer, and lanes behind theirs.

use super::Bug;
use node::state::{Fence, Term};
use std::collections::{BTreeMap, BTreeSet};

/// A record of the control topic.
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
    /// Term that it carries; a fence's own offset; none for a tombstone.
    pub(crate) term: Option<Term>,
    /// The highest term that had begun before.
    pub(crate) highest: Term,
}

/// What a transaction writes: key and value, none to remove.
pub(crate) type Write = (String, Option<Vec<u8>>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Committed,
    Fenced,
}

#[derive(Default)]
pub(crate) struct Control {
    pub(crate) records: Vec<Record>,
    epoch: i64,
    highest: Term,
    /// The broker lets older epochs pass. Nothing promises more than that terms tell.
    pub(crate) leaks: bool,
    /// Requests on their way: epoch, term, records.
    late: Vec<(i64, Term, Vec<Write>)>,
}

impl Control {
    /// Opens the leader's producer and writes its fence. Returns its epoch and its term.
    pub(crate) fn take(&mut self, node: &str) -> (i64, Term) {
        self.epoch += 1;
        let term = i64::try_from(self.records.len()).expect("few");
        let fence =
            Fence { v: 1, node: node.into(), address: format!("{node}:7420"), ver: "0".into() };
        let (key, value) = ("f".into(), Some(fence.to_json()));
        self.records.push(Record { key, value, term: Some(term), highest: self.highest });
        self.highest = term;
        (self.epoch, term)
    }

    pub(crate) fn write(&mut self, epoch: i64, term: Term, writes: Vec<Write>) -> Outcome {
        let removes = writes.iter().any(|(_, value)| value.is_none());
        if epoch != self.epoch && (!self.leaks || removes) {
            return Outcome::Fenced;
        }
        for (key, value) in writes {
            let term = value.is_some().then_some(term);
            self.records.push(Record { key, value, term, highest: self.highest });
        }
        Outcome::Committed
    }

    /// The request is on its way, and nobody hears of it.
    pub(crate) fn delay(&mut self, epoch: i64, term: Term, writes: Vec<Write>) {
        self.late.push((epoch, term, writes));
    }

    /// One of the requests that are on their way arrives.
    pub(crate) fn deliver_late(&mut self, any: usize) {
        if !self.late.is_empty() {
            let (epoch, term, writes) = self.late.swap_remove(any % self.late.len());
            self.write(epoch, term, writes);
        }
    }

    pub(crate) fn end(&self) -> i64 {
        i64::try_from(self.records.len()).expect("few")
    }
}

/// Number of a lane of a task.
pub(crate) type LaneKey = (String, usize);

#[derive(Default)]
pub(crate) struct LaneLog {
    /// Of the newest owner.
    pub(crate) term: i64,
    pub(crate) position: u64,
    committed: i64,
}

#[derive(Default)]
pub(crate) struct Lanes {
    pub(crate) logs: BTreeMap<LaneKey, LaneLog>,
    pub(crate) broken: Option<String>,
    /// Fronts that their next owner has asked for, by task and worker: gone once they have ended.
    pub(crate) asked: BTreeSet<(String, String)>,
    /// Fronts that were handed over.
    pub(crate) handed_over: usize,
    /// Commits that a newer owner has prevented.
    pub(crate) fenced: usize,
}

impl Lanes {
    /// A new owner: its term, and the position of the lane.
    pub(crate) fn open(&mut self, lane: &LaneKey) -> (i64, u64) {
        let log = self.logs.entry(lane.clone()).or_default();
        log.term += 1;
        (log.term, log.position)
    }

    /// Commits what follows `position`.
    pub(crate) fn commit(
        &mut self,
        lane: &LaneKey,
        term: i64,
        position: u64,
        bug: Option<Bug>,
    ) -> Outcome {
        let log = self.logs.entry(lane.clone()).or_default();
        if term != log.term && bug != Some(Bug::LanesNotFenced) {
            self.fenced += 1;
            return Outcome::Fenced;
        }
        if term < log.committed {
            self.broken = Some(format!("I1: {lane:?}: term {term} follows {}", log.committed));
        } else if position != log.position {
            let text = format!("I5: {lane:?}: {position} where it stands at {}", log.position);
            self.broken = Some(text);
        }
        log.committed = term;
        log.position = position + 1;
        Outcome::Committed
    }
}
