//! A table, changes of it, and the records that come of them, for the tests of this package.

#![allow(dead_code, reason = "each suite uses a part")]

use bytes::Bytes;
use proptest::prelude::*;
use record::encode::{EncodeError, Encoder};
use record::plan::{PlanError, TablePlan, TaskPlan};
use record::route::{Piece, Scratch};
use record::transaction::Order;
use std::convert::Infallible;
use std::sync::Arc;
use wal::change::{Old, Operation, Span, Transaction};
use wal::table::ReplicaIdentity;
use wal::types::{Kind, Type, oid};
use wal::{Change, ChangeBatch, Column, Lsn, Table};

/// Every mode of Debezium's dates and times.
pub(crate) const TIMES: [&str; 6] = [
    "adaptive",
    "adaptive-time-microseconds",
    "connect",
    "isostring",
    "microseconds",
    "nanoseconds",
];

/// A value of a row, as the server sends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Unchanged,
    Text(&'a str),
    Bytes(&'a [u8]),
    Binary(&'a [u8]),
}

#[allow(unused_imports, reason = "each suite uses a part")]
pub(crate) use Value::{Null, Unchanged};

pub(crate) fn v(text: &str) -> Value<'_> {
    Value::Text(text)
}

/// A change to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Did<'a> {
    Read(&'a [Value<'a>]),
    Insert(&'a [Value<'a>]),
    Update(&'a [Value<'a>]),
    /// Old key, new row.
    UpdateKey(&'a [Value<'a>], &'a [Value<'a>]),
    /// Old row, new row.
    UpdateRow(&'a [Value<'a>], &'a [Value<'a>]),
    DeleteKey(&'a [Value<'a>]),
    DeleteRow(&'a [Value<'a>]),
    Truncate,
}

/// A record, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) timestamp_ms: i64,
}

impl Sent {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.value.as_deref().expect("no tombstone")).expect("JSON")
    }
}

pub(crate) fn column(name: &str, type_: Type, type_modifier: i32) -> Column {
    Column {
        name: name.into(),
        type_: Arc::new(type_),
        type_modifier,
        not_null: false,
        default: None,
        in_identity: false,
    }
}

pub(crate) fn array_of(element: Type) -> Type {
    let name = format!("_{}", element.name).into();
    let kind = Kind::Array { element: Arc::new(element), delimiter: b',' };
    Type { oid: 100_000, schema: "pg_catalog".into(), name, kind }
}

pub(crate) fn of_kind(name: &str, kind: Kind) -> Type {
    Type { oid: 100_001, schema: "public".into(), name: name.into(), kind }
}

/// `numeric(precision, scale)`.
pub(crate) const fn numeric_modifier(precision: i32, scale: i32) -> i32 {
    (precision << 16 | (scale & 0x7FF)) + 4
}

/// A table of `shop` whose key are the first `key` columns.
pub(crate) fn table(
    name: &str,
    columns: Vec<Column>,
    key: usize,
    identity: ReplicaIdentity,
) -> Table {
    let mut table = Table {
        oid: 16_400,
        version: 1,
        schema: "shop".into(),
        name: name.into(),
        identity,
        columns,
        key: (0..key).collect(),
        unique: Vec::new(),
    };
    for (index, column) in table.columns.iter_mut().enumerate() {
        column.not_null = index < key;
        column.in_identity = index < key || identity == ReplicaIdentity::Full;
    }
    table
}

/// The table of the format's reference: `shop.orders`.
pub(crate) fn orders(identity: ReplicaIdentity) -> Table {
    let columns = vec![
        column("id", Type::builtin(oid::INT8, "int8"), -1),
        column("note", Type::builtin(oid::TEXT, "text"), -1),
        column("total", Type::builtin(oid::NUMERIC, "numeric"), numeric_modifier(12, 2)),
        column("at", Type::builtin(oid::TIMESTAMPTZ, "timestamptz"), -1),
    ];
    table("orders", columns, 1, identity)
}

/// What stands for DDL statements that change `shop.orders`.
pub(crate) fn statements() -> Table {
    let text = || Type::builtin(oid::TEXT, "text");
    let columns = wal::statement::COLUMNS.map(|name| column(name, text(), -1));
    let name = r#"[["shop","orders"]]"#;
    let mut table = table(name, columns.into(), 0, ReplicaIdentity::Nothing);
    (table.oid, table.schema) = (wal::statement::OID, "".into());
    table
}

