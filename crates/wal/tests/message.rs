//! Messages of the plug-in: golden ones, damaged ones, random ones and those of a real server.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail here"
)]

mod encode;

use encode::{Value, captured, text, unhex};
use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;
use wal::message::{Context, Message, OldTuple, Protocol};
use wal::{Datum, Tuple};

const V1: Context = Context { protocol: Protocol::V1, in_stream: false };
const V3: Context = Context { protocol: Protocol::V3, in_stream: false };
const V4: Context = Context { protocol: Protocol::V4, in_stream: false };

#[track_caller]
fn check_in(context: Context, bytes: &[u8], expected: &Expect) {
    expected.assert_eq(&match Message::parse(bytes, context) {
        Ok(message) => print(&message),
        Err(error) => format!("error: {error}"),
    });
}

#[track_caller]
fn check(hex: &str, expected: Expect) {
    check_in(V1, &unhex(hex), &expected);
}

/// Debug form with rows and lists written out.
fn print(message: &Message<'_>) -> String {
    match message {
        Message::Insert(insert) => format!("Insert {} new {}", insert.oid, row(insert.new)),
        Message::Update(update) => {
            let old = update.old.map_or("none".to_owned(), old);
            format!("Update {} old {old} new {}", update.oid, row(update.new))
        }
        Message::Delete(delete) => format!("Delete {} old {}", delete.oid, old(delete.old)),
        Message::Truncate(truncate) => {
            let oids: Vec<u32> = truncate.relations.iter().collect();
            let options = (truncate.cascade, truncate.restart_identity);
            format!("Truncate {oids:?} cascade, restart identity: {options:?}")
        }
        Message::Relation(relation) => {
            let columns = relation.columns.iter().map(|column| {
                let key = if column.in_identity { "*" } else { "" };
                format!("{}{key} {}({})", column.name, column.type_oid, column.type_modifier)
            });
            let columns: Vec<_> = columns.collect();
            let (oid, schema, name) = (relation.oid, relation.schema, relation.name);
            format!("Relation {oid} {schema}.{name} {:?} {}", relation.identity, columns.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn old(old: OldTuple<'_>) -> String {
    match old {
        OldTuple::Key(tuple) => format!("key {}", row(tuple)),
        OldTuple::Row(tuple) => format!("row {}", row(tuple)),
    }
}

fn row(tuple: Tuple<'_>) -> String {
    let value = |datum| match datum {
        Datum::Null => "null".to_owned(),
        Datum::Unchanged => "unchanged".to_owned(),
        Datum::Text(bytes) => format!("'{}'", plain(&String::from_utf8_lossy(bytes))),
        Datum::Binary(bytes) => format!("{bytes:02x?}"),
    };
    format!("({})", tuple.iter().map(value).collect::<Vec<_>>().join(", "))
}

fn plain(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

#[test]
fn transactions_are_read() {
    check(
        "42 0000000001699478 0002a1d5b3c8e4f0 000002e5",
        expect![
            "Begin(Begin { final_lsn: Lsn(23696504), commit_time: 740889169814768, xid: 741 })"
        ],
    );
    check(
        "43 00 0000000001699478 00000000016994a8 0002a1d5b3c8e4f0",
        expect![
            "Commit(Commit { commit_lsn: Lsn(23696504), end_lsn: Lsn(23696552), commit_time: 740889169814768 })"
        ],
    );
    check(
        "4f 0000000001699478 656c736577686572650 0",
        expect![[r#"Origin(Origin { commit_lsn: Lsn(23696504), name: "elsewhere" })"#]],
    );
    check(
        "4d 01 0000000001699478 7000 00000002 00ff",
        expect![[
            r#"Logical(Logical { xid: None, transactional: true, lsn: Lsn(23696504), prefix: "p", content: [0, 255] })"#
        ]],
    );
}

#[test]
fn relations_and_types_are_read() {
    check(
        "52 00004001 7075626c696300 6f726465727300 64 0002
         01 696400 00000017 ffffffff 00 6e6f746500 00000413 00000018",
        expect!["Relation 16385 public.orders Default id* 23(-1), note 1043(24)"],
    );
    check("52 00000501 00 70675f636c61737300 6e 0000", expect!["Relation 1281 .pg_class Nothing "]);
    check(
        "59 00004005 7075626c696300 6d6f6f6400",
        expect![[r#"Type(Type { xid: None, oid: 16389, schema: "public", name: "mood" })"#]],
    );
}

#[test]
fn rows_are_read() {
    check(
        "49 00004001 4e 0003 74 00000001 31 6e 62 00000002 0a0b",
        expect!["Insert 16385 new ('1', null, [0a, 0b])"],
    );
    check(
        "55 00004001 4e 0002 74 00000001 31 75",
        expect!["Update 16385 old none new ('1', unchanged)"],
    );
    check(
        "55 00004001 4b 0002 74 00000001 31 6e 4e 0002 74 00000001 32 75",
        expect!["Update 16385 old key ('1', null) new ('2', unchanged)"],
    );
    check(
        "55 00004001 4f 0001 6e 4e 0001 74 00000000",
        expect!["Update 16385 old row (null) new ('')"],
    );
    check("44 00004001 4b 0002 74 00000001 31 6e", expect!["Delete 16385 old key ('1', null)"]);
    check("44 00004001 4f 0001 74 00000001 31", expect!["Delete 16385 old row ('1')"]);
    check(
        "54 00000002 03 00004001 00004002",
        expect!["Truncate [16385, 16386] cascade, restart identity: (true, true)"],
    );
}

#[test]
fn damage_is_named() {
    check("", expect!["error: message is empty"]);
    check("42 00000000016994", expect!["error: message ends inside `final_lsn`"]);
    check("7a", expect!["error: unknown message tag 0x7a"]);
    check(
        "42 0000000001699478 0002a1d5b3c8e4f0 000002e5 00",
        expect!["error: 1 bytes follow the end of the message"],
    );
    check("49 00004001 4b 0000", expect!["error: `tuple kind` has the unknown value 0x4b"]);
    check("49 00004001 4e 0002 6e", expect!["error: `new`: tuple ends inside column 1"]);
    check(
        "49 00004001 4e 0001 74 ffffffff 31",
        expect!["error: `new`: tuple ends inside column 0"],
    );
    check("49 00004001 4e 0001 78", expect!["error: `new`: unknown kind 0x78 of column 0"]);
    check("44 00004001 4e 0001 6e", expect!["error: `tuple kind` has the unknown value 0x4e"]);
    check(
        "55 00004001 4b 0001 6e 4f 0001 6e",
        expect!["error: `tuple kind` has the unknown value 0x4f"],
    );
    check("54 ffffffff 00 00004001", expect!["error: message ends inside `relations`"]);
    check(
        "4d 00 0000000001699478 7000 ffffffff 00",
        expect!["error: message ends inside `content`"],
    );
    check("4d 00 0000000001699478 70", expect!["error: message ends inside `prefix`"]);
    check(
        "52 00004001 7075626c696300 6f726465727300 78 0000",
        expect!["error: `replica identity` has the unknown value 0x78"],
    );
    check(
        "52 00004001 7075626c696300 6f00 64 ffff 00 6100 00000017 ffffffff",
        expect!["error: message ends inside `column flags`"],
    );
    check("59 00004005 ff00 6d6f6f6400", expect!["error: `schema` is not UTF-8"]);
}

#[test]
fn later_messages_need_a_later_protocol() {
    check(
        "53 000002e5 01",
        expect!["error: message tag 0x53 is not part of the requested protocol version"],
    );
    check(
        "62 00",
        expect!["error: message tag 0x62 is not part of the requested protocol version"],
    );
    let message = |hex, expected: Expect| check_in(V4, &unhex(hex), &expected);
    message(
        "53 000002e5 01",
        expect!["StreamStart(StreamStart { xid: 741, first_segment: true })"],
    );
    message("45", expect!["StreamStop"]);
    message(
        "63 000002e5 00 0000000000000001 0000000000000002 0000000000000003",
        expect![
            "StreamCommit(StreamCommit { xid: 741, commit: Commit { commit_lsn: Lsn(1), end_lsn: Lsn(2), commit_time: 3 } })"
        ],
    );
    message(
        "41 000002e5 000002e6",
        expect!["StreamAbort(StreamAbort { xid: 741, subtransaction: 742, abort: None })"],
    );
    message(
        "41 000002e5 000002e6 0000000000000001 0000000000000002",
        expect![
            "StreamAbort(StreamAbort { xid: 741, subtransaction: 742, abort: Some((Lsn(1), 2)) })"
        ],
    );
    message(
        "62 0000000000000001 0000000000000002 0000000000000003 000002e5 6700",
        expect![[
            r#"BeginPrepare(BeginPrepare { prepare_lsn: Lsn(1), end_lsn: Lsn(2), prepare_time: 3, xid: 741, gid: "g" })"#
        ]],
    );
    message(
        "50 00 0000000000000001 0000000000000002 0000000000000003 000002e5 6700",
        expect![[
            r#"Prepare(Prepare { prepare_lsn: Lsn(1), end_lsn: Lsn(2), prepare_time: 3, xid: 741, gid: "g" })"#
        ]],
    );
    message(
        "70 00 0000000000000001 0000000000000002 0000000000000003 000002e5 6700",
        expect![[
            r#"StreamPrepare(Prepare { prepare_lsn: Lsn(1), end_lsn: Lsn(2), prepare_time: 3, xid: 741, gid: "g" })"#
        ]],
    );
    message(
        "4b 00 0000000000000001 0000000000000002 0000000000000003 000002e5 6700",
        expect![[
            r#"CommitPrepared(CommitPrepared { commit: Commit { commit_lsn: Lsn(1), end_lsn: Lsn(2), commit_time: 3 }, xid: 741, gid: "g" })"#
        ]],
    );
    message(
        "72 00 0000000000000001 0000000000000002 0000000000000003 0000000000000004 000002e5 6700",
        expect![[
            r#"RollbackPrepared(RollbackPrepared { prepare_end_lsn: Lsn(1), rollback_end_lsn: Lsn(2), prepare_time: 3, rollback_time: 4, xid: 741, gid: "g" })"#
        ]],
    );
    check_in(
        V3,
        &unhex("41 000002e5 000002e6 0000000000000001 0000000000000002"),
        &expect!["error: 16 bytes follow the end of the message"],
    );
}

#[test]
fn inside_a_stream_a_change_carries_its_transaction() {
    let context = Context { protocol: Protocol::V2, in_stream: true };
    check_in(
        context,
        &unhex("59 000002e5 00004005 7000 6d00"),
        &expect![[r#"Type(Type { xid: Some(741), oid: 16389, schema: "p", name: "m" })"#]],
    );
    let bytes = unhex("49 000002e5 00004001 4e 0001 6e");
    let Ok(Message::Insert(insert)) = Message::parse(&bytes, context) else { panic!("no insert") };
    assert_eq!((insert.xid, insert.oid), (Some(0x2e5), 0x4001));
}

#[test]
fn every_message_of_a_real_server_is_read() {
    let messages = captured(include_str!("../testdata/workload.hex"));
    let printed = messages.iter().map(|(_, bytes)| match Message::parse(bytes, V1).unwrap() {
        // Long values, and times and positions that say nothing here.
        Message::Begin(_) => "Begin".to_owned(),
        Message::Commit(_) => "Commit".to_owned(),
        Message::Origin(origin) => format!("Origin {}", origin.name),
        Message::Logical(logical) => {
            let (transactional, prefix, content) =
                (logical.transactional, logical.prefix, logical.content);
            format!("Logical {transactional} {prefix} {content:02x?}")
        }
        message => print(&message).replace(&"0123456789".repeat(300), "0123456789 x 300"),
    });
    let printed: Vec<_> =
        printed.map(|line| line.replace(&"abcdefghij".repeat(300), "abcdefghij x 300")).collect();
    expect_file!["../testdata/workload.txt"].assert_eq(&printed.join("\n"));
}

#[test]
fn streamed_and_prepared_transactions_of_a_real_server_are_read() {
    let mut context = V3;
    let mut printed = Vec::new();
    for (_, bytes) in captured(include_str!("../testdata/in_progress.hex")) {
        let message = Message::parse(&bytes, context).unwrap();
        match message {
            Message::StreamStart(_) => context.in_stream = true,
            Message::StreamStop => context.in_stream = false,
            _ => {}
        }
        printed.push(print(&message).split([' ', '(']).next().unwrap().to_owned());
    }
    expect!["BeginPrepare Relation Insert Prepare CommitPrepared BeginPrepare Insert Prepare RollbackPrepared StreamStart Relation StreamStop StreamStart StreamStop StreamAbort StreamStart Relation Truncate Insert StreamStop StreamCommit StreamStart Relation StreamStop StreamStart StreamStop StreamPrepare CommitPrepared"].assert_eq(&printed.join(" "));
}

#[test]
fn no_cut_of_a_real_message_is_read_as_a_whole_one() {
    for (_, bytes) in captured(include_str!("../testdata/workload.hex")) {
        let cuts = bytes.len().min(400);
        for cut in 0..cuts {
            assert!(Message::parse(&bytes[..cut], V1).is_err(), "cut at {cut} of {bytes:02x?}");
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::Unchanged),
        any::<Vec<u8>>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Binary),
    ]
}

fn values() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(value(), 0..20)
}

fn read(tuple: Tuple<'_>) -> Vec<Value> {
    let value = |datum| match datum {
        Datum::Null => Value::Null,
        Datum::Unchanged => Value::Unchanged,
        Datum::Text(bytes) => Value::Text(bytes.into()),
        Datum::Binary(bytes) => Value::Binary(bytes.into()),
    };
    assert_eq!(tuple.len(), tuple.iter().count());
    tuple.iter().map(value).collect()
}

fn context() -> impl Strategy<Value = Context> {
    let protocol =
        prop::sample::select(vec![Protocol::V1, Protocol::V2, Protocol::V3, Protocol::V4]);
    (protocol, any::<bool>()).prop_map(|(protocol, in_stream)| Context { protocol, in_stream })
}

proptest! {
    #[test]
    fn no_input_panics(bytes: Vec<u8>, context in context()) {
        if let Ok(message) = Message::parse(&bytes, context) {
            print(&message);
        }
    }

    #[test]
    fn no_input_behind_a_tag_panics(
        tag in prop::sample::select(b"BMCORYIUDTSEcAbPKrp".to_vec()),
        mut bytes: Vec<u8>,
        context in context(),
    ) {
        bytes.insert(0, tag);
        if let Ok(message) = Message::parse(&bytes, context) {
            print(&message);
        }
    }

    #[test]
    fn no_damaged_message_panics(index: prop::sample::Index, at: prop::sample::Index, byte: u8) {
        let messages = captured(include_str!("../testdata/workload.hex"));
        let mut bytes = messages[index.index(messages.len())].1.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(message) = Message::parse(&bytes, V1) {
            print(&message);
        }
    }

    #[test]
    fn rows_round_trip(oid: u32, before in values(), after in values(), whole: bool) {
        let kind = if whole { b'O' } else { b'K' };
        let bytes = encode::update(oid, Some((kind, &before)), &after);
        let Ok(Message::Update(update)) = Message::parse(&bytes, V1) else { panic!("no update") };
        let old = update.old.unwrap();
        prop_assert_eq!(update.oid, oid);
        prop_assert_eq!(matches!(old, OldTuple::Row(_)), whole);
        prop_assert_eq!(read(old.tuple()), before.clone());
        prop_assert_eq!(read(update.new), after);

        let bytes = encode::delete(oid, kind, &before);
        let Ok(Message::Delete(delete)) = Message::parse(&bytes, V1) else { panic!("no delete") };
        prop_assert_eq!(read(delete.old.tuple()), before);
    }

    #[test]
    fn truncates_round_trip(oids in prop::collection::vec(any::<u32>(), 0..50), options in 0..4u8) {
        let bytes = encode::truncate(&oids, options);
        let Ok(Message::Truncate(read)) = Message::parse(&bytes, V1) else { panic!("no truncate") };
        prop_assert_eq!(read.relations.iter().collect::<Vec<_>>(), oids);
        prop_assert_eq!(u8::from(read.cascade) + 2 * u8::from(read.restart_identity), options);
    }
}

#[test]
fn trailing_bytes_are_refused_behind_every_kind_of_row() {
    let row = [text("a"), Value::Null];
    for mut bytes in [
        encode::insert(1, &row),
        encode::update(1, None, &row),
        encode::delete(1, b'K', &row),
        encode::truncate(&[1], 0),
        encode::relation(1, "t", &["a"]),
        encode::logical(true, 1, "p", b"c"),
    ] {
        assert!(Message::parse(&bytes, V1).is_ok());
        bytes.push(0);
        check_in(V1, &bytes, &expect!["error: 1 bytes follow the end of the message"]);
    }
}
