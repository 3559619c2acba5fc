//! Transactions that a broker has forgotten to end.
//!
//! A coordinator that starts while its brokers are still coming up ends what it finds begun: it carries
//! out commits that were asked for, and aborts what was open for longer than the transaction time-out.
//! Partitions whose leader it does not know yet it takes for deleted: it writes no marker there, and notes
//! the transaction as ended all the same (seen with Kafka 4.3.1, `TransactionMarkerChannelManager`: "these
//! partitions are likely deleted already and hence can be skipped"). Consumers then wait in front of its
//! records, and whatever ends the next transaction of the same producer id there ends these, too.
//!
//! So what is left is judged before the lane writes anything. Aborted records are ended here. Committed
//! ones are left to the lane's next commit: no record can be written only to end them. Where that one was
//! aborted with them, the next opening notices (`Looks::verify_visible`).

use crate::Error;
use crate::checkpoint::{CHECKPOINT_KEY, Checkpoint};
use crate::lookup::{Looks, Offsets};
use crate::names::{LaneId, Names, Seat};
use crate::read::{Entry, Reader};
use crate::settings::Settings;
use crate::transactional::{Transactional, millis_now};
use record::Record;
use tracing::warn;

/// Key of the record that takes a partition into a transaction. It is never committed.
const KEY: &[u8] = b"distributary.end-of-aborted-transaction";

/// Ends what was aborted in `data` and in the lane's own partition of the checkpoint topic, by taking it
/// into a transaction of `transactional`, which whoever opens the lane next aborts. `true`: there was
/// something, so this instance must be dropped and the lane opened again.
///
/// `transactional` is fresh: none of its own is open, and the coordinator has ended every older one. Of a
/// stranger's open transaction nothing changes.
pub(crate) fn end_aborted(
    settings: &Settings,
    looks: &Looks,
    names: &Names,
    lane: LaneId,
    transactional: &mut Transactional,
    data: &[(String, i32)],
) -> Result<bool, Error> {
    let seat = names.seat(lane);
    let own = (seat.topic.clone(), seat.partition);
    let partitions: Vec<_> = data.iter().cloned().chain([own.clone()]).collect();
    let open = looks.open_transactions(&partitions)?;
    if open.is_empty() {
        return Ok(false);
    }
    let last = |entries: &[Entry]| {
        let last = entries.iter().rfind(|entry| entry.key == CHECKPOINT_KEY)?;
        Checkpoint::parse(&last.value, names, lane).ok()
    };
    let undecided = match open.get(&own) {
        Some(&begin) => last(&Reader::uncommitted(settings, &seat, begin)?.to_end()?),
        None => None,
    };
    let aborted = match &undecided {
        Some(next) => {
            let look = |topic: &str, at, offset| looks.is_visible(settings, topic, at, offset);
            if was_aborted(next, &open, look)? { open.keys().collect() } else { Vec::new() }
        }
        None => {
            let committed = last(&Reader::new(settings, &seat)?.to_end()?);
            let is_aborted = |(at, begin): &(&(String, i32), &i64)| {
                **at != own && !holds(committed.as_ref(), at, **begin)
            };
            open.iter().filter(is_aborted).map(|(at, _)| at).collect()
        }
    };
    for at @ (topic, partition) in open.keys() {
        let outcome = if aborted.contains(&at) { "aborted" } else { "committed" };
        tell(topic, *partition, outcome);
    }
    for (topic, partition) in &aborted {
        transactional.send(&Record {
            topic,
            partition: *partition,
            key: Some(KEY),
            value: None,
            headers: &[],
            timestamp_ms: millis_now(),
        })?;
    }
    transactional.settle()?;
    Ok(!aborted.is_empty())
}

/// Tells of what was left open where nobody can say how it ended: a seat whose records have no checkpoint.
/// Its owner was never told either, so its next commit, which shows them, is as good as the one that failed.
pub(crate) fn tell_open(looks: &Looks, seat: &Seat) -> Result<(), Error> {
    let own = (seat.topic.clone(), seat.partition);
    for (topic, partition) in looks.open_transactions(&[own])?.keys() {
        tell(topic, *partition, "committed");
    }
    Ok(())
}

fn tell(topic: &str, partition: i32, outcome: &str) {
    warn!(topic, partition, outcome, "a broker has left a transaction open that has ended");
}

