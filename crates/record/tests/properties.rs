//! What holds for any input: no panic, JSON that parses, numbers and keys as a reference has them.

mod scene;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use num_bigint::BigInt;
use proptest::prelude::*;
use record::route::Part;
use scene::{Did, Value, array_of, batch, column, encode, numeric_modifier, plan, transaction};
use serde_json::Value as Json;
use wal::table::ReplicaIdentity::{Default, Full};
use wal::types::{Kind, Type, oid};
use wal::{Column, Table};

/// One column of every kind of rendering, with the modifiers that change it.
fn every_type() -> Vec<(Type, i32)> {
    let built_in = [
        ("bool", oid::BOOL, -1),
        ("bit", oid::BIT, 1),
        ("varbit", oid::VARBIT, 9),
        ("int8", oid::INT8, -1),
        ("float8", oid::FLOAT8, -1),
        ("numeric", oid::NUMERIC, -1),
        ("numeric", oid::NUMERIC, numeric_modifier(12, 2)),
        ("numeric", oid::NUMERIC, numeric_modifier(12, -2)),
        ("money", oid::MONEY, -1),
        ("text", oid::TEXT, -1),
        ("bytea", oid::BYTEA, -1),
        ("date", oid::DATE, -1),
        ("time", oid::TIME, 3),
        ("timetz", oid::TIMETZ, -1),
        ("timestamp", oid::TIMESTAMP, -1),
        ("timestamptz", oid::TIMESTAMPTZ, 3),
        ("interval", oid::INTERVAL, -1),
        ("point", oid::POINT, -1),
    ]
    .map(|(name, oid, modifier)| (Type::builtin(oid, name), modifier));
    let extensions = ["hstore", "geometry", "vector", "sparsevec"]
        .map(|name| (scene::of_kind(name, Kind::Base), -1));
    let mut types = built_in.into_iter().chain(extensions).collect::<Vec<_>>();
    let arrays: Vec<_> =
        types.iter().map(|(type_, modifier)| (array_of(type_.clone()), *modifier)).collect();
    types.extend(arrays);
    types
}

fn one_column(type_: Type, modifier: i32) -> Table {
    let columns =
        vec![column("id", Type::builtin(oid::INT4, "int4"), -1), column("v", type_, modifier)];
    scene::table("t", columns, 1, Full)
}

/// The member `v` after an insert; `None` where the encoder refused the text.
fn carried(type_: &Type, modifier: i32, sink: &str, text: &[u8]) -> Option<Json> {
    let table = one_column(type_.clone(), modifier);
    let (task, plan) = plan(&table, sink, "", 1).expect("a plan");
    let row = [Value::Text("1"), Value::Bytes(text)];
    let batch = batch(&table, transaction(), &[Did::Insert(&row)]);
    let sent = encode(&task, &plan, &batch).ok()?;
    Some(sent[0].json()["after"]["v"].clone())
}

/// Options that reach every branch of rendering.
const OPTIONS: [&str; 5] = [
    "",
    "format_options: {compat: strict, decimal: double, time: connect, interval: string}",
    "format_options: {decimal: string, time: isostring, binary: hex, hstore: map}",
    "format_options: {time: nanoseconds, binary: base64-url-safe}, unrepresentable: null",
    "format_options: {time: microseconds, binary: base64}",
];

/// Bytes that look like the texts of the server, and some that do not.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let signs = b"0123456789-+.:,;\"\\{}[]()=> eE".to_vec();
    let words = [
        "NULL",
        "NaN",
        "-infinity",
        " BC",
        "2024-03-05",
        "10:20:30.123456",
        "+08:30",
        "1 year 2 mons",
        "\\x0102",
        "99999999999999999999",
        "\"a\"=>\"b\"",
    ];
    let piece = prop_oneof![
        4 => prop::sample::select(signs).prop_map(|sign| vec![sign]),
        3 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// An array as the server prints it, every element quoted, and as JSON has it.
fn array() -> impl Strategy<Value = (String, Json)> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let leaf = prop::collection::vec(prop::option::of("\\PC{0,6}"), 1..4).prop_map(move |items| {
        let text: Vec<_> =
            items.iter().map(|item| item.as_deref().map_or("NULL".into(), quoted)).collect();
        (format!("{{{}}}", text.join(",")), Json::from(items))
    });
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop::collection::vec(inner, 1..4).prop_map(|items| {
            let (texts, values): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            (format!("{{{}}}", texts.join(",")), Json::from(values))
        })
    })
}

