//! What tells the rows of a table apart, and what a change says of them.
//!
//! Keys are compared by the bytes of their text form. Values that the server holds for equal can differ in
//! them (`1.0` and `1.00`, texts under a nondeterministic collation), but a row's own bytes change only by a
//! change of its key, which the stream tells with both.

use wal::change::Old;
use wal::table::ReplicaIdentity;
use wal::{Change, ChangeBatch, Datum, Operation, Table, Tuple};

/// The key of a row: lengths and bytes of its values.
pub type RowKey = Box<[u8]>;

/// What a change says of the rows of its table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Touch {
    /// The row has another state now, and the stream has told the whole of it.
    Row(RowKey),
    /// The row has another state now, and values that did not change were not told.
    Part(RowKey),
    /// No row that was there is left.
    Table,
    /// A row has another state, and which one cannot be told: the chunk must be read again.
    Unknown,
}

/// Indexes of the columns by which rows are told apart, in key order. `None`: the stream does not tell old
/// rows well enough, the table must be read whole before the stream.
#[must_use]
pub fn key_columns(table: &Table) -> Option<&[usize]> {
    let is_told = match table.identity {
        ReplicaIdentity::Nothing => false,
        ReplicaIdentity::Full => true,
        ReplicaIdentity::Default | ReplicaIdentity::Index => {
            table.key.iter().all(|&it| table.columns.get(it).is_some_and(|it| it.in_identity))
        }
    };
    (is_told && !table.key.is_empty()).then_some(&table.key)
}

/// Names of the columns of [`key_columns`].
#[must_use]
pub fn key_names(table: &Table) -> Option<Vec<Box<str>>> {
    let columns = key_columns(table)?;
    Some(columns.iter().map(|&it| table.columns[it].name.clone()).collect())
}

/// What the change says of rows that are told apart by the columns named `key`.
pub fn touches(
    batch: &ChangeBatch,
    change: &Change,
    key: &[Box<str>],
    note: &mut dyn FnMut(Touch),
) {
    let table = batch.table(change);
    let place = |name: &str| table.columns.iter().position(|it| &*it.name == name);
    let Some(columns) = key.iter().map(|it| place(it)).collect::<Option<Vec<usize>>>() else {
        return note(Touch::Unknown);
    };
    let old = change.old.map(|old| batch.tuple(old.span()));
    let new = change.new.map(|new| batch.tuple(new));
    match change.operation {
        Operation::Truncate => note(Touch::Table),
        Operation::Insert | Operation::Read => {
            note(
                new.and_then(|new| row_key(new, None, &columns)).map_or(Touch::Unknown, Touch::Row),
            );
        }
        Operation::Delete => {
            note(
                old.and_then(|old| row_key(old, None, &columns)).map_or(Touch::Unknown, Touch::Row),
            );
        }
        Operation::Update => {
            if let Some(old) = old {
                note(row_key(old, None, &columns).map_or(Touch::Unknown, Touch::Row));
            }
            let is_whole = matches!(change.old, Some(Old::Row(_)))
                || new.is_some_and(|new| new.iter().all(|it| it != Datum::Unchanged));
            let key = new.and_then(|new| row_key(new, old, &columns));
            note(match key {
                None => Touch::Unknown,
                Some(key) if is_whole => Touch::Row(key),
                Some(key) => Touch::Part(key),
            });
        }
    }
}

/// The key of a row; a value that was not sent because it did not change is that of `old`. `None`: a value is
/// missing, or not in its text form.
#[must_use]
pub fn row_key(row: Tuple<'_>, old: Option<Tuple<'_>>, columns: &[usize]) -> Option<RowKey> {
    let mut key = Vec::with_capacity(16 * columns.len());
    for &column in columns {
        let value = match row.iter().nth(column)? {
            Datum::Unchanged => old?.iter().nth(column)?,
            sent @ (Datum::Null | Datum::Text(_) | Datum::Binary(_)) => sent,
        };
        match value {
            Datum::Text(text) => {
                key.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
                key.extend_from_slice(text);
            }
            // In an old key tuple null means "not part of the key" (design.md, server fact 6).
            Datum::Null | Datum::Unchanged | Datum::Binary(_) => return None,
        }
    }
    Some(key.into())
}

