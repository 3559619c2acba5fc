//! Writes what the server would send, for tests. Not every suite uses all of it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "shared by several suites")]

use std::sync::Arc;
use wal::decoder::{Decoder, Options, Step};
use wal::relation::{ColumnDescription, RelationDescription};
use wal::table::{Column, ReplicaIdentity, Table};
use wal::types::{Type, oid};

/// A value of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

pub fn text(value: &str) -> Value {
    Value::Text(value.into())
}

pub fn tuple(values: &[Value]) -> Vec<u8> {
    let mut out = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            Value::Null => out.push(b'n'),
            Value::Unchanged => out.push(b'u'),
            Value::Text(data) => sized(&mut out, b't', data),
            Value::Binary(data) => sized(&mut out, b'b', data),
        }
    }
    out
}

fn sized(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    out.push(kind);
    out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    out.extend(data);
}

pub fn begin(final_lsn: u64, commit_time: i64, xid: u32) -> Vec<u8> {
    join(&[b"B", &final_lsn.to_be_bytes(), &commit_time.to_be_bytes(), &xid.to_be_bytes()])
}

pub fn commit(commit_lsn: u64, end_lsn: u64, commit_time: i64) -> Vec<u8> {
    let (lsn, end) = (commit_lsn.to_be_bytes(), end_lsn.to_be_bytes());
    join(&[b"C\0", &lsn, &end, &commit_time.to_be_bytes()])
}

/// Columns of type text; the first one is the identity.
pub fn relation(oid: u32, name: &str, columns: &[&str]) -> Vec<u8> {
    let typed: Vec<_> = columns.iter().map(|&name| (name, oid::TEXT)).collect();
    typed_relation(oid, name, b'd', &typed)
}

pub fn typed_relation(oid: u32, name: &str, identity: u8, columns: &[(&str, u32)]) -> Vec<u8> {
    let count = u16::try_from(columns.len()).unwrap().to_be_bytes();
    let mut out = join(&[b"R", &oid.to_be_bytes(), b"public\0", name.as_bytes(), b"\0"]);
    out.push(identity);
    out.extend(count);
    for (index, (column, type_oid)) in columns.iter().enumerate() {
        out.push(u8::from(index == 0));
        out.extend(join(&[column.as_bytes(), b"\0", &type_oid.to_be_bytes(), &[0xFF; 4]]));
    }
    out
}

pub fn insert(oid: u32, new: &[Value]) -> Vec<u8> {
    join(&[b"I", &oid.to_be_bytes(), b"N", &tuple(new)])
}

/// `old`: the kind, `K` or `O`, and the row.
pub fn update(oid: u32, old: Option<(u8, &[Value])>, new: &[Value]) -> Vec<u8> {
    let old = old.map(|(kind, values)| join(&[&[kind], &tuple(values)])).unwrap_or_default();
    join(&[b"U", &oid.to_be_bytes(), &old, b"N", &tuple(new)])
}

pub fn delete(oid: u32, kind: u8, old: &[Value]) -> Vec<u8> {
    join(&[b"D", &oid.to_be_bytes(), &[kind], &tuple(old)])
}

pub fn truncate(oids: &[u32], options: u8) -> Vec<u8> {
    let count = u32::try_from(oids.len()).unwrap().to_be_bytes();
    let oids: Vec<u8> = oids.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    join(&[b"T", &count, &[options], &oids])
}

pub fn logical(transactional: bool, lsn: u64, prefix: &str, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let flags = [u8::from(transactional)];
    join(&[b"M", &flags, &lsn.to_be_bytes(), prefix.as_bytes(), b"\0", &length, content])
}

/// A plug-in message in its frames.
pub fn xlog_data(lsn: u64, message: &[u8]) -> Vec<u8> {
    copy_data(&join(&[b"w", &lsn.to_be_bytes(), &lsn.to_be_bytes(), &[0; 8], message]))
}

pub fn keepalive(server_end: u64, reply: bool) -> Vec<u8> {
    copy_data(&join(&[b"k", &server_end.to_be_bytes(), &[0; 8], &[u8::from(reply)]]))
}

pub fn copy_data(body: &[u8]) -> Vec<u8> {
    backend(b'd', body)
}

pub fn backend(tag: u8, body: &[u8]) -> Vec<u8> {
    join(&[&[tag], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body])
}

pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Two hexadecimal digits per byte; blanks are ignored.
pub fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// A captured file: WAL position and message per line.
pub fn captured(file: &str) -> Vec<(u64, Vec<u8>)> {
    let message = |line: &str| {
        let (lsn, hex) = line.split_once(' ').unwrap();
        (lsn.parse::<wal::Lsn>().unwrap().0, unhex(hex))
    };
    file.lines().map(message).collect()
}

/// What the catalog would add.
pub fn complete(description: &RelationDescription) -> Arc<Table> {
    let columns = description.columns.iter().map(|column| Column {
        name: column.name.clone(),
        type_: Arc::new(Type::unknown(column.type_oid)),
        type_modifier: column.type_modifier,
        not_null: column.in_identity,
        default: None,
        in_identity: column.in_identity,
    });
    Arc::new(Table {
        oid: description.oid,
        version: description.version,
        schema: description.schema.clone(),
        name: description.name.clone(),
        identity: description.identity,
        columns: columns.collect(),
        key: Vec::new(),
        unique: Vec::new(),
    })
}

/// A description as the decoder would ask about it.
pub fn described(oid: u32, name: &str, columns: &[&str]) -> RelationDescription {
    let columns = columns.iter().enumerate().map(|(index, &name)| ColumnDescription {
        name: name.into(),
        type_oid: oid::TEXT,
        type_modifier: -1,
        in_identity: index == 0,
    });
    RelationDescription {
        oid,
        version: 1,
        schema: "public".into(),
        name: name.into(),
        identity: ReplicaIdentity::Default,
        columns: columns.collect(),
        differences: Vec::new(),
    }
}

/// A decoder that has been told of the table 7.
pub fn knowing(options: Options, columns: &[(&str, u32)]) -> Decoder {
    let mut decoder = Decoder::new(options);
    let first =
        [begin(1, 0, 1), typed_relation(7, "t", b'd', columns), truncate(&[7], 0), commit(1, 2, 0)];
    let first: Vec<u8> = first.iter().flat_map(|message| xlog_data(1, message)).collect();
    let Ok(Step::Describe(description)) = decoder.decode(first.into()) else {
        panic!("no description was asked for")
    };
    decoder.learn(complete(&description));
    decoder.resume().unwrap();
    decoder
}

/// So many rows of the table 7, in ten transactions.
pub fn rows(rows: u64, values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for transaction in 1..=10_u64 {
        let lsn = transaction * 0x1_0000;
        out.extend(xlog_data(lsn, &begin(lsn, 0, 1)));
        for change in 0..rows / 10 {
            out.extend(xlog_data(lsn - 0x1000 + change, &insert(7, values)));
        }
        out.extend(xlog_data(lsn + 8, &commit(lsn, lsn + 8, 0)));
    }
    out
}