/// A statement as it is captured: one that makes a table with an enum and drops another one.
pub(crate) const STATEMENT: [Value<'static>; 3] = [
    Value::Text("1"),
    Value::Text(r#"[["shop","orders"]]"#),
    Value::Text(
        r#"{"tag":"CREATE TABLE","nth":1,"query":"CREATE TABLE shop.orders (id bigint, m mood)",
        "objects":[{"type":"table","schema":"shop","name":"orders","identity":"shop.orders"}],
        "dropped":[{"type":"table","schema":"shop","name":"old","identity":"shop.old","original":true}],
        "relations":[{"schema":"shop","name":"orders","kind":"r","key":["id"],"columns":[
        {"name":"id","position":1,"oid":20,"type_name":"int8","type":"bigint","modifier":-1,"not_null":true},
        {"name":"m","position":2,"oid":4000000000,"type_name":"mood","type":"mood","modifier":-1,
        "default":"'sad'::mood","labels":["sad","glad"]}]}]}"#,
    ),
];

/// A task with more keys under `sink` and under its one object.
pub(crate) fn task(sink: &str, object: &str) -> config::Task {
    let text = format!(
        "version: 1\ntask: shop\nsource: {{hosts: [h], database: appdb, user: u}}\n\
         sink: {{brokers: [b], topic_prefix: appdb, {sink}}}\n\
         objects: [{{table: \"*.*\", {object}}}]\n"
    );
    config::Task::parse(&text).expect("a spec")
}

pub(crate) fn plan(
    table: &Table,
    sink: &str,
    object: &str,
    partitions: i32,
) -> Result<(TaskPlan, TablePlan), PlanError> {
    let task = TaskPlan::new(&task(sink, object), "appdb")?;
    let plan = TablePlan::new(Arc::new(table.clone()), &task, 0, partitions, 8)?;
    Ok((task, plan))
}

/// The transaction of the format's INSERT example.
pub(crate) fn transaction() -> Transaction {
    Transaction {
        xid: 7341,
        commit_lsn: Lsn(27_440_128),
        previous_commit_lsn: Some(Lsn(27_440_016)),
        commit_time: since_2000(1_709_605_230_500_000),
        changes_count: None,
    }
}

/// Microseconds since 1970 → since 2000.
pub(crate) fn since_2000(us: i64) -> i64 {
    us - 946_684_800_000_000
}

fn put(kind: u8, value: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(kind);
    bytes.extend_from_slice(&u32::try_from(value.len()).expect("few").to_be_bytes());
    bytes.extend_from_slice(value);
}

