//! Sequences of messages become changes with positions, table versions and transactions.
#![allow(clippy::needless_pass_by_value, clippy::unwrap_used, reason = "a test may fail here")]

mod encode;

use bytes::Bytes;
use encode::{
    Value, begin, captured, commit, complete, delete, insert, keepalive, logical, relation, text,
    truncate, tuple, typed_relation, update, xlog_data,
};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::fmt::Write;
use wal::change::Old;
use wal::decoder::{Decoder, Error, Options, Step};
use wal::relation::{Difference, RelationDescription};
use wal::types::oid::{INT4, TEXT};
use wal::{ChangeBatch, Datum, Lsn};

fn decoder() -> Decoder {
    Decoder::new(Options::default())
}

/// Messages that stand one after the other in the WAL, from `lsn` on.
fn stream(lsn: u64, messages: &[Vec<u8>]) -> Bytes {
    (lsn..).zip(messages).flat_map(|(lsn, message)| xlog_data(lsn, message)).collect()
}

/// Decodes a buffer and answers each description from the description itself.
fn feed(
    decoder: &mut Decoder,
    bytes: Bytes,
) -> Result<(ChangeBatch, Vec<RelationDescription>), Error> {
    let mut asked = Vec::new();
    let mut step = decoder.decode(bytes)?;
    loop {
        match step {
            Step::Done(batch) => return Ok((batch, asked)),
            Step::Describe(description) => {
                decoder.learn(complete(&description));
                asked.push(description);
                step = decoder.resume()?;
            }
        }
    }
}

fn print(batch: &ChangeBatch) -> String {
    let mut out = String::new();
    for change in &batch.changes {
        let table = batch.table(change);
        let position = batch.position(change);
        let (operation, lsn) = (change.operation, change.lsn);
        write!(out, "{position} @{lsn} {operation:?} {}v{}", table.name, table.version).unwrap();
        if let Some(old) = change.old {
            let kind = if matches!(old, Old::Key(_)) { "key" } else { "row" };
            write!(out, " {kind} {}", row(batch, old.span())).unwrap();
        }
        if let Some(new) = change.new {
            write!(out, " new {}", row(batch, new)).unwrap();
        }
        out.push('\n');
    }
    for message in &batch.messages {
        let prefix = String::from_utf8_lossy(batch.slice(message.prefix)).into_owned();
        let content = String::from_utf8_lossy(batch.slice(message.content)).into_owned();
        let (transaction, ordinal) = (message.transaction, message.ordinal_next);
        let (before, lsn) = (message.changes_before, message.lsn);
        writeln!(
            out,
            "message {prefix}={content} @{lsn} in {transaction:?} before {ordinal:?}, after {before}"
        )
        .unwrap();
    }
    for transaction in &batch.transactions {
        let (xid, commit_lsn) = (transaction.xid, transaction.commit_lsn);
        let previous = transaction.previous_commit_lsn.map(|lsn| lsn.to_string());
        let count = transaction.changes_count;
        writeln!(out, "xid {xid} at {commit_lsn} after {previous:?} of {count:?}").unwrap();
    }
    let committed = batch.committed_end_lsn.map(|lsn| lsn.to_string());
    let idle = batch.idle_until.map(|lsn| lsn.to_string());
    let ends = batch.ends_transaction;
    writeln!(out, "committed {committed:?} ends {ends} idle {idle:?}").unwrap();
    out
}

