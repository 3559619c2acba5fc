//! What the options of a format change, and what is refused.

use crate::scene::{Did, column, encode, orders, plan, table, task, v};
use crate::{FIRST, member, one, transaction};
use record::plan::TaskPlan;
use record::told::Teller;
use wal::table::ReplicaIdentity::Full;
use wal::types::{Type, oid};
use wal::{Lsn, Table};

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

/// Key and value of a heartbeat at 0/1A2BB00.
fn heartbeat(sink: &str) -> Option<[Option<String>; 2]> {
    let task = TaskPlan::new(&task(sink, ""), "appdb").expect("a plan");
    let told = Teller::new(&task).heartbeat(Lsn(0x1A2_BB00), 1_709_605_530_004_000)?;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Some([told.key.map(text), Some(text(told.value))])
}

#[test]
fn heartbeats_are_the_references() {
    let key = r#"{"serverName":"appdb"}"#;
    let value = r#"{"ts_ms":1709605530004}"#;
    let registry = "registry: {url: http://r}";
    for format in ["debezium-json", "debezium-avro", "protobuf"] {
        let found = heartbeat(&format!("format: {format}, {registry}")).expect("one");
        assert_eq!(found, [Some(key.to_owned()), Some(value.to_owned())]);
    }
    let [schema_key, schema_value] =
        heartbeat("format_options: {schemas: true}").expect("one").map(|it| it.expect("JSON"));
    assert_eq!(
        schema_key,
        r#"{"schema":{"type":"struct","fields":[{"type":"string","optional":false,"field":"serverName"}],"optional":false,"name":"io.debezium.connector.common.ServerNameKey","version":1},"payload":{"serverName":"appdb"}}"#
    );
    assert_eq!(
        schema_value,
        r#"{"schema":{"type":"struct","fields":[{"type":"int64","optional":false,"field":"ts_ms"}],"optional":false,"name":"io.debezium.connector.common.Heartbeat","version":1},"payload":{"ts_ms":1709605530004}}"#
    );
    let canal = r#"{"data":null,"database":"","es":1709605530004,"id":ID,"isDdl":false,"mysqlType":null,"old":null,"pkNames":null,"sql":"","sqlType":null,"table":"","ts":1709605530004,"type":"MHEARTBEAT"}"#;
    let id = ((0x1A2_BB00_u64 >> 3) << 17) - (2 << 11) + 1024;
    let canal = canal.replace("ID", &id.to_string());
    assert_eq!(heartbeat("format: canal-json"), Some([None, Some(canal)]));
    let shareplex = r#"{"meta":{"time":"2024-03-05T02:25:30","userid":0,"op":"hb","scn":"27441920","rowid":"","trans":"","seq":1,"size":1,"table":"","idx":"1/1","posttime":"2024-03-05T02:25:30"},"data":{}}"#;
    assert_eq!(heartbeat("format: shareplex-json"), Some([None, Some(shareplex.to_owned())]));
    assert_eq!(heartbeat("format: maxwell-json"), None);
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
