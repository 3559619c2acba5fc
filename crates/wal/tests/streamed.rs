//! Transactions in progress become ordinary ones: against a model of a server that streams.
#![allow(clippy::unwrap_used, reason = "a test may fail here")]

mod encode;

use bytes::{Bytes, BytesMut};
use encode::{
    begin, commit, complete, insert, join, keepalive, logical, relation, text, xlog_data,
};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};
use wal::decoder::{self, Decoder};
use wal::frame::{Frame, Frames};
use wal::streamed::{Error, Replay, Step, Streamed};

fn stream_start(xid: u32, is_first: bool) -> Vec<u8> {
    join(&[b"S", &xid.to_be_bytes(), &[u8::from(is_first)]])
}

fn stream_commit(xid: u32, commit_lsn: u64) -> Vec<u8> {
    join(&[b"c", &xid.to_be_bytes(), &commit(commit_lsn, commit_lsn + 1, 77)[1..]])
}

fn stream_abort(xid: u32, subtransaction: u32) -> Vec<u8> {
    join(&[b"A", &xid.to_be_bytes(), &subtransaction.to_be_bytes()])
}

/// A message as it comes inside a stream.
fn made_by(xid: u32, message: &[u8]) -> Vec<u8> {
    join(&[&message[..1], &xid.to_be_bytes(), &message[1..]])
}

/// What a pipeline would do with the steps: spools in memory.
struct Spools {
    core: Streamed,
    spools: HashMap<u32, Vec<u8>>,
    out: Vec<Bytes>,
}

impl Spools {
    fn new() -> Self {
        Self { core: Streamed::new(1 << 30), spools: HashMap::new(), out: Vec::new() }
    }

    fn take(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        for step in self.core.take(&bytes.into())? {
            match step {
                Step::Pass(bytes) => self.out.push(bytes),
                Step::Write { xid, at, bytes } => {
                    let spool = self.spools.entry(xid).or_default();
                    assert_eq!(spool.len() as u64, at);
                    spool.extend(&bytes);
                }
                Step::Cut { xid, to } => {
                    self.spools.get_mut(&xid).unwrap().truncate(to.try_into().unwrap());
                }
                // Nothing may have been written.
                Step::Drop { xid } => drop(self.spools.remove(&xid)),
                Step::Replay(Replay { xid, begin, bytes, end }) => {
                    let spool = self.spools.remove(&xid).unwrap_or_default();
                    assert_eq!(spool.len() as u64, bytes);
                    let mut all = BytesMut::from(&begin[..]);
                    all.extend(&spool);
                    all.extend(&end);
                    self.out.push(all.freeze());
                }
            }
        }
        let held: usize = self.spools.values().map(Vec::len).sum();
        assert_eq!(self.core.bytes(), held as u64);
        Ok(())
    }
}

/// A row as a consumer sees it, by the columns that it had when it was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Row {
    lsn: u64,
    columns: Vec<String>,
    value: String,
}

/// A transaction that has committed: its rows in their order.
type Committed = (u32, u64, Vec<Row>);

#[derive(Clone, Debug)]
struct Change {
    made_by: u32,
    oid: u32,
    lsn: u64,
}

#[derive(Debug, Default)]
struct Savepoint {
    xid: Option<u32>,
    /// Subtransactions within it that were released.
    released: Vec<u32>,
}

#[derive(Debug)]
struct Transaction {
    xid: u32,
    savepoints: Vec<Savepoint>,
    unsent: Vec<Change>,
    sent: Vec<(u32, Row)>,
    is_streamed: bool,
}

/// A server: what happens on it, and what it sends of it.
#[derive(Debug, Default)]
struct Server {
    lsn: u64,
    xids: u32,
    running: Vec<Option<Transaction>>,
    versions: HashMap<u32, u32>,
    /// Relations that the client knows.
    described: HashSet<u32>,
    /// Relations that a transaction in progress has described: (oid, xid).
    described_in: HashSet<(u32, u32)>,
    messages: Vec<Vec<u8>>,
    committed: Vec<Committed>,
}

impl Server {
    fn new(transactions: usize) -> Self {
        Self { lsn: 100, running: (0..transactions).map(|_| None).collect(), ..Self::default() }
    }

    fn send(&mut self, message: &[u8]) {
        self.messages.push(xlog_data(self.lsn, message));
    }