fn append(row: &[Value<'_>], bytes: &mut Vec<u8>) -> Span {
    let start = u32::try_from(bytes.len()).expect("few");
    bytes.extend_from_slice(&u16::try_from(row.len()).expect("few").to_be_bytes());
    for value in row {
        match value {
            Value::Text(text) => put(b't', text.as_bytes(), bytes),
            Value::Bytes(text) => put(b't', text, bytes),
            Value::Binary(binary) => put(b'b', binary, bytes),
            Value::Null => bytes.push(b'n'),
            Value::Unchanged => bytes.push(b'u'),
        }
    }
    Span { start, end: u32::try_from(bytes.len()).expect("few") }
}

/// The changes as a batch of one transaction; LSNs grow from 27440072.
pub(crate) fn batch(table: &Table, transaction: Transaction, changes: &[Did<'_>]) -> ChangeBatch {
    let mut bytes = Vec::new();
    let mut change = |ordinal: u64, did: &Did<'_>| {
        let (operation, old, new) = match *did {
            Did::Read(new) => (Operation::Read, None, Some(new)),
            Did::Insert(new) => (Operation::Insert, None, Some(new)),
            Did::Update(new) => (Operation::Update, None, Some(new)),
            Did::UpdateKey(old, new) => (Operation::Update, Some((old, true)), Some(new)),
            Did::UpdateRow(old, new) => (Operation::Update, Some((old, false)), Some(new)),
            Did::DeleteKey(old) => (Operation::Delete, Some((old, true)), None),
            Did::DeleteRow(old) => (Operation::Delete, Some((old, false)), None),
            Did::Truncate => (Operation::Truncate, None, None),
        };
        let old = old.map(|(row, is_key)| {
            let span = append(row, &mut bytes);
            if is_key { Old::Key(span) } else { Old::Row(span) }
        });
        let new = new.map(|row| append(row, &mut bytes));
        let lsn = Lsn(27_440_072 + 8 * ordinal);
        Change { transaction: 0, table: 0, ordinal, lsn, operation, old, new }
    };
    let changes = (0..).zip(changes).map(|(ordinal, did)| change(ordinal, did)).collect();
    ChangeBatch {
        bytes: Bytes::from(bytes),
        changes,
        transactions: vec![transaction],
        tables: vec![Arc::new(table.clone())],
        ..ChangeBatch::default()
    }
}

pub(crate) fn pieces(plan: &TablePlan, batch: &ChangeBatch) -> Vec<Piece> {
    let mut scratch = Scratch::default();
    let mut pieces = Vec::new();
    for change in 0..u32::try_from(batch.changes.len()).expect("few") {
        plan.route(batch, change, &mut scratch, &mut |piece| pieces.push(piece));
    }
    pieces
}

/// When events are handled.
pub(crate) const NOW_US: i64 = 1_709_605_231_004_017;

/// Routes and encodes every change, 504 ms after the INSERT example.
pub(crate) fn encode(
    task: &TaskPlan,
    plan: &TablePlan,
    batch: &ChangeBatch,
) -> Result<Vec<Sent>, EncodeError<Infallible>> {
    let mut encoder = Encoder::new(task);
    let mut sent = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    for piece in pieces(plan, batch) {
        encoder.encode(plan, batch, &piece, NOW_US, &mut |record| {
            let header = |(name, value): &(&str, &[u8])| ((*name).to_owned(), text(value));
            sent.push(Sent {
                topic: record.topic.to_owned(),
                partition: record.partition,
                key: record.key.map(text),
                value: record.value.map(text),
                headers: record.headers.iter().map(header).collect(),
                timestamp_ms: record.timestamp_ms,
            });
            Ok(())
        })?;
    }
    Ok(sent)
}

/// A record of a binary format, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Binary {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// As [`encode`], of a binary format.
pub(crate) fn encode_binary(
    task: &TaskPlan,
    plan: &TablePlan,
    batch: &ChangeBatch,
) -> Result<Vec<Binary>, EncodeError<Infallible>> {
    encode_placed(task, plan, batch, None)
}

/// The place of a record, and what its member `transaction` says then.
pub(crate) const PLACE: Order = Order { total: 7, collection: 3 };
pub(crate) const PLACED: &str =
    r#"{"id":"7341:27440072","total_order":7,"data_collection_order":3}"#;

/// As [`encode_binary`], every record in this place of its transaction.
pub(crate) fn encode_placed(
    task: &TaskPlan,
    plan: &TablePlan,
    batch: &ChangeBatch,
    order: Option<Order>,
) -> Result<Vec<Binary>, EncodeError<Infallible>> {
    let mut encoder = Encoder::new(task);
    encoder.place(order);
    let mut sent = Vec::new();
    for piece in pieces(plan, batch) {
        encoder.encode(plan, batch, &piece, NOW_US, &mut |record| {
            let header = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
            sent.push(Binary {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.iter().map(header).collect(),
            });
            Ok(())
        })?;
    }
    Ok(sent)
}

/// The records of changes of a table, over one partition.
pub(crate) fn records(table: &Table, sink: &str, changes: &[Did<'_>]) -> Vec<Sent> {
    let (task, plan) = plan(table, sink, "", 1).expect("a plan");
    encode(&task, &plan, &batch(table, transaction(), changes)).expect("encodes")
}

/// Bytes that look like the texts of the server, and some that do not.
pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    let signs = b"0123456789-+.:,;\"\\{}[]()=> eE".to_vec();
    let words =
        ["NULL", "NaN", "-infinity", " BC", "2024-03-05", "10:20:30.123456", "+08:30", "\\x0102"];
    let piece = prop_oneof![
        4 => prop::sample::select(signs).prop_map(|sign| vec![sign]),
        3 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}