/// A decimal in the server's form with so many fraction digits.
fn decimal(scale: usize) -> impl Strategy<Value = String> {
    let digits = |count| prop::collection::vec(b'0'..=b'9', count);
    let short_or_long = prop_oneof![digits(1..25), digits(25..60)];
    (any::<bool>(), short_or_long, digits(scale..scale + 1)).prop_map(
        |(negative, whole, fraction)| {
            let (whole, fraction) = (text_of(&whole), text_of(&fraction));
            let whole = whole.trim_start_matches('0');
            let zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
            let sign = if negative && !zero { "-" } else { "" };
            let whole = if whole.is_empty() { "0" } else { whole };
            format!("{sign}{whole}.{fraction}")
        },
    )
}

const DAYS_BEFORE_1970: i64 = 719_162;

/// Year, month and day of the month of a day counted from 0001-01-01, found year by year.
fn calendar(mut day: u32) -> (u32, u32, u32) {
    let leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1;
    while 365 + u32::from(leap(year)) <= day {
        day -= 365 + u32::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for days in months {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    (year, month, day + 1)
}

/// The second that comes so many seconds later, as the server prints it.
fn shifted(day: u32, seconds: u32, by: u32) -> String {
    let later = seconds + by;
    let (year, month, date) = calendar(day + later / 86_400);
    let later = later % 86_400;
    let [hour, minute, second] = [later / 3600, later / 60 % 60, later % 60];
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}")
}

fn text_of(digits: &[u8]) -> String {
    digits.iter().map(|&digit| char::from(digit)).collect()
}

fn two_complement(json: &Json) -> BigInt {
    let bytes = STANDARD.decode(json.as_str().expect("base64")).expect("base64");
    let number = BigInt::from_signed_bytes_be(&bytes);
    assert_eq!(number.to_signed_bytes_be(), bytes, "as short as Java's");
    number
}

fn keyed(columns: usize, identity: wal::table::ReplicaIdentity) -> Table {
    let column = |index: usize| -> Column {
        let type_ = if index.is_multiple_of(2) {
            Type::builtin(oid::INT8, "int8")
        } else {
            Type::builtin(oid::TEXT, "text")
        };
        column(&format!("k{index}"), type_, -1)
    };
    scene::table("t", (0..=columns).map(column).collect(), columns, identity)
}

/// Kafka's default partitioner over the message key, written for this test.
fn kafka_partition(key: &[u8], partitions: i32) -> i32 {
    let m = 0x5bd1_e995_u32;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(key.len()).expect("short");
    let mut rest = key;
    while let Some((block, after)) = rest.split_first_chunk::<4>() {
        let k = u32::from_le_bytes(*block).wrapping_mul(m);
        hash = hash.wrapping_mul(m) ^ (k ^ (k >> 24)).wrapping_mul(m);
        rest = after;
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(m);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(m);
    hash ^= hash >> 15;
    (hash & 0x7fff_ffff).cast_signed() % partitions
}

fn key_texts(columns: usize) -> impl Strategy<Value = Vec<String>> {
    let texts = |index: usize| {
        if index.is_multiple_of(2) {
            any::<i64>().prop_map(|number| number.to_string()).boxed()
        } else {
            "\\PC{0,4}".boxed()
        }
    };
    (0..columns).map(texts).collect::<Vec<_>>()
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_written_is_json(
        which in 0..44usize,
        options in 0..OPTIONS.len(),
        text in text(),
    ) {
        let types = every_type();
        prop_assert_eq!(types.len(), 44);
        let (type_, modifier) = &types[which];
        // `carried` parses what was written.
        let _ = carried(type_, *modifier, OPTIONS[options], &text);
    }

    #[test]
    fn no_tuple_panics(old: Vec<u8>, new: Vec<u8>, is_key: bool) {
        let table = scene::orders(Full);
        let (task, plan) = plan(&table, "", "", 4).expect("a plan");
        let mut batch = batch(&table, transaction(), &[Did::UpdateRow(&[], &[])]);
        let (first, second) = (u32::try_from(old.len()).expect("few"), new.len());
        let end = first + u32::try_from(second).expect("few");
        batch.bytes = [old, new].concat().into();
        let old = wal::change::Span { start: 0, end: first };
        batch.changes[0].old =
            Some(if is_key { wal::change::Old::Key(old) } else { wal::change::Old::Row(old) });
        batch.changes[0].new = Some(wal::change::Span { start: first, end });
        let _ = encode(&task, &plan, &batch);
    }

    #[test]
    fn every_text_comes_back(text in "\\PC*|[\\x00-\\x7f]*") {
        let type_ = Type::builtin(oid::TEXT, "text");
        let found = carried(&type_, -1, "", text.as_bytes());
        prop_assert_eq!(found, Some(Json::from(text)));
    }

    #[test]
    fn every_array_comes_back((text, expected) in array()) {
        let type_ = array_of(Type::builtin(oid::TEXT, "text"));
        prop_assert_eq!(carried(&type_, -1, "", text.as_bytes()), Some(expected));
    }

    #[test]
    fn every_integer_comes_back(number: i64) {
        let type_ = Type::builtin(oid::INT8, "int8");
        let found = carried(&type_, -1, "", number.to_string().as_bytes());
        prop_assert_eq!(found, Some(Json::from(number)));
    }

    #[test]
    fn every_float_comes_back(number in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
        let type_ = Type::builtin(oid::FLOAT8, "float8");
        let found = carried(&type_, -1, "", format!("{number:e}").as_bytes());
        prop_assert_eq!(found, Some(Json::from(number)));
    }

    #[test]
    fn every_byte_string_comes_back(bytes: Vec<u8>) {
        let type_ = Type::builtin(oid::BYTEA, "bytea");
        let text = bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        let found = carried(&type_, -1, "", text.as_bytes()).expect("carried");
        prop_assert_eq!(STANDARD.decode(found.as_str().expect("a string")), Ok(bytes));
    }

    #[test]
    fn moments_are_counted_from_1970(
        day in 0..3_000_000u32,
        seconds in 0..86_400u32,
        micros in prop_oneof![Just(0), 0..1_000_000u32],
    ) {
        let (year, month, date) = calendar(day);
        let clock = [seconds / 3600, seconds / 60 % 60, seconds % 60];
        let [hour, minute, second] = clock;
        let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
        let fraction = fraction.trim_end_matches('0');
        let text =
            format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}{fraction}");
        let since = (i64::from(day) - DAYS_BEFORE_1970) * 86_400 + i64::from(seconds);
        let since = since * 1_000_000 + i64::from(micros);
        let type_ = Type::builtin(oid::TIMESTAMP, "timestamp");
        prop_assert_eq!(carried(&type_, -1, "", text.as_bytes()), Some(Json::from(since)));
        let type_ = Type::builtin(oid::TIMESTAMPTZ, "timestamptz");
        let iso = |text: &str| Some(Json::from(format!("{}Z", text.replace(' ', "T"))));
        let padded = text.split('.').next().map(|whole| format!("{whole}.{micros:06}"));
        let padded = padded.unwrap_or_default();
        let year = if 9999 < year { "+" } else { "" };
        let utc = carried(&type_, -1, "", format!("{text}+00").as_bytes());
        prop_assert_eq!(&utc, &iso(&format!("{year}{padded}")));
        // The same moment, an hour and a half later on the clock.
        let later = shifted(day, seconds, 5400);
        let zoned = format!("{later}{fraction}+01:30");
        prop_assert_eq!(carried(&type_, -1, "", zoned.as_bytes()), utc);
    }

    #[test]
    fn the_bytes_of_a_decimal_are_java_s(text in decimal(3)) {
        let type_ = Type::builtin(oid::NUMERIC, "numeric");
        let unscaled: BigInt = text.replace('.', "").parse().expect("digits");
        let found = carried(&type_, numeric_modifier(100, 3), "", text.as_bytes());
        prop_assert_eq!(two_complement(&found.expect("carried")), unscaled);
    }

    #[test]
    fn a_plain_numeric_keeps_its_value_and_drops_its_zeros(text in decimal(5)) {
        let type_ = Type::builtin(oid::NUMERIC, "numeric");
        let found = carried(&type_, -1, "", text.as_bytes()).expect("carried");
        let scale = u32::try_from(found["scale"].as_u64().expect("a scale")).expect("small");
        let unscaled = two_complement(&found["value"]);
        let ten = BigInt::from(10);
        let expected: BigInt = text.replace('.', "").parse().expect("digits");
        prop_assert_eq!(&unscaled * ten.pow(5 - scale), expected);
        prop_assert!(scale == 0 || &unscaled % &ten != BigInt::ZERO);
    }

    #[test]
    fn rows_and_key_changes_are_where_kafka_s_partitioner_puts_their_keys(
        (old, new) in (1..4usize).prop_flat_map(|columns| (key_texts(columns), key_texts(columns))),
        partitions in 1..20i32,
        full: bool,
    ) {
        let identity = if full { Full } else { Default };
        let table = keyed(old.len(), identity);
        let row = |key: &[String]| -> Vec<Value<'static>> {
            let text = |text: &String| Value::Text(String::leak(text.clone()));
            key.iter().map(text).chain([Value::Null]).collect()
        };
        let (before, after) = (row(&old), row(&new));
        let did = if full {
            Did::UpdateRow(&before, &after)
        } else {
            Did::UpdateKey(&before, &after)
        };
        let (task, plan) = plan(&table, "", "", partitions).expect("a plan");
        let changes = [Did::Insert(&before), did, Did::DeleteRow(&after)];
        let batch = batch(&table, transaction(), &changes);
        let sent = encode(&task, &plan, &batch).expect("encodes");
        for record in &sent {
            let key = record.key.as_deref().expect("a key");
            prop_assert_eq!(record.partition, kafka_partition(key.as_bytes(), partitions));
        }
        let keys = |key: &[String]| {
            let value = |(index, text): (usize, &String)| {
                let value = if index % 2 == 0 { text.clone() } else { Json::from(text.as_str()).to_string() };
                format!("\"k{index}\":{value}")
            };
            format!("{{{}}}", key.iter().enumerate().map(value).collect::<Vec<_>>().join(","))
        };
        prop_assert_eq!(sent[0].key.clone(), Some(keys(&old)));
        let last = sent.last().and_then(|record| record.key.clone());
        prop_assert_eq!(last, Some(keys(&new)));
        let parts = scene::pieces(&plan, &batch).into_iter().map(|piece| piece.part);
        let split = parts.filter(|part| *part == Part::KeyChangeDelete).count();
        prop_assert_eq!(split, usize::from(old != new));
    }
}

#[test]
fn a_number_of_many_thousand_digits_is_carried() {
    let text = format!("-{}", "7".repeat(20_000));
    let type_ = Type::builtin(oid::NUMERIC, "numeric");
    let found = carried(&type_, -1, "", text.as_bytes()).expect("carried");
    assert_eq!(two_complement(&found["value"]), text.parse::<BigInt>().expect("digits"));
}
