//! What holds for any input: no panic, JSON that parses, values that are read back as they were.

use crate::samples::samples;
use crate::scene::{Did, Value, batch, column, encode, orders, plan, table};
use crate::transaction;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value as Json;
use wal::change::{Old, Span};
use wal::table::ReplicaIdentity::Full;
use wal::types::{Type, oid};

const SINKS: [&str; 5] = [
    "format: canal-json",
    "format: canal-json, format_options: {binary: iso-8859-1, special_values: refuse, \
     message_key: columns}, unrepresentable: null",
    "format: maxwell-json, format_options: {members: [xid, commit, primary_key], zulu: true}",
    "format: shareplex-json",
    "format: shareplex-json, format_options: {values: native, message_key: columns}",
];

/// The message of an inserted row whose column `v` has this text; `None`: it was refused.
fn message(sink: &str, type_: Type, modifier: i32, text: &[u8]) -> Option<Json> {
    let columns =
        vec![column("id", Type::builtin(oid::INT4, "int4"), -1), column("v", type_, modifier)];
    let mut table = table("t", columns, 1, Full);
    // The key, too, has the value.
    table.key = vec![0, 1];
    let (task, plan) = plan(&table, sink, "", 1).expect("a plan");
    let row = [Value::Text("1"), Value::Bytes(text)];
    let batch = batch(&table, transaction(0, 8), &[Did::Insert(&row)]);
    let sent = encode(&task, &plan, &batch).ok()?;
    if let Some(key) = &sent[0].key {
        serde_json::from_str::<Json>(key).expect("a key is JSON");
    }
    Some(sent[0].json())
}

fn carried(sink: &str, oid: u32, name: &str, text: &str) -> Json {
    let message = message(sink, Type::builtin(oid, name), -1, text.as_bytes()).expect("carried");
    let data = &message["data"];
    let row = data.get(0).unwrap_or(data);
    row["v"].clone()
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let signs = b"0123456789-+.:,;\"\\{}[]()=> eETZ\n".to_vec();
    let words = [
        "NULL",
        "NaN",
        "-infinity",
        " BC",
        "2024-03-05",
        " 10:20:30.123456",
        "+08:30",
        "+00",
        "\\x0102",
        "{\"a\": null}",
        "99999999999999999999",
    ];
    let piece = prop_oneof![
        4 => prop::sample::select(signs).prop_map(|sign| vec![sign]),
        3 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_written_is_json(
        sink in 0..SINKS.len(),
        which in 0..1000usize,
        text in text(),
    ) {
        let mut samples = samples();
        let sample = samples.swap_remove(which % samples.len());
        // Parses what was written.
        let _ = message(SINKS[sink], sample.type_, sample.modifier, &text);
    }

    #[test]
    fn no_tuple_panics(sink in 0..SINKS.len(), old: Vec<u8>, new: Vec<u8>, is_key: bool) {
        let table = orders(Full);
        let (task, plan) = plan(&table, SINKS[sink], "", 4).expect("a plan");
        let mut batch = batch(&table, transaction(0, 8), &[Did::UpdateRow(&[], &[])]);
        let first = u32::try_from(old.len()).expect("few");
        let end = first + u32::try_from(new.len()).expect("few");
        batch.bytes = [old, new].concat().into();
        let old = Span { start: 0, end: first };
        batch.changes[0].old = Some(if is_key { Old::Key(old) } else { Old::Row(old) });
        batch.changes[0].new = Some(Span { start: first, end });
        if let Ok(sent) = encode(&task, &plan, &batch) {
            sent.iter().for_each(|record| drop(record.json()));
        }
    }

    #[test]
    fn every_text_comes_back(sink in 0..SINKS.len(), text in "\\PC*|[\\x00-\\x7f]*") {
        prop_assert_eq!(carried(SINKS[sink], oid::TEXT, "text", &text), Json::from(text));
    }

    #[test]
    fn every_integer_comes_back(number: i64) {
        let text = number.to_string();
        prop_assert_eq!(carried(SINKS[2], oid::INT8, "int8", &text), Json::from(number));
        prop_assert_eq!(carried(SINKS[4], oid::INT8, "int8", &text), Json::from(number));
        prop_assert_eq!(carried(SINKS[0], oid::INT8, "int8", &text), Json::from(text.clone()));
        prop_assert_eq!(carried(SINKS[3], oid::INT8, "int8", &text), Json::from(text));
    }

    #[test]
    fn every_float_comes_back(number in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
        let text = format!("{number:e}");
        prop_assert_eq!(carried(SINKS[2], oid::FLOAT8, "float8", &text), Json::from(number));
        let string = carried(SINKS[0], oid::FLOAT8, "float8", &text);
        prop_assert_eq!(string.as_str().expect("a string").parse(), Ok(number));
    }

    #[test]
    fn every_byte_string_comes_back(bytes: Vec<u8>) {
        let text = bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        for sink in [SINKS[0], SINKS[2], SINKS[3]] {
            let found = carried(sink, oid::BYTEA, "bytea", &text);
            prop_assert_eq!(STANDARD.decode(found.as_str().expect("a string")), Ok(bytes.clone()));
        }
        let found = carried(SINKS[1], oid::BYTEA, "bytea", &text);
        let characters = found.as_str().expect("a string").chars();
        let read: Vec<u8> = characters.map(|it| u8::try_from(u32::from(it)).expect("a byte")).collect();
        prop_assert_eq!(read, bytes);
    }

    #[test]
    fn what_changed_is_what_differs(
        old in prop::collection::vec(prop::option::of("[ab]"), 4),
        new in prop::collection::vec(prop::option::of("[ab]"), 4),
    ) {
        let text = |index: usize| column(&format!("c{index}"), Type::builtin(oid::TEXT, "text"), -1);
        let mut table = table("t", (0..4).map(text).collect(), 1, Full);
        table.key.clear();
        let value = |text: &Option<String>| match text.as_deref() {
            Some("a") => Value::Text("a"),
            Some(_) => Value::Text("b"),
            None => Value::Null,
        };
        let (before, after): (Vec<_>, Vec<_>) =
            (old.iter().map(value).collect(), new.iter().map(value).collect());
        let changed: Vec<usize> = (0..4).filter(|&index| old[index] != new[index]).collect();
        let expected = |from: &[Option<String>]| {
            let members = changed.iter().map(|&index| (format!("c{index}"), Json::from(from[index].clone())));
            Json::Object(members.collect())
        };
        for (sink, path, from) in [
            (SINKS[0], "/old/0", &old),
            (SINKS[2], "/old", &old),
            (SINKS[3], "/data", &new),
        ] {
            let (task, plan) = plan(&table, sink, "", 1).expect("a plan");
            let batch = batch(&table, transaction(0, 8), &[Did::UpdateRow(&before, &after)]);
            let sent = encode(&task, &plan, &batch).expect("encodes");
            let message = sent[0].json();
            prop_assert_eq!(message.pointer(path), Some(&expected(from)), "{}", sink);
        }
    }
}