/// What a checkpoint that is not decided itself belongs to. Where its records were decided, that holds for all;
/// where none was, nobody has seen either outcome, but we may have been told that it was committed.
///
/// Some may be decided otherwise than the rest: the broker forgot the end of a commit in a part of the partitions,
/// and the abort of the next transaction took these along. What consumers have seen of it cannot be sent again.
fn was_aborted(
    next: &Checkpoint,
    open: &Offsets,
    is_visible: impl Fn(&str, i32, i64) -> Result<Option<bool>, Error>,
) -> Result<bool, Error> {
    let (mut seen, mut gone) = (false, None);
    for (topic, partitions) in &next.prev_end {
        for (&partition, &end) in partitions {
            let is_open = open.get(&(topic.clone(), partition)).is_some_and(|&begin| begin <= end);
            if is_open {
                continue;
            }
            match is_visible(topic, partition, end)? {
                Some(true) => seen = true,
                Some(false) => drop(gone.get_or_insert_with(|| (topic.clone(), partition, end))),
                // Retention took it.
                None => {}
            }
        }
    }
    match gone {
        Some((topic, partition, offset)) if seen => {
            Err(Error::CommittedAborted { topic, partition, offset })
        }
        gone => Ok(gone.is_some()),
    }
}

/// Whether the lane's last committed transaction wrote what is open from `begin` on.
fn holds(committed: Option<&Checkpoint>, (topic, partition): &(String, i32), begin: i64) -> bool {
    let end = committed.and_then(|it| it.prev_end.get(topic)?.get(partition));
    end.is_some_and(|&end| begin <= end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Ends, VERSION};
    use wal::{Lsn, Position};

    fn checkpoint(ends: &[(i32, i64)]) -> Checkpoint {
        Checkpoint {
            v: VERSION,
            task: "shop".into(),
            rev: 1,
            lane: LaneId::Lane(0),
            term: 1,
            txn_seq: 1,
            pos: Position::ZERO,
            end_lsn: Lsn::ZERO,
            complete: true,
            sealed: false,
            snap: Vec::new(),
            counted: 0,
            prev_end: Ends::from([("orders".into(), ends.iter().copied().collect())]),
            older_end: Ends::new(),
            unfenced: false,
            node: String::new(),
            ver: String::new(),
        }
    }

    fn open(partitions: &[(i32, i64)]) -> Offsets {
        let of = |&(at, begin): &(i32, i64)| (("orders".to_owned(), at), begin);
        partitions.iter().map(of).collect()
    }

    #[test]
    fn what_is_undecided_everywhere_counts_as_committed() {
        let aborted =
            was_aborted(&checkpoint(&[(0, 9), (1, 5)]), &open(&[(0, 7), (1, 5)]), |_, _, _| {
                panic!("nothing is decided")
            });
        assert!(!aborted.expect("a verdict"));
    }

    #[test]
    fn one_decided_partition_decides_for_all() {
        for visible in [false, true] {
            let aborted =
                was_aborted(&checkpoint(&[(0, 9), (1, 5)]), &open(&[(0, 7)]), |_, at, end| {
                    assert_eq!((at, end), (1, 5));
                    Ok(Some(visible))
                });
            assert_eq!(aborted.expect("a verdict"), !visible);
        }
    }

    #[test]
    fn a_transaction_of_which_only_a_part_is_visible_is_for_a_person() {
        for visible in [0, 1] {
            let error = was_aborted(&checkpoint(&[(0, 9), (1, 5)]), &open(&[]), |_, at, _| {
                Ok(Some(at == visible))
            })
            .expect_err("neither outcome");
            let Error::CommittedAborted { partition, .. } = error else { panic!("{error}") };
            assert_eq!(partition, 1 - visible);
        }
    }

    #[test]
    fn records_of_the_last_committed_transaction_are_committed() {
        let at = ("orders".to_owned(), 0);
        let committed = checkpoint(&[(0, 9)]);
        assert!(holds(Some(&committed), &at, 9));
        assert!(!holds(Some(&committed), &at, 10), "of the next transaction");
        assert!(!holds(Some(&committed), &("orders".to_owned(), 1), 0));
        assert!(!holds(None, &at, 0));
    }
}
