//! Rows for the benchmarks, and how they are routed.

#![allow(unreachable_pub, reason = "shared by several benchmarks")]

use bytes::Bytes;
use record::plan::{TablePlan, TaskPlan};
use record::route::{Piece, Scratch};
use std::sync::Arc;
use wal::change::{Operation, Span, Transaction};
use wal::table::ReplicaIdentity;
use wal::types::{Type, oid};
use wal::{Change, ChangeBatch, Column, Lsn, Table};

pub const ROWS: u64 = 1000;

pub type Cell = (&'static str, u32, &'static str);

/// 200 bytes of values, as an order of a shop has them.
pub const ORDER: [Cell; 10] = [
    ("int8", oid::INT8, "123456789"),
    ("uuid", oid::UUID, "6ecd8c99-4036-403d-bf84-cf8400f67836"),
    ("int4", oid::INT4, "4711"),
    ("text", oid::TEXT, "Some customer, 12 Long Street, Smalltown"),
    ("varchar", oid::VARCHAR, "an order with a remark, to be packed as a present"),
    ("numeric", oid::NUMERIC, "149.90"),
    ("bool", oid::BOOL, "t"),
    ("timestamptz", oid::TIMESTAMPTZ, "2024-03-05 02:20:30.123456+00"),
    ("timestamp", oid::TIMESTAMP, "2024-03-05 02:20:30.5"),
    ("text", oid::TEXT, "open"),
];

pub fn task_with(format: &str, transform: &str) -> TaskPlan {
    let text = format!(
        "version: 1\ntask: shop\nsource: {{hosts: [h], database: appdb, user: u}}\n\
         sink: {{brokers: [b], format: {format}, registry: {{url: http://r}}}}\n\
         objects: [{{table: \"*.*\", operations: [insert], transform: \"{transform}\"}}]\n"
    );
    TaskPlan::new(&config::Task::parse(&text).expect("a spec"), "appdb").expect("a plan")
}

pub fn table(cells: &[Cell]) -> Table {
    let column = |(index, (name, oid, _)): (usize, &Cell)| Column {
        name: format!("column_{index}").into(),
        type_: Arc::new(Type::builtin(*oid, name)),
        // numeric(12,2)
        type_modifier: if *oid == oid::NUMERIC { (12 << 16 | 2) + 4 } else { -1 },
        not_null: index == 0,
        default: None,
        in_identity: index == 0,
    };
    Table {
        oid: 16_400,
        version: 1,
        schema: "public".into(),
        name: "orders".into(),
        identity: ReplicaIdentity::Default,
        columns: cells.iter().enumerate().map(column).collect(),
        key: vec![0],
        unique: Vec::new(),
    }
}

pub fn batch(table: Table, cells: &[Cell]) -> ChangeBatch {
    let mut bytes = Vec::new();
    let mut insert = |ordinal: u64| {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small");
        let start = length(&bytes);
        bytes.extend_from_slice(&u16::try_from(cells.len()).expect("few").to_be_bytes());
        for (_, _, text) in cells {
            bytes.push(b't');
            bytes.extend_from_slice(&length(text.as_bytes()).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let new = Some(Span { start, end: length(&bytes) });
        let lsn = Lsn(27_440_072 + ordinal);
        let operation = Operation::Insert;
        Change { transaction: 0, table: 0, ordinal, lsn, operation, old: None, new }
    };
    let changes = (0..ROWS).map(&mut insert).collect();
    let transaction = Transaction {
        xid: 7341,
        commit_lsn: Lsn(27_440_016),
        previous_commit_lsn: Some(Lsn(27_440_000)),
        commit_time: 762_920_430_500_000,
        changes_count: Some(ROWS),
    };
    ChangeBatch {
        bytes: Bytes::from(bytes),
        changes,
        transactions: vec![transaction],
        tables: vec![Arc::new(table)],
        ..ChangeBatch::default()
    }
}

pub fn route(
    plan: &TablePlan,
    batch: &ChangeBatch,
    scratch: &mut Scratch,
    pieces: &mut Vec<Piece>,
) {
    pieces.clear();
    for change in 0..u32::try_from(ROWS).expect("few") {
        plan.route(batch, change, scratch, &mut |piece| pieces.push(piece));
    }
}