    fn columns(&self, oid: u32) -> Vec<String> {
        let version = self.versions.get(&oid).copied().unwrap_or_default();
        vec!["id".to_owned(), format!("v{version}")]
    }

    /// Describes a relation where the client does not know it, and sends the row.
    fn send_row(&mut self, change: &Change, stream: Option<u32>) -> Row {
        let columns = self.columns(change.oid);
        let is_known = match stream {
            Some(xid) => !self.described_in.insert((change.oid, xid)),
            None => !self.described.insert(change.oid),
        };
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let wrap = |message: Vec<u8>| match stream {
            Some(_) => made_by(change.made_by, &message),
            None => message,
        };
        if !is_known {
            let name = format!("t{}", change.oid);
            self.messages.push(xlog_data(0, &wrap(relation(change.oid, &name, &names))));
        }
        let value = format!("row {}", change.lsn);
        let row = insert(change.oid, &[text(&value), text("x")]);
        self.messages.push(xlog_data(change.lsn, &wrap(row)));
        Row { lsn: change.lsn, columns, value }
    }

    fn running(&mut self, index: usize) -> &mut Transaction {
        let xids = &mut self.xids;
        self.running[index].get_or_insert_with(|| {
            *xids += 1;
            Transaction {
                xid: *xids,
                savepoints: Vec::new(),
                unsent: Vec::new(),
                sent: Vec::new(),
                is_streamed: false,
            }
        })
    }

    fn write(&mut self, index: usize, oid: u32) {
        self.running(index);
        let (mut next, mut made_by) = (self.xids, self.running[index].as_ref().unwrap().xid);
        // Outer ones get their number first.
        for savepoint in &mut self.running(index).savepoints {
            made_by = *savepoint.xid.get_or_insert_with(|| {
                next += 1;
                next
            });
        }
        self.xids = next;
        let lsn = self.lsn;
        self.running(index).unsent.push(Change { made_by, oid, lsn });
    }

    fn stream(&mut self, index: usize) {
        let transaction = self.running(index);
        let (xid, is_first) = (transaction.xid, !transaction.is_streamed);
        transaction.is_streamed = true;
        let unsent = std::mem::take(&mut transaction.unsent);
        self.send(&stream_start(xid, is_first));
        let mut sent = Vec::new();
        for change in unsent {
            sent.push((change.made_by, self.send_row(&change, Some(xid))));
        }
        self.send(b"E");
        self.running(index).sent.extend(sent);
    }

    fn release(&mut self, index: usize) {
        let savepoints = &mut self.running(index).savepoints;
        if let Some(ended) = savepoints.pop()
            && let Some(outer) = savepoints.last_mut()
        {
            outer.released.extend(ended.released);
            outer.released.extend(ended.xid);
        }
    }

    fn roll_back_to(&mut self, index: usize) {
        let transaction = self.running(index);
        let Some(ended) = transaction.savepoints.pop() else { return };
        let gone: BTreeSet<u32> = ended.released.into_iter().chain(ended.xid).collect();
        transaction.unsent.retain(|it| !gone.contains(&it.made_by));
        transaction.sent.retain(|it| !gone.contains(&it.0));
        let (xid, is_streamed) = (transaction.xid, transaction.is_streamed);
        if is_streamed && !gone.is_empty() {
            for gone in gone {
                self.send(&stream_abort(xid, gone));
            }
            self.described_in.retain(|it| it.1 != xid);
        }
    }

    fn end(&mut self, index: usize, commits: bool) {
        self.running(index);
        if commits && self.running(index).is_streamed {
            self.stream(index);
        }
        let Transaction { xid, sent, unsent, is_streamed, .. } =
            self.running[index].take().unwrap();
        let rows = match (commits, is_streamed) {
            (true, true) => {
                self.send(&stream_commit(xid, self.lsn));
                let described = self.described_in.iter().filter(|it| it.1 == xid);
                self.described.extend(described.map(|it| it.0));
                sent.into_iter().map(|it| it.1).collect()
            }
            (true, false) => {
                self.send(&begin(self.lsn, 77, xid));
                let rows = unsent.iter().map(|change| self.send_row(change, None)).collect();
                self.send(&commit(self.lsn, self.lsn + 1, 77));
                rows
            }
            (false, true) => return self.send(&stream_abort(xid, xid)),
            (false, false) => return,
        };
        self.described_in.retain(|it| it.1 != xid);
        self.committed.push((xid, self.lsn, rows));
    }

