//! Canal, Maxwell and SharePlex JSON: the worked examples of their references, their options, every type,
//! what holds for any input; and the table of `docs/formats.md`, which is rendered by the encoders.

#![allow(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]

#[path = "../scene/connect.rs"]
mod connect;
#[path = "../scene/proto.rs"]
mod proto;
#[path = "../scene/mod.rs"]
mod scene;

mod canal;
mod documented;
mod maxwell;
mod options;
mod properties;
mod samples;
mod shareplex;
mod values;

use scene::{Did, Null, Sent, Value, encode, plan};
use wal::change::Transaction;
use wal::{Lsn, Table};

const AT: Value<'static> = Value::Text("2024-03-05 02:20:30.123456+00");
const FIRST: [Value<'static>; 4] =
    [Value::Text("1001"), Value::Text("first"), Value::Text("49.90"), AT];
const MOVED: [Value<'static>; 4] = [Value::Text("2001"), Null, Value::Text("59.90"), AT];

/// A transaction of one change that the references number from 7341; commits a minute after the other.
fn transaction(number: u32, lsn: u64) -> Transaction {
    let minutes = i64::from(number);
    // The first one has half a second, the others a quarter.
    let fraction = if number == 0 { 500_000 } else { 250_000 };
    Transaction {
        xid: 7341 + number,
        commit_lsn: Lsn(lsn),
        commit_time: scene::since_2000(1_709_605_230_000_000 + minutes * 60_000_000 + fraction),
        changes_count: Some(1),
        ..scene::transaction()
    }
}

/// Rows of a snapshot.
fn snapshot() -> Transaction {
    Transaction { xid: 0, changes_count: None, ..transaction(0, 27_440_368) }
}

/// The records of changes in one transaction, over one partition.
fn sent(table: &Table, sink: &str, transaction: Transaction, changes: &[Did<'_>]) -> Vec<Sent> {
    let (task, plan) = plan(table, sink, "", 1).expect("a plan");
    encode(&task, &plan, &scene::batch(table, transaction, changes)).expect("encodes")
}

/// The one record of one change.
#[track_caller]
fn one(table: &Table, sink: &str, transaction: Transaction, change: Did<'_>) -> Sent {
    let mut sent = sent(table, sink, transaction, &[change]);
    assert_eq!(sent.len(), 1);
    sent.remove(0)
}

/// The text of a member's value, as it stands in a JSON text.
fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
    values.next()?.ok()?;
    Some(rest[..values.byte_offset()].trim_end())
}