/// The values of a key of a row, as the server reads them back. `None`: as [`row_key`], or not UTF-8.
#[must_use]
pub fn key_text(row: Tuple<'_>, columns: &[usize]) -> Option<Vec<Box<str>>> {
    let value = |&column: &usize| match row.iter().nth(column)? {
        Datum::Text(text) => std::str::from_utf8(text).ok().map(Into::into),
        Datum::Null | Datum::Unchanged | Datum::Binary(_) => None,
    };
    columns.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};
    use std::sync::Arc;
    use wal::Lsn;
    use wal::change::{Span, Transaction};
    use wal::table::Column;
    use wal::types::Type;

    fn table(identity: ReplicaIdentity, in_identity: bool, key: &[usize]) -> Table {
        let column = |name: &str| Column {
            name: name.into(),
            type_: Arc::new(Type::unknown(25)),
            type_modifier: -1,
            not_null: true,
            default: None,
            in_identity,
        };
        Table {
            oid: 1,
            version: 1,
            schema: "public".into(),
            name: "t".into(),
            identity,
            columns: ["a", "v", "b"].map(column).into(),
            key: key.into(),
            unique: Vec::new(),
        }
    }

    #[test]
    fn rows_are_told_apart_where_the_stream_tells_their_old_keys() {
        use ReplicaIdentity::{Default, Full, Index, Nothing};
        let told = |identity, in_identity, key: &[usize]| {
            key_names(&table(identity, in_identity, key)).map(|names| names.concat())
        };
        assert_eq!(told(Default, true, &[2, 0]).as_deref(), Some("ba"), "in the order of the key");
        assert_eq!(told(Full, true, &[0]).as_deref(), Some("a"));
        assert_eq!(told(Index, true, &[0]).as_deref(), Some("a"));
        assert_eq!(told(Default, false, &[0]), None, "a deferrable primary key");
        assert_eq!(told(Nothing, true, &[0]), None);
        assert_eq!(told(Full, true, &[]), None);
    }

    /// `-`: null; `?`: unchanged.
    fn put(bytes: &mut BytesMut, values: &str) -> Span {
        let start = u32::try_from(bytes.len()).expect("short");
        bytes.put_u16(u16::try_from(values.split(' ').count()).expect("few"));
        for value in values.split(' ') {
            match value {
                "-" => bytes.put_u8(b'n'),
                "?" => bytes.put_u8(b'u'),
                text => {
                    bytes.put_u8(b't');
                    bytes.put_u32(u32::try_from(text.len()).expect("short"));
                    bytes.put_slice(text.as_bytes());
                }
            }
        }
        Span { start, end: u32::try_from(bytes.len()).expect("short") }
    }

    #[track_caller]
    fn check(
        operation: Operation,
        old: Option<(bool, &str)>,
        new: Option<&str>,
        expected: &[&str],
    ) {
        let mut bytes = BytesMut::new();
        let old = old.map(|(row, values)| {
            let span = put(&mut bytes, values);
            if row { Old::Row(span) } else { Old::Key(span) }
        });
        let new = new.map(|values| put(&mut bytes, values));
        let change =
            Change { transaction: 0, table: 0, ordinal: 0, lsn: Lsn(1), operation, old, new };
        let transaction = Transaction {
            xid: 1,
            commit_lsn: Lsn(1),
            previous_commit_lsn: None,
            commit_time: 0,
            changes_count: None,
        };
        let batch = ChangeBatch {
            bytes: bytes.freeze(),
            changes: vec![change],
            transactions: vec![transaction],
            tables: vec![Arc::new(table(ReplicaIdentity::Default, true, &[2, 0]))],
            ..ChangeBatch::default()
        };
        let mut found = Vec::new();
        touches(&batch, &change, &["b".into(), "a".into()], &mut |touch| {
            let text = |key: RowKey| String::from_utf8_lossy(&key).replace(['\0', '\u{1}'], "");
            found.push(match touch {
                Touch::Row(key) => text(key),
                Touch::Part(key) => format!("part {}", text(key)),
                Touch::Table => "table".into(),
                Touch::Unknown => "unknown".into(),
            });
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_change_tells_the_rows_that_it_touches() {
        use Operation::{Delete, Insert, Truncate, Update};
        check(Insert, None, Some("1 x 2"), &["21"]);
        check(Delete, Some((false, "1 - 2")), None, &["21"]);
        check(Update, None, Some("1 y 2"), &["21"]);
        check(Update, Some((false, "1 - 2")), Some("1 y 3"), &["21", "31"]);
        check(Truncate, None, None, &["table"]);
    }

    #[test]
    fn a_value_that_was_not_sent_is_missed_unless_the_old_row_has_it() {
        use Operation::Update;
        check(Update, None, Some("1 ? 2"), &["part 21"]);
        check(Update, Some((true, "1 x 2")), Some("1 ? 2"), &["21", "21"]);
        check(Update, Some((false, "1 - 2")), Some("? x 2"), &["21", "part 21"]);
        check(Update, None, Some("? x 2"), &["unknown"]);
        check(Operation::Delete, Some((false, "1 - -")), None, &["unknown"]);
    }

    #[test]
    fn keys_of_several_columns_do_not_run_into_each_other() {
        let mut bytes = BytesMut::new();
        let (one, other) = (put(&mut bytes, "a bc"), put(&mut bytes, "ab c"));
        let key = |it: Span| {
            row_key(Tuple::trusted(&bytes[it.start as usize..it.end as usize]), None, &[0, 1])
        };
        assert_ne!(key(one), key(other));
        assert!(key(one).is_some());
    }
}