    /// Another definition, also for transactions in progress, as where a publication is altered.
    fn alter(&mut self, oid: u32) {
        *self.versions.entry(oid).or_default() += 1;
        self.described.remove(&oid);
        self.described_in.retain(|it| it.0 != oid);
    }

    fn does(&mut self, (what, index, oid): (u8, usize, u32)) {
        self.lsn += 10;
        match what {
            0..=7 => self.write(index, oid),
            8 => self.running(index).savepoints.push(Savepoint::default()),
            9 => self.release(index),
            10 => self.roll_back_to(index),
            11..=13 => self.stream(index),
            14 => self.end(index, true),
            15 => self.end(index, false),
            16 => self.alter(oid),
            _ => self.messages.push(keepalive(self.lsn, false)),
        }
    }
}

/// What a decoder makes of it: transactions with their rows.
fn decoded(buffers: Vec<Bytes>) -> Vec<Committed> {
    let mut decoder = Decoder::new(decoder::Options::default());
    let mut committed: Vec<Committed> = Vec::new();
    for bytes in buffers {
        let mut step = decoder.decode(bytes).unwrap();
        while let decoder::Step::Describe(description) = step {
            decoder.learn(complete(&description));
            step = decoder.resume().unwrap();
        }
        let decoder::Step::Done(batch) = step else { unreachable!("described above") };
        for change in &batch.changes {
            let transaction = batch.transaction(change);
            if committed.last().is_none_or(|it| it.0 != transaction.xid) {
                committed.push((transaction.xid, transaction.commit_lsn.0, Vec::new()));
            }
            let rows = &mut committed.last_mut().unwrap().2;
            assert_eq!(change.ordinal, rows.len() as u64);
            let columns = batch.table(change).columns.iter().map(|it| it.name.to_string());
            let tuple = batch.tuple(change.new.unwrap());
            let value = match tuple.iter().next() {
                Some(wal::Datum::Text(value)) => String::from_utf8(value.to_vec()).unwrap(),
                other => panic!("{other:?}"),
            };
            rows.push(Row { lsn: change.lsn.0, columns: columns.collect(), value });
        }
    }
    committed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn what_comes_out_is_what_has_committed(
        script in prop::collection::vec((0..18_u8, 0..4_usize, 1..4_u32), 1..150),
        sizes in prop::collection::vec(1..40_usize, 1..6),
    ) {
        let mut server = Server::new(4);
        script.into_iter().for_each(|it| server.does(it));
        for index in 0..4 {
            server.lsn += 10;
            server.end(index, index % 2 == 0);
        }
        let mut spools = Spools::new();
        let (mut rest, mut sizes) = (server.messages.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (buffer, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = after;
            spools.take(buffer.concat()).unwrap();
        }
        let mut expected = server.committed;
        expected.retain(|it| !it.2.is_empty());
        prop_assert_eq!(decoded(spools.out), expected);
        prop_assert!(spools.spools.is_empty());
        prop_assert_eq!((spools.core.bytes(), spools.core.transactions()), (0, 0));
    }
}

fn tags(bytes: &Bytes) -> String {
    let tag = |frame| match frame {
        Ok(Frame::XLogData { payload, .. }) => char::from(bytes[payload.start]),
        Ok(Frame::Keepalive { .. }) => 'k',
        Err(error) => panic!("{error}"),
    };
    Frames::new(bytes).map(tag).collect()
}

#[test]
fn a_streamed_transaction_is_byte_for_byte_what_comes_without_streaming() {
    let (r, i) = (relation(16, "t", &["a"]), insert(16, &[text("x")]));
    let m = logical(true, 6, "p", b"c");
    let messages = [
        xlog_data(5, &stream_start(7, true)),
        xlog_data(0, b"O\0\0\0\0\0\0\0\0name\0"),
        xlog_data(0, &made_by(7, &r)),
        xlog_data(5, &made_by(8, &i)),
        xlog_data(6, &made_by(7, &m)),
        xlog_data(6, b"E"),
        xlog_data(9, &stream_commit(7, 9)),
    ];
    let mut spools = Spools::new();
    spools.take(messages.concat()).unwrap();
    let ordinary = [
        xlog_data(5, &begin(9, 77, 7)),
        xlog_data(0, &r),
        xlog_data(5, &i),
        xlog_data(6, &m),
        xlog_data(9, &commit(9, 10, 77)),
    ];
    let expected = ordinary.concat();
    // The end of WAL is the one of the commit: nobody reads it here any more.
    let out = spools.out.concat();
    assert_eq!(tags(&out.clone().into()), "BRIMC");
    assert_eq!(out[38..], expected[38..], "behind the positions of Begin");
}

#[test]
fn what_streams_nothing_is_handed_on_as_it_is() {
    let buffer = Bytes::from([xlog_data(1, &begin(9, 0, 7)), keepalive(3, true)].concat());
    let steps = Streamed::new(0).take(&buffer).unwrap();
    let [Step::Pass(passed)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(passed.as_ptr(), buffer.as_ptr(), "not copied");
}

#[test]
fn keepalives_and_others_pass_a_transaction_in_progress() {
    let messages = [
        keepalive(1, false),
        xlog_data(5, &stream_start(7, true)),
        xlog_data(5, &made_by(7, &insert(16, &[text("x")]))),
        keepalive(2, false),
        xlog_data(5, b"E"),
        xlog_data(6, &begin(6, 0, 8)),
        xlog_data(6, &commit(6, 7, 0)),
        xlog_data(9, &stream_commit(7, 9)),
        keepalive(3, false),
    ];
    let mut spools = Spools::new();
    spools.take(messages.concat()).unwrap();
    let out: Vec<String> = spools.out.iter().map(tags).collect();
    assert_eq!(out, ["kkBC", "BIC", "k"]);
}

#[test]
fn more_than_the_limit_is_refused_before_it_is_written() {
    let row = || xlog_data(5, &made_by(7, &insert(16, &[text("x")])));
    let mut core = Streamed::new(100);
    let start = xlog_data(5, &stream_start(7, true));
    let steps = core.take(&[start, row()].concat().into()).unwrap();
    assert!(matches!(steps.as_slice(), [Step::Write { xid: 7, at: 0, .. }]), "{steps:?}");
    let error = core.take(&[row(), row()].concat().into()).unwrap_err();
    assert_eq!(error, Error::TooLarge { bytes_max: 100 });
    assert!(error.to_string().contains("`source.spool_bytes_max`"), "{error}");
}

#[test]
fn what_has_no_place_is_refused() {
    let refused = |messages: &[Vec<u8>]| {
        let framed: Vec<_> = messages.iter().map(|it| xlog_data(0x40, it)).collect();
        Streamed::new(1 << 20).take(&framed.concat().into()).unwrap_err().to_string()
    };
    let (start, row) = (stream_start(7, true), insert(16, &[text("x")]));
    for (messages, word) in [
        (vec![b"E".to_vec()], "did not begin"),
        (vec![stream_start(7, false)], "first piece"),
        (vec![start.clone(), b"E".to_vec(), start.clone()], "first piece"),
        (vec![start.clone(), begin(9, 0, 8)], "no change"),
        (vec![start.clone(), start.clone()], "no change"),
        (vec![start.clone(), b"I\0\0\0".to_vec()], "no change"),
        (vec![stream_commit(7, 9)], "nothing came"),
        (vec![begin(9, 0, 8), start], "inside another"),
        (vec![b"S\0".to_vec()], "ends inside `xid`"),
        (vec![row[..0].to_vec(), b"A\0".to_vec()], "ends inside `xid`"),
    ] {
        let error = refused(&messages);
        assert!(error.contains(word) && error.contains("0/40"), "{word}: {error}");
    }
}

proptest! {
    #[test]
    fn damaged_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), tag in 0..10_usize) {
        let mut core = Streamed::new(1 << 20);
        let message = [&b"SEcABCRIMO"[tag..=tag], &bytes].concat();
        let first = [
            xlog_data(1, &stream_start(7, true)),
            xlog_data(1, &made_by(7, &insert(16, &[text("x")]))),
            xlog_data(1, b"E"),
            xlog_data(2, &message),
        ];
        let _ = core.take(&first.concat().into());
        let mut inside = Streamed::new(1 << 20);
        let second = [xlog_data(1, &stream_start(7, true)), xlog_data(2, &message)];
        let _ = inside.take(&second.concat().into());
        let _ = Streamed::new(1 << 20).take(&bytes.into());
    }
}
