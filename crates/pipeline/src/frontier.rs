//! The frontier: up to where everything routed is durable in every lane. Pure.

use crate::batch::Routed;
use record::transaction::Summary;
use std::collections::VecDeque;
use wal::Lsn;

/// Order of batches against the lanes' acknowledgements.
#[derive(Debug)]
pub struct Frontier {
    /// Per lane, the last batch that is durable.
    durable: Vec<u64>,
    outstanding: VecDeque<Routed>,
    seq: u64,
    confirmable: Option<Lsn>,
    commit_time_us: Option<u64>,
    /// That nobody was told of yet.
    transactions: Vec<Summary>,
}

impl Frontier {
    /// Nothing routed yet, on `lanes` lanes.
    #[must_use]
    pub fn new(lanes: u8) -> Self {
        Self {
            durable: vec![0; usize::from(lanes)],
            outstanding: VecDeque::new(),
            seq: 0,
            confirmable: None,
            commit_time_us: None,
            transactions: Vec::new(),
        }
    }

    /// A batch was routed; they come in the order of their numbers.
    pub fn routed(&mut self, routed: Routed) {
        debug_assert!(self.outstanding.back().is_none_or(|last| last.seq < routed.seq));
        self.outstanding.push_back(routed);
        self.advance();
    }

    /// A lane has made its parts durable, up to and including batch `seq`.
    pub fn durable(&mut self, lane: u8, seq: u64) {
        if let Some(last) = self.durable.get_mut(usize::from(lane)) {
            *last = (*last).max(seq);
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(head) = self.outstanding.front_mut() {
            let waits = (0u8..)
                .zip(&self.durable)
                .any(|(lane, &durable)| head.lanes >> lane & 1 == 1 && durable < head.seq);
            if waits {
                return;
            }
            self.seq = head.seq;
            self.confirmable = head.confirmable.or(self.confirmable);
            self.commit_time_us = head.commit_time_us.or(self.commit_time_us);
            self.transactions.append(&mut head.transactions);
            self.outstanding.pop_front();
        }
    }

    /// It and all before it are durable.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// End of the newest transaction such that it and all before it are durable; `None` before the
    /// first.
    #[must_use]
    pub fn confirmable(&self) -> Option<Lsn> {
        self.confirmable
    }

    /// When the newest captured transaction at or below that ended, microseconds since 1970; `None` before
    /// the first.
    #[must_use]
    pub fn commit_time_us(&self) -> Option<u64> {
        self.commit_time_us
    }

    /// Source transactions that end at or below [`Self::confirmable`], in commit order; each once.
    pub fn take_transactions(&mut self) -> Vec<Summary> {
        std::mem::take(&mut self.transactions)
    }

    /// How many of them wait.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// Batches that some lane still owes.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(seq: u64, lanes: u64, end: Option<u64>) -> Routed {
        let (confirmable, commit_time_us) = (end.map(Lsn), end.map(|end| end * 2));
        Routed { seq, lanes, confirmable, commit_time_us, transactions: Vec::new() }
    }

    #[test]
    fn the_slowest_lane_holds_the_frontier() {
        let mut frontier = Frontier::new(2);
        frontier.routed(routed(1, 0b11, Some(10)));
        frontier.routed(routed(2, 0b01, Some(20)));
        frontier.durable(0, 2);
        assert_eq!((frontier.seq(), frontier.confirmable()), (0, None));
        frontier.durable(1, 1);
        assert_eq!((frontier.seq(), frontier.confirmable()), (2, Some(Lsn(20))));
        assert_eq!(frontier.commit_time_us(), Some(40));
    }

    #[test]
    fn a_batch_inside_a_transaction_confirms_nothing() {
        let mut frontier = Frontier::new(1);
        frontier.routed(routed(1, 1, Some(10)));
        frontier.routed(routed(2, 1, None));
        frontier.durable(0, 2);
        assert_eq!((frontier.seq(), frontier.confirmable()), (2, Some(Lsn(10))));
        assert_eq!(frontier.commit_time_us(), Some(20), "of what is confirmed");
    }

    #[test]
    fn an_idle_position_waits_for_what_came_before() {
        let mut frontier = Frontier::new(1);
        frontier.routed(routed(1, 1, Some(10)));
        frontier.routed(routed(2, 0, Some(99)));
        assert_eq!(frontier.confirmable(), None);
        frontier.durable(0, 1);
        assert_eq!(frontier.confirmable(), Some(Lsn(99)));
    }

    proptest::proptest! {
        #[test]
        fn what_is_confirmed_is_durable_in_every_lane(
            steps in proptest::collection::vec((0u8..4, 0u64..16), 1..60)
        ) {
            let mut frontier = Frontier::new(4);
            let mut sent = [0u64; 4];
            let mut durable = [0u64; 4];
            let mut parts: Vec<u64> = Vec::new();
            for (lane, mask) in steps {
                let seq = parts.len() as u64 + 1;
                if mask % 2 == 0 {
                    parts.push(mask);
                    frontier.routed(routed(seq, mask, Some(seq)));
                    (0..4).filter(|n| mask >> n & 1 == 1).for_each(|n| sent[n] = seq);
                } else {
                    let lane_index = usize::from(lane);
                    durable[lane_index] = durable[lane_index].max(sent[lane_index].min(mask));
                    frontier.durable(lane, durable[lane_index]);
                }
                let confirmed = frontier.confirmable().map_or(0, |lsn| lsn.0);
                for seq in 1..=confirmed {
                    let mask = parts[seq as usize - 1];
                    for (n, &durable) in durable.iter().enumerate() {
                        proptest::prop_assert!(mask >> n & 1 == 0 || seq <= durable);
                    }
                }
            }
        }
    }
}
