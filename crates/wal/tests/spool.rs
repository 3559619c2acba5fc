//! Transactions that are held until their number of changes is known.
#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod encode;

use bytes::Bytes;
use encode::{
    Value, begin, commit, complete, delete, insert, keepalive, logical, relation, text, truncate,
    tuple, xlog_data,
};
use proptest::prelude::*;
use wal::ChangeBatch;
use wal::decoder::{Decoder, Options, Step};
use wal::spool::Spool;

/// The stream of transactions with these numbers of changes, message by message; each change has a value of
/// so many bytes.
fn messages(lengths: &[usize], value_bytes: usize) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut lsn = 100;
    for (xid, &length) in (1..).zip(lengths) {
        let end = lsn + 10_000;
        messages.push(xlog_data(lsn, &begin(end, 0, xid)));
        messages.push(xlog_data(lsn, &relation(16, "t", &["a"])));
        for _ in 0..length {
            lsn += 1;
            messages.push(xlog_data(lsn, &insert(16, &[text(&"x".repeat(value_bytes))])));
        }
        messages.push(keepalive(lsn, false));
        messages.push(xlog_data(end, &commit(end, end + 1, 0)));
        lsn = end + 1;
    }
    messages
}

/// Buffers of so many messages each, through a spool and a decoder.
fn decoded(messages: &[Vec<u8>], sizes: &[usize], bytes_max: usize) -> Vec<ChangeBatch> {
    decoded_with(None, messages, sizes, bytes_max)
}

