//! What the options of a format change, and what is refused.

use crate::scene::{Did, column, encode, orders, plan, table, v};
use crate::{FIRST, member, one, transaction};
use wal::Table;
use wal::table::ReplicaIdentity::Full;
use wal::types::{Type, oid};

fn one_column(type_: Type) -> Table {
    let columns = vec![column("id", Type::builtin(oid::INT4, "int4"), -1), column("v", type_, -1)];
    table("t", columns, 1, Full)
}

/// The column `v` of an inserted row; the error where it cannot be written.
fn written(sink: &str, type_: Type, text: &str) -> Result<String, String> {
    let table = one_column(type_);
    let (task, plan) = plan(&table, sink, "", 1).expect("a plan");
    let row = [v("1"), v(text)];
    let batch = crate::scene::batch(&table, transaction(0, 8), &[Did::Insert(&row)]);
    let sent = encode(&task, &plan, &batch).map_err(|error| error.to_string())?;
    Ok(member(sent[0].value.as_deref().expect("a value"), "v").expect("a member").to_owned())
}

#[test]
fn the_member_database_is_the_schema_or_the_database() {
    for (format, own) in [("canal-json", "shop"), ("maxwell-json", "shop")] {
        let said = |options: &str| {
            let sink = format!("format: {format}, format_options: {{{options}}}");
            let record = one(&orders(Full), &sink, transaction(0, 8), Did::Insert(&FIRST));
            record.json()["database"].clone()
        };
        assert_eq!(said(""), own);
        assert_eq!(said("database: database"), "appdb");
    }
}

#[test]
fn bytes_have_the_modes_of_debezium_and_one_of_canal() {
    let bytea = || Type::builtin(oid::BYTEA, "bytea");
    let text = "\\xfbff0141";
    for format in ["canal-json", "maxwell-json", "shareplex-json"] {
        let modes = [
            ("bytes", r#""+/8BQQ==""#),
            ("base64", r#""+/8BQQ==""#),
            ("base64-url-safe", r#""-_8BQQ==""#),
            ("hex", r#""fbff0141""#),
            ("iso-8859-1", "\"ûÿ\\u0001A\""),
        ];
        for (mode, expected) in modes {
            let sink = format!("format: {format}, format_options: {{binary: {mode}}}");
            assert_eq!(written(&sink, bytea(), text).as_deref(), Ok(expected), "{format} {mode}");
        }
    }
}

#[test]
fn special_values_are_text_or_refused_or_null() {
    let cases = [
        (Type::builtin(oid::NUMERIC, "numeric"), "NaN"),
        (Type::builtin(oid::NUMERIC, "numeric"), "-Infinity"),
        (Type::builtin(oid::DATE, "date"), "infinity"),
        (Type::builtin(oid::DATE, "date"), "0044-03-15 BC"),
        (Type::builtin(oid::TIMESTAMP, "timestamp"), "12024-03-05 10:20:30"),
        (Type::builtin(oid::TIMESTAMPTZ, "timestamptz"), "-infinity"),
        (Type::builtin(oid::TIMESTAMPTZ, "timestamptz"), "0044-03-15 10:20:30+00 BC"),
    ];
    for format in ["canal-json", "maxwell-json", "shareplex-json"] {
        for (type_, text) in &cases {
            let sink = |more: &str| format!("format: {format}, {more}");
            let found = written(&sink(""), type_.clone(), text);
            assert_eq!(found, Ok(format!("\"{text}\"")), "{format}");
            let refuse = "format_options: {special_values: refuse}";
            let said = written(&sink(refuse), type_.clone(), text).expect_err("refused");
            assert!(said.contains("shop.t, column `v`") && said.contains("to be refused"));
            let null = format!("{refuse}, unrepresentable: null");
            assert_eq!(written(&sink(&null), type_.clone(), text).as_deref(), Ok("null"));
        }
        let usual = written(
            &format!("format: {format}, format_options: {{special_values: refuse}}"),
            Type::builtin(oid::DATE, "date"),
            "2024-03-05",
        );
        assert_eq!(usual.as_deref(), Ok("\"2024-03-05\""));
    }
}

#[test]
fn nothing_of_one_record_is_left_in_the_next() {
    // Two transactions in one batch, by one encoder.
    for format in ["canal-json", "maxwell-json", "shareplex-json"] {
        let sink = format!("format: {format}");
        let table = orders(Full);
        let (task, plan) = plan(&table, &sink, "", 1).expect("a plan");
        let mut batch = crate::scene::batch(
            &table,
            transaction(0, 8),
            &[Did::Insert(&FIRST), Did::Insert(&FIRST)],
        );
        batch.transactions.push(transaction(1, 16));
        batch.changes[1].transaction = 1;
        batch.changes[1].ordinal = 0;
        let both = encode(&task, &plan, &batch).expect("encodes");
        let mut second = crate::scene::batch(&table, transaction(1, 16), &[Did::Insert(&FIRST)]);
        second.changes[0].lsn = batch.changes[1].lsn;
        let alone = encode(&task, &plan, &second).expect("encodes");
        assert_eq!(both[1], alone[0], "{format}");
        assert_ne!(both[0].value, both[1].value, "{format}");
    }
}

#[test]
fn a_row_has_the_same_partition_in_every_format() {
    let ids: Vec<String> = (0..60).map(|id| (id * 37).to_string()).collect();
    let table = orders(Full);
    let partitions = |format: &str| -> Vec<i32> {
        let sink = format!("format: {format}");
        let (task, plan) = plan(&table, &sink, "", 12).expect("a plan");
        let rows: Vec<_> = ids.iter().map(|id| [v(id), v("x"), v("1.00"), crate::AT]).collect();
        let changes: Vec<_> = rows.iter().map(|row| Did::Insert(row)).collect();
        let batch = crate::scene::batch(&table, transaction(0, 8), &changes);
        let sent = encode(&task, &plan, &batch).expect("encodes");
        sent.iter().map(|record| record.partition).collect()
    };
    let debezium = partitions("debezium-json");
    assert!(debezium.iter().any(|partition| *partition != debezium[0]));
    for format in ["canal-json", "maxwell-json", "shareplex-json"] {
        assert_eq!(partitions(format), debezium, "{format}");
    }
}

#[test]
fn a_plan_of_another_format_is_refused() {
    let table = orders(Full);
    let (_, canal) = plan(&table, "format: canal-json", "", 1).expect("a plan");
    let (maxwell, _) = plan(&table, "format: maxwell-json", "", 1).expect("a plan");
    let batch = crate::scene::batch(&table, transaction(0, 8), &[Did::Insert(&FIRST)]);
    let said = encode(&maxwell, &canal, &batch).expect_err("refused").to_string();
    assert!(said.contains("another format"), "{said}");
}