fn row(batch: &ChangeBatch, span: wal::change::Span) -> String {
    let value = |datum| match datum {
        Datum::Null => "null".to_owned(),
        Datum::Unchanged => "unchanged".to_owned(),
        Datum::Text(bytes) | Datum::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    format!("({})", batch.tuple(span).iter().map(value).collect::<Vec<_>>().join(","))
}

#[track_caller]
fn check(decoder: &mut Decoder, bytes: Bytes, expected: Expect) {
    expected.assert_eq(&match feed(decoder, bytes) {
        Ok((batch, _)) => print(&batch),
        Err(error) => format!("error: {error}"),
    });
}

/// A stream in which relation 7 (`t`, two columns) is known.
fn ready() -> Decoder {
    let mut decoder = decoder();
    let known = [begin(1, 0, 1), relation(7, "t", &["a", "b"]), truncate(&[7], 0), commit(1, 2, 0)];
    feed(&mut decoder, stream(0, &known)).unwrap();
    decoder
}

fn pair(a: &str, b: &str) -> [Value; 2] {
    [text(a), text(b)]
}

#[test]
fn a_transaction_becomes_changes_with_positions() {
    let messages = [
        begin(0x100, 5, 9),
        relation(7, "t", &["a", "b"]),
        insert(7, &pair("1", "x")),
        update(7, None, &[text("1"), Value::Unchanged]),
        update(7, Some((b'K', &[text("1"), Value::Null])), &pair("2", "x")),
        update(7, Some((b'O', &pair("2", "x"))), &pair("3", "y")),
        delete(7, b'K', &[text("3"), Value::Null]),
        delete(7, b'O', &pair("4", "z")),
        commit(0x100, 0x108, 5),
    ];
    check(
        &mut decoder(),
        stream(0x40, &messages),
        expect![[r#"
        0/100:0 @0/42 Insert tv1 new (1,x)
        0/100:1 @0/43 Update tv1 new (1,unchanged)
        0/100:2 @0/44 Update tv1 key (1,null) new (2,x)
        0/100:3 @0/45 Update tv1 row (2,x) new (3,y)
        0/100:4 @0/46 Delete tv1 key (3,null)
        0/100:5 @0/47 Delete tv1 row (4,z)
        xid 9 at 0/100 after None of Some(6)
        committed Some("0/108") ends true idle None
    "#]],
    );
}

#[test]
fn a_transaction_may_span_buffers_and_a_buffer_several_transactions() {
    let mut decoder = ready();
    let first = [begin(0x100, 5, 9), insert(7, &pair("1", "x"))];
    check(
        &mut decoder,
        stream(0x40, &first),
        expect![[r#"
        0/100:0 @0/41 Insert tv1 new (1,x)
        xid 9 at 0/100 after Some("0/2") of None
        committed None ends false idle None
    "#]],
    );
    assert!(!decoder.is_between_transactions());
    let second = [insert(7, &pair("2", "x"))];
    check(
        &mut decoder,
        stream(0x42, &second),
        expect![[r#"
        0/100:1 @0/42 Insert tv1 new (2,x)
        xid 9 at 0/100 after Some("0/2") of None
        committed None ends false idle None
    "#]],
    );
    let third = [
        insert(7, &pair("3", "x")),
        commit(0x100, 0x108, 5),
        begin(0x200, 6, 10),
        insert(7, &pair("4", "x")),
        commit(0x200, 0x208, 6),
        begin(0x300, 7, 11),
    ];
    check(
        &mut decoder,
        stream(0x43, &third),
        expect![[r#"
        0/100:2 @0/43 Insert tv1 new (3,x)
        0/200:0 @0/46 Insert tv1 new (4,x)
        xid 9 at 0/100 after Some("0/2") of None
        xid 10 at 0/200 after Some("0/108") of Some(1)
        committed Some("0/208") ends false idle None
    "#]],
    );
}

#[test]
fn only_what_changes_use_is_in_a_batch() {
    let mut decoder = ready();
    let empty = [begin(0x100, 5, 9), commit(0x100, 0x108, 5)];
    check(
        &mut decoder,
        stream(0x40, &empty),
        expect![[r#"
        committed Some("0/108") ends true idle None
    "#]],
    );
    check(
        &mut decoder,
        Bytes::new(),
        expect![[r#"
        committed None ends true idle None
    "#]],
    );
}

#[test]
fn each_table_of_a_truncate_is_a_change_of_its_own() {
    let mut decoder = ready();
    let messages = [
        begin(0x100, 5, 9),
        relation(8, "u", &["c"]),
        insert(7, &pair("1", "x")),
        truncate(&[8, 7], 3),
        insert(8, &[text("2")]),
        commit(0x100, 0x108, 5),
    ];
    check(
        &mut decoder,
        stream(0x40, &messages),
        expect![[r#"
        0/100:0 @0/42 Insert tv1 new (1,x)
        0/100:1 @0/43 Truncate uv1
        0/100:2 @0/43 Truncate tv1
        0/100:3 @0/44 Insert uv1 new (2)
        xid 9 at 0/100 after Some("0/2") of Some(4)
        committed Some("0/108") ends true idle None
    "#]],
    );
}

#[test]
fn a_relation_that_changes_between_two_rows_gives_two_versions_in_one_batch() {
    let mut decoder = ready();
    let messages = [
        begin(0x100, 5, 9),
        insert(7, &pair("1", "x")),
        relation(7, "t", &["a", "b", "c"]),
        insert(7, &[text("2"), text("x"), text("y")]),
        commit(0x100, 0x108, 5),
    ];
    let (batch, asked) = feed(&mut decoder, stream(0x40, &messages)).unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].version, 2);
    assert_eq!(asked[0].differences, [Difference::ColumnAdded { name: "c".into() }]);
    expect![[r#"
        0/100:0 @0/41 Insert tv1 new (1,x)
        0/100:1 @0/43 Insert tv2 new (2,x,y)
        xid 9 at 0/100 after Some("0/2") of Some(2)
        committed Some("0/108") ends true idle None
    "#]]
    .assert_eq(&print(&batch));
}

#[test]
fn a_description_that_says_the_same_makes_no_new_version() {
    let mut decoder = ready();
    let messages = [
        begin(0x100, 5, 9),
        relation(7, "t", &["a", "b"]),
        insert(7, &pair("1", "x")),
        commit(0x100, 0x108, 5),
    ];
    let (batch, asked) = feed(&mut decoder, stream(0x40, &messages)).unwrap();
    assert_eq!(asked, []);
    assert_eq!(batch.tables[0].version, 1);
}

#[test]
fn a_description_without_changes_asks_for_nothing() {
    let mut decoder = ready();
    let messages = [
        begin(0x100, 5, 9),
        relation(8, "leaf", &["a", "b"]),
        insert(7, &pair("1", "x")),
        commit(0x100, 0x108, 5),
    ];
    let (_, asked) = feed(&mut decoder, stream(0x40, &messages)).unwrap();
    assert_eq!(asked, []);
}

#[test]
fn a_truncate_waits_for_all_its_tables() {
    let messages = [
        begin(0x100, 5, 9),
        relation(8, "u", &["c"]),
        relation(9, "v", &["c"]),
        truncate(&[7, 8, 9], 0),
        commit(0x100, 0x108, 5),
    ];
    let (batch, asked) = feed(&mut ready(), stream(0x40, &messages)).unwrap();
    assert_eq!(asked.iter().map(|description| description.oid).collect::<Vec<_>>(), [8, 9]);
    let found = batch.changes.iter().map(|change| (change.ordinal, batch.table(change).oid));
    assert_eq!(found.collect::<Vec<_>>(), [(0, 7), (1, 8), (2, 9)]);
}

#[test]
fn what_differs_between_versions_is_named() {
    let mut decoder = ready();
    let mut next = |message: Vec<u8>| {
        let messages = [begin(1, 0, 1), message, truncate(&[7], 0), commit(1, 2, 0)];
        let (_, asked) = feed(&mut decoder, stream(0x40, &messages)).unwrap();
        format!("{:?}", asked[0].differences)
    };
    let text = |columns: &[&'static str]| columns.iter().map(|&c| (c, TEXT)).collect::<Vec<_>>();
    expect![[r#"[Renamed { schema: "public", name: "t2" }]"#]].assert_eq(&next(relation(
        7,
        "t2",
        &["a", "b"],
    )));
    expect![[r#"[ColumnRenamed { from: "b", to: "c" }]"#]].assert_eq(&next(relation(
        7,
        "t2",
        &["a", "c"],
    )));
    expect![[r#"[TypeChanged { name: "c" }]"#]].assert_eq(&next(typed_relation(
        7,
        "t2",
        b'd',
        &[("a", TEXT), ("c", INT4)],
    )));
    expect!["[IdentityChanged]"].assert_eq(&next(typed_relation(
        7,
        "t2",
        b'f',
        &[("a", TEXT), ("c", INT4)],
    )));
    expect![[r#"[ColumnDropped { name: "c" }]"#]].assert_eq(&next(typed_relation(
        7,
        "t2",
        b'f',
        &text(&["a"]),
    )));
    expect![[r#"[ColumnAdded { name: "x" }, ColumnAdded { name: "y" }]"#]]
        .assert_eq(&next(typed_relation(7, "t2", b'f', &text(&["a", "x", "y"]))));
    expect!["[ColumnsReordered]"].assert_eq(&next(typed_relation(
        7,
        "t2",
        b'f',
        &text(&["a", "y", "x"]),
    )));
    expect![[r#"[ColumnRenamed { from: "a", to: "b" }, ColumnRenamed { from: "x", to: "z" }]"#]]
        .assert_eq(&next(typed_relation(7, "t2", b'f', &text(&["b", "y", "z"]))));
}

#[test]
fn messages_of_applications_move_no_ordinal() {
    let mut decoder = ready();
    let messages = [
        logical(false, 0x50, "out", b"1"),
        begin(0x100, 5, 9),
        insert(7, &pair("1", "x")),
        logical(true, 0x60, "in", b"2"),
        insert(7, &pair("2", "x")),
        commit(0x100, 0x108, 5),
    ];
    check(
        &mut decoder,
        stream(0x40, &messages),
        expect![[r#"
        0/100:0 @0/42 Insert tv1 new (1,x)
        0/100:1 @0/44 Insert tv1 new (2,x)
        message out=1 @0/50 in None before None, after 0
        message in=2 @0/60 in Some(0) before Some(1), after 1
        xid 9 at 0/100 after Some("0/2") of Some(2)
        committed Some("0/108") ends true idle None
    "#]],
    );
}

#[test]
fn an_idle_stream_can_be_confirmed_up_to_its_keepalive() {
    let mut decoder = ready();
    let idle = [keepalive(0x90, false), keepalive(0x80, true)].concat();
    check(
        &mut decoder,
        idle.into(),
        expect![[r#"
        committed None ends true idle Some("0/90")
    "#]],
    );
    let open = [xlog_data(0x91, &begin(0x100, 5, 9)), keepalive(0x95, false)].concat();
    check(
        &mut decoder,
        open.into(),
        expect![[r#"
        committed None ends false idle None
    "#]],
    );
    let closed = [keepalive(0x96, false), xlog_data(0x108, &commit(0x100, 0x108, 5))].concat();
    check(
        &mut decoder,
        closed.into(),
        expect![[r#"
        committed Some("0/108") ends true idle Some("0/96")
    "#]],
    );
}

#[test]
fn the_transaction_before_the_start_can_be_told() {
    let options = Options { previous_commit_lsn: Some(Lsn(0x99)), ..Options::default() };
    let mut decoder = Decoder::new(options);
    let messages = [begin(0x100, 5, 9), relation(7, "t", &["a"]), insert(7, &[text("1")])];
    let (batch, _) = feed(&mut decoder, stream(0x40, &messages)).unwrap();
    assert_eq!(batch.transactions[0].previous_commit_lsn, Some(Lsn(0x99)));
}

#[test]
fn what_cannot_be_is_refused() {
    let change = || insert(7, &pair("1", "x"));
    let open = || begin(0x100, 5, 9);
    let refused = |messages: &[Vec<u8>], expected: Expect| {
        check(&mut ready(), stream(0x40, messages), expected);
    };
    refused(
        &[change()],
        expect![
            "error: change outside a transaction at 0/40 out of place; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[open(), open()],
        expect![
            "error: Begin inside a transaction at 0/41 out of place; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[commit(1, 2, 3)],
        expect![
            "error: Commit outside a transaction at 0/40 out of place; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[open(), commit(0x101, 0x108, 5)],
        expect![
            "error: commit at 0/101 ends the transaction that began for 0/100; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[open(), insert(8, &pair("1", "x"))],
        expect![
            "error: change at 0/41 of relation 8, which the server has not described; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[open(), truncate(&[7, 8], 0)],
        expect![
            "error: change at 0/41 of relation 8, which the server has not described; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[open(), insert(7, &[text("1")])],
        expect![
            "error: row at 0/41 of relation 7 has 1 columns instead of 2; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[open(), update(7, Some((b'K', &[text("1")])), &pair("1", "x"))],
        expect![
            "error: row at 0/41 of relation 7 has 1 columns instead of 2; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[logical(true, 1, "p", b"c")],
        expect![
            "error: transactional message outside a transaction at 0/40 out of place; the stream must be started again from the confirmed position"
        ],
    );
    refused(
        &[open(), b"I\0\0\0".to_vec()],
        expect![
            "error: plug-in message at 0/41 cannot be read: message ends inside `relation`; the connection must be opened again, and if it happens again the server speaks another protocol than the one requested"
        ],
    );
}

#[test]
fn transactions_that_were_not_requested_are_refused_by_name() {
    let protocol = wal::message::Protocol::V3;
    let refused = |message: &[u8], expected: Expect| {
        let mut decoder = Decoder::new(Options { protocol, ..Options::default() });
        check(&mut decoder, stream(0x40, &[message.to_vec()]), expected);
    };
    refused(
        b"S\0\0\0\x01\x01",
        expect![
            "error: the server sends transactions in progress, which was not requested; start the stream without the options `streaming` and `two_phase`, and make the slot without two-phase commit"
        ],
    );
    refused(
        &[&b"b"[..], &[0; 28], b"gid\0"].concat(),
        expect![
            "error: the server sends prepared transactions, which was not requested; start the stream without the options `streaming` and `two_phase`, and make the slot without two-phase commit"
        ],
    );
}

#[test]
fn a_cut_buffer_is_refused() {
    let whole = stream(0x40, &[begin(0x100, 5, 9), insert(7, &pair("1", "x"))]);
    let first = xlog_data(0x40, &begin(0x100, 5, 9)).len();
    for cut in (1..whole.len()).filter(|&cut| cut != first) {
        let error = ready().decode(whole.slice(..cut)).unwrap_err();
        assert!(matches!(error, Error::Frame(_)), "cut at {cut}: {error}");
    }
}

#[test]
fn a_buffer_waits_for_its_table() {
    let messages = [begin(0x100, 5, 9), relation(7, "t", &["a"]), insert(7, &[text("1")])];
    let mut decoder = decoder();
    assert!(matches!(decoder.resume(), Err(Error::OutOfTurn(_))));
    let Ok(Step::Describe(description)) = decoder.decode(stream(0x40, &messages)) else {
        panic!("no description was asked for")
    };
    assert!(matches!(decoder.decode(Bytes::new()), Err(Error::OutOfTurn(_))));
    let mut other = (*complete(&description)).clone();
    other.columns.clear();
    decoder.learn(other.into());
    assert_eq!(decoder.resume().unwrap_err(), Error::NotLearned { oid: 7, version: 1 });
}

#[test]
fn nothing_is_decoded_behind_a_buffer_that_could_not_be() {
    let mut decoder = ready();
    let whole = stream(0x40, &[begin(0x100, 5, 9), insert(7, &pair("1", "x"))]);
    decoder.decode(whole.slice(..whole.len() - 1)).unwrap_err();
    assert!(matches!(decoder.decode(whole.clone()), Err(Error::OutOfTurn(_))));
    let mut decoder = self::decoder();
    let messages = [begin(0x100, 5, 9), relation(7, "t", &["a"]), insert(7, &[text("1")])];
    assert!(matches!(decoder.decode(stream(0x40, &messages)), Ok(Step::Describe(_))));
    decoder.resume().unwrap_err();
    assert!(matches!(decoder.decode(keepalive(0x200, false).into()), Err(Error::OutOfTurn(_))));
}

#[test]
fn a_real_stream_is_decoded() {
    let messages = captured(include_str!("../testdata/workload.hex"));
    let bytes: Vec<u8> =
        messages.iter().flat_map(|(lsn, message)| xlog_data(*lsn, message)).collect();
    let (batch, asked) = feed(&mut decoder(), bytes.into()).unwrap();
    let (mut out, mut transaction) = (String::new(), u32::MAX);
    for change in &batch.changes {
        if change.transaction != transaction {
            transaction = change.transaction;
            out.push('\n');
        }
        let table = batch.table(change);
        let (ordinal, operation) = (change.ordinal, change.operation);
        write!(out, "{ordinal} {operation:?} {}v{} ", table.name, table.version).unwrap();
    }
    expect![[r#"

        0 Insert plainv1 1 Insert plainv1 2 Insert plainv1 
        0 Insert plainv1 1 Update plainv1 2 Update plainv1 3 Delete plainv1 
        0 Insert Größe "x"v1 
        0 Update Größe "x"v1 
        0 Delete Größe "x"v1 
        0 Insert wholev1 
        0 Update wholev1 
        0 Delete wholev1 
        0 Insert keylessv1 
        0 Insert by_indexv1 
        0 Update by_indexv1 
        0 Update by_indexv1 
        0 Delete by_indexv1 
        0 Insert toastv1 
        0 Update toastv1 
        0 Delete toastv1 
        0 Insert parentv1 1 Insert parentv1 
        0 Delete parentv1 1 Insert parentv1 
        0 Insert plainv1 1 Insert plainv2 2 Insert plainv3 3 Insert plainv4 
        0 Insert plainv5 
        0 Update plainv6 
        0 Truncate plainv6 1 Truncate keylessv1 2 Truncate parentv1 3 Truncate childv1 
        0 Truncate toastv1 
        0 Insert keylessv1 1 Insert keylessv1 
        0 Insert keylessv1 
        0 Insert textsv1 1 Insert textsv1 2 Insert textsv1 3 Insert textsv1 4 Insert textsv1 5 Insert textsv1 "#]].assert_eq(&out);
    let differences: Vec<_> = asked
        .iter()
        .filter(|description| 1 < description.version)
        .map(|description| format!("{} {:?}", description.name, description.differences))
        .collect();
    expect![[r#"
        plain [ColumnAdded { name: "extra" }]
        plain [ColumnRenamed { from: "note", to: "remark" }]
        plain [ColumnDropped { name: "amount" }]
        plain [TypeChanged { name: "extra" }]
        plain [IdentityChanged]"#]]
    .assert_eq(&differences.join("\n"));
    for pair in batch.transactions.windows(2) {
        assert!(pair[0].commit_lsn < pair[1].commit_lsn);
        assert!(pair[1].previous_commit_lsn.is_some_and(|lsn| lsn <= pair[1].commit_lsn));
        assert!(Some(pair[0].commit_lsn) < pair[1].previous_commit_lsn);
    }
    assert_eq!(batch.messages.len(), 2);
}

/// What the random streams below hold: per transaction, the value of each inserted row.
fn workload() -> impl Strategy<Value = Vec<Vec<String>>> {
    prop::collection::vec(prop::collection::vec(".{0,8}", 0..5), 0..6)
}

fn messages_of(workload: &[Vec<String>]) -> Vec<Vec<u8>> {
    let mut messages = vec![];
    for (number, rows) in (1u64..).zip(workload) {
        let lsn = number * 0x100;
        messages.push(begin(lsn, 0, u32::try_from(number).unwrap()));
        messages.push(relation(7, "t", &["a"]));
        messages.extend(rows.iter().map(|row| insert(7, &[text(row)])));
        messages.push(commit(lsn, lsn + 8, 0));
    }
    messages
}

proptest! {
    #[test]
    fn any_cut_into_buffers_gives_the_same_changes(workload in workload(), sizes: [u8; 8]) {
        let messages = messages_of(&workload);
        let mut decoder = decoder();
        let mut found = Vec::new();
        let mut rest = &messages[..];
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let size = rest.len().min(usize::from(sizes.next().unwrap() % 7) + 1);
            let (buffer, after) = rest.split_at(size);
            let (batch, _) = feed(&mut decoder, stream(0, buffer)).unwrap();
            for change in &batch.changes {
                let span = change.new.unwrap();
                let bytes = &batch.bytes[span.start as usize..span.end as usize];
                found.push((batch.position(change), bytes.to_vec()));
            }
            rest = after;
        }
        let sent: Vec<_> = (1u64..)
            .zip(&workload)
            .flat_map(|(number, rows)| {
                let commit_lsn = Lsn(number * 0x100);
                (0..).zip(rows).map(move |(ordinal, row)| {
                    (wal::Position { commit_lsn, ordinal }, tuple(&[text(row)]))
                })
            })
            .collect();
        prop_assert_eq!(found, sent);
    }

    #[test]
    fn no_input_panics(messages in prop::collection::vec(any::<Vec<u8>>(), 0..5), tags: [u8; 5]) {
        let tags = tags.map(|tag| b"BCRIUDTMOY"[usize::from(tag) % 10]);
        let messages: Vec<_> =
            messages.iter().zip(tags).map(|(body, tag)| [&[tag], &body[..]].concat()).collect();
        let _ = feed(&mut ready(), stream(0, &messages));
    }

    #[test]
    fn no_damage_to_a_stream_panics(workload in workload(), at: prop::sample::Index, byte: u8) {
        let mut bytes = stream(0, &messages_of(&workload)).to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok((batch, _)) = feed(&mut decoder(), bytes.into()) {
            print(&batch);
        }
    }
}

fn ddl_row(changed: &str, content: &str) -> Vec<Value> {
    vec![Value::Null, text(changed), text(content)]
}

/// Operation, ordinal, name of the table and last value of each change.
fn told(batch: &ChangeBatch) -> Vec<String> {
    let one = |change: &wal::Change| {
        let last = change.new.and_then(|new| batch.tuple(new).iter().last());
        let last = match last {
            Some(Datum::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => "-".into(),
        };
        format!("{} {} {last}", change.ordinal, batch.table(change).name)
    };
    batch.changes.iter().map(one).collect()
}

#[test]
fn statements_are_changes_among_the_others() {
    let ddl = Some("public".into());
    let mut decoder = Decoder::new(Options { ddl, ..Options::default() });
    let message = |row: &[Value]| logical(true, 0x60, "public.ddl", &tuple(row));
    let messages = [
        begin(0x100, 0, 1),
        relation(7, "t", &["a"]),
        insert(7, &[text("1")]),
        message(&ddl_row("[[\"public\",\"t\"]]", "{one}")),
        insert(7, &[text("2")]),
        // Anybody may write messages: what is no statement is none.
        logical(true, 0x61, "public.ddl", b"nonsense"),
        message(&[text("too few")]),
        logical(true, 0x62, "other.ddl", &tuple(&ddl_row("[]", "{other}"))),
        message(&ddl_row("[]", "{two}")),
        commit(0x100, 0x108, 0),
    ];
    let (batch, asked) = feed(&mut decoder, stream(0, &messages)).unwrap();
    assert_eq!(told(&batch), ["0 t 1", "1 [[\"public\",\"t\"]] {one}", "2 t 2", "3 [] {two}"]);
    assert_eq!(asked.len(), 3);
    assert_eq!(batch.transactions[0].changes_count, Some(4));
    // What is known is not asked for again.
    let again = [begin(0x200, 0, 2), message(&ddl_row("[]", "{three}")), commit(0x200, 0x208, 0)];
    let (batch, asked) = feed(&mut decoder, stream(0x150, &again)).unwrap();
    assert_eq!((told(&batch).as_slice(), asked.len()), (["0 [] {three}".to_owned()].as_slice(), 0));
}

#[test]
fn statements_come_from_the_helper_table_too() {
    let ddl = Some("public".into());
    let mut decoder = Decoder::new(Options { ddl, ..Options::default() });
    let messages = [
        begin(0x100, 0, 1),
        relation(9, "ddl", &["id", "changed", "content"]),
        insert(9, &ddl_row("[]", "{one}")),
        delete(9, b'K', &[text("1"), Value::Null, Value::Null]),
        truncate(&[9], 0),
        commit(0x100, 0x108, 0),
    ];
    let (batch, asked) = feed(&mut decoder, stream(0, &messages)).unwrap();
    assert_eq!(told(&batch), ["0 [] {one}"]);
    assert_eq!(asked.len(), 1);
}

#[test]
fn many_different_statements_are_not_all_remembered() {
    let mut decoder = Decoder::new(Options { ddl: Some("s".into()), ..Options::default() });
    for number in 1..=1000_u64 {
        let changed = format!("[[\"public\",\"t{number}\"]]");
        let row = tuple(&ddl_row(&changed, "{}"));
        let lsn = number * 0x100;
        let messages =
            [begin(lsn, 0, 1), logical(true, lsn, "s.ddl", &row), commit(lsn, lsn + 8, 0)];
        let (batch, asked) = feed(&mut decoder, stream(lsn, &messages)).unwrap();
        assert_eq!((batch.changes.len(), asked.len()), (1, 1));
        assert_eq!(u64::from(asked[0].version), number);
    }
}