/// The same, with helper objects that capture DDL.
fn decoded_with(
    helpers: Option<&str>,
    messages: &[Vec<u8>],
    sizes: &[usize],
    bytes_max: usize,
) -> Vec<ChangeBatch> {
    let mut spool = Spool::new(bytes_max).with_statements(helpers);
    let options = Options { ddl: helpers.map(Into::into), ..Options::default() };
    let mut decoder = Decoder::new(options);
    let mut batches = Vec::new();
    let (mut rest, mut sizes) = (messages, sizes.iter().cycle());
    let (mut sent, mut seen) = (0, Vec::new());
    while !rest.is_empty() {
        let (buffer, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        rest = after;
        spool.push(Bytes::from(buffer.concat()), sent);
        sent += 1;
        decoder.expect(spool.lengths());
        while let Some((bytes, number)) = spool.pop() {
            seen.push(number);
            let mut step = decoder.decode(bytes).unwrap();
            while let Step::Describe(description) = step {
                decoder.learn(complete(&description));
                step = decoder.resume().unwrap();
            }
            let Step::Done(batch) = step else { unreachable!("described above") };
            batches.push(batch);
        }
    }
    assert!(!spool.is_holding(), "the last transaction has ended");
    assert_eq!(seen, (0..sent).collect::<Vec<_>>(), "in their order");
    batches
}

/// Of each transaction that has changes, in every batch that has some of it: its xid, and what is known.
fn known(batches: &[ChangeBatch]) -> Vec<(u32, Option<u64>)> {
    let transactions = batches.iter().flat_map(|batch| &batch.transactions);
    let mut known: Vec<_> = transactions.map(|it| (it.xid, it.changes_count)).collect();
    known.dedup();
    known
}

#[test]
fn a_transaction_over_many_buffers_has_its_length_in_the_first() {
    let batches = decoded(&messages(&[5, 1, 0, 3], 1), &[2], 1 << 20);
    assert_eq!(known(&batches), [(1, Some(5)), (2, Some(1)), (4, Some(3))]);
}

#[test]
fn above_the_limit_the_length_is_not_known_and_nothing_is_held() {
    let long = messages(&[3, 40, 3], 100);
    let batches = decoded(&long, &[4], 2_000);
    let known = known(&batches);
    assert_eq!((known[0], known[1]), ((1, Some(3)), (2, None)));
    assert_eq!(known.last(), Some(&(3, Some(3))), "the next one is held again");
}

#[test]
fn a_truncate_of_some_tables_is_as_many_changes() {
    let stream = [
        xlog_data(1, &begin(9, 0, 7)),
        xlog_data(1, &relation(16, "t", &["a"])),
        xlog_data(1, &relation(17, "u", &["a"])),
        xlog_data(2, &truncate(&[16, 17], 0)),
        xlog_data(3, &insert(16, &[text("x")])),
        xlog_data(9, &commit(9, 10, 0)),
    ];
    assert_eq!(known(&decoded(&stream, &[1], 1 << 20)), [(7, Some(3))]);
}

/// Positions number them with the rows, so the length counts them, too: else it would be below the last number.
#[test]
fn captured_statements_are_changes() {
    let row = [Value::Null, text("[[\"public\",\"t\"]]"), text("{}")];
    let statement = tuple(&row);
    let ours = |transactional, content: &[u8]| logical(transactional, 2, "public.ddl", content);
    let stream = [
        xlog_data(1, &begin(9, 0, 7)),
        xlog_data(1, &relation(16, "t", &["a"])),
        xlog_data(2, &ours(true, &statement)),
        // A second message follows each; others, and what is outside of the transaction, are none.
        xlog_data(2, &ours(true, b"")),
        xlog_data(2, &ours(false, &statement)),
        xlog_data(2, &logical(true, 2, "public.ddl.other", &statement)),
        xlog_data(3, &insert(16, &[text("x")])),
        xlog_data(9, &commit(9, 10, 0)),
    ];
    let batches = decoded_with(Some("public"), &stream, &[1], 1 << 20);
    assert_eq!(known(&batches), [(7, Some(2))]);
    assert_eq!(batches.iter().map(|it| it.changes.len()).sum::<usize>(), 2);
    assert_eq!(known(&decoded(&stream, &[1], 1 << 20)), [(7, Some(1))], "nobody captures");
    // Before 14: rows of a helper table, which are taken away again.
    let stream = [
        xlog_data(1, &begin(9, 0, 7)),
        xlog_data(1, &relation(15, "ddl", &["id", "changed", "content"])),
        xlog_data(1, &relation(16, "t", &["a"])),
        xlog_data(2, &insert(15, &row)),
        xlog_data(2, &delete(15, b'K', &[text("1"), Value::Null, Value::Null])),
        xlog_data(3, &truncate(&[15, 16], 0)),
        xlog_data(9, &commit(9, 10, 0)),
    ];
    let batches = decoded_with(Some("public"), &stream, &[1], 1 << 20);
    assert_eq!(known(&batches), [(7, Some(2))]);
    assert_eq!(batches.iter().map(|it| it.changes.len()).sum::<usize>(), 2);
}

#[test]
fn what_is_given_up_is_passed_on_and_counted_no_more() {
    let mut spool = Spool::new(1 << 20);
    let stream = messages(&[4, 2], 1);
    let (first, rest) = stream.split_at(3);
    spool.push(Bytes::from(first.concat()), 'a');
    assert!(spool.is_holding() && spool.pop().is_none());
    spool.give_up();
    spool.give_up();
    assert_eq!(spool.lengths().collect::<Vec<_>>(), [None]);
    assert_eq!(spool.pop().map(|it| it.1), Some('a'));
    spool.push(Bytes::from(rest.concat()), 'b');
    assert_eq!(spool.lengths().collect::<Vec<_>>(), [Some(2)]);
    assert_eq!(spool.pop().map(|it| it.1), Some('b'));
}

#[test]
fn damage_is_left_to_the_decoder() {
    let mut spool = Spool::new(1 << 20);
    let mut bytes = messages(&[1], 1)[..2].concat();
    bytes.extend_from_slice(b"damage");
    spool.push(Bytes::from(bytes), ());
    assert_eq!(spool.lengths().collect::<Vec<_>>(), [None]);
    assert!(spool.pop().is_some());
}

proptest! {
    #[test]
    fn every_length_is_known_or_above_the_limit(
        lengths in prop::collection::vec(0..30_usize, 1..8),
        sizes in prop::collection::vec(1..9_usize, 1..5),
        bytes_max in prop_oneof![Just(1 << 20), 0..3_000_usize],
    ) {
        let batches = decoded(&messages(&lengths, 20), &sizes, bytes_max);
        let mut counted = std::collections::BTreeMap::<u32, u64>::new();
        for batch in &batches {
            for change in &batch.changes {
                *counted.entry(batch.transaction(change).xid).or_default() += 1;
            }
        }
        for (xid, known) in known(&batches) {
            let expected = lengths[xid as usize - 1] as u64;
            prop_assert_eq!(counted[&xid], expected);
            match known {
                Some(length) => prop_assert_eq!(length, expected),
                None => prop_assert!(bytes_max < 1 << 20),
            }
        }
    }

    #[test]
    fn no_input_panics(bytes: Vec<u8>, more: Vec<u8>) {
        let mut spool = Spool::new(8).with_statements(Some("public"));
        spool.push(Bytes::from(bytes), ());
        spool.push(Bytes::from([xlog_data(1, &begin(9, 0, 7)), more].concat()), ());
        spool.give_up();
        prop_assert!(spool.pop().is_some() && spool.pop().is_some());
    }
}
