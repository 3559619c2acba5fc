//! Lines of COPY become the rows that the stream would bring.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail here"
)]

mod encode;

use bytes::{BufMut, BytesMut};
use encode::{Value, captured, complete, text, tuple};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use wal::change::Operation;
use wal::copy::{CopyError, SnapshotBatch, append_tuple};
use wal::message::{Context, Message};
use wal::{Datum, Lsn};

fn rows(line: &[u8], columns: u16) -> Result<Vec<u8>, CopyError> {
    let mut out = BytesMut::from(&b"before"[..]);
    let appended = append_tuple(line, columns, &mut out);
    assert!(out.starts_with(b"before"), "what stood there is kept");
    match appended {
        Ok(span) => {
            assert_eq!((span.start, span.end as usize), (6, out.len()));
            Ok(out[6..].to_vec())
        }
        Err(error) => {
            assert_eq!(out.len(), 6, "a refused line leaves nothing behind");
            Err(error)
        }
    }
}

#[track_caller]
fn check_refused(line: &str, columns: u16, expected: Expect) {
    expected.assert_eq(&rows(line.as_bytes(), columns).unwrap_err().to_string());
}

#[test]
fn values_nulls_and_escapes_are_told_apart() {
    let null = Value::Null;
    assert_eq!(rows(b"1\t\\N\t\n", 3), Ok(tuple(&[text("1"), null.clone(), text("")])));
    assert_eq!(rows(b"\\N", 1), Ok(tuple(&[null])));
    assert_eq!(rows(b"\\\\N\t\\\\\\\\N", 2), Ok(tuple(&[text("\\N"), text("\\\\N")])));
    assert_eq!(rows(b"\\b\\f\\n\\r\\t\\v", 1), Ok(tuple(&[text("\x08\x0c\n\r\t\x0b")])));
    assert_eq!(rows(b"\\\\\t\\\\", 2), Ok(tuple(&[text("\\"), text("\\")])));
    assert_eq!(rows(b"\n", 1), Ok(tuple(&[text("")])));
    assert_eq!(rows(b"\n", 0), Ok(tuple(&[])));
}

#[test]
fn lines_of_another_shape_are_refused() {
    check_refused(
        "1\t2",
        3,
        expect!["COPY line has 2 columns instead of 3; the table must be read again"],
    );
    check_refused(
        "1\t2",
        1,
        expect!["COPY line has 2 columns instead of 1; the table must be read again"],
    );
    check_refused(
        "1",
        0,
        expect!["COPY line has 1 columns instead of 0; the table must be read again"],
    );
    check_refused(
        "1\t\\x41",
        2,
        expect!["unknown escape at byte 2 of the COPY line; COPY must run in its text format"],
    );
    check_refused(
        "\\N1",
        1,
        expect!["unknown escape at byte 0 of the COPY line; COPY must run in its text format"],
    );
    check_refused(
        "1\\N",
        1,
        expect!["unknown escape at byte 1 of the COPY line; COPY must run in its text format"],
    );
    check_refused(
        "1\\",
        1,
        expect!["unknown escape at byte 1 of the COPY line; COPY must run in its text format"],
    );
    check_refused(
        "1\n2\n",
        1,
        expect!["line break at byte 1 inside the COPY line; hand over one line at a time"],
    );
}

#[test]
fn a_real_copy_gives_the_rows_that_the_real_stream_gave() {
    let streamed: Vec<Vec<u8>> = captured(include_str!("../testdata/workload.hex"))
        .iter()
        .filter_map(|(_, bytes)| match Message::parse(bytes, Context::default()).unwrap() {
            Message::Insert(insert) => Some(bytes[bytes.len() - insert.new.encoded_len()..].into()),
            _ => None,
        })
        .collect();
    // The rows of `texts` were inserted last.
    let lines: Vec<_> =
        include_bytes!("../testdata/texts.copy").split_inclusive(|&byte| byte == b'\n').collect();
    let copied: Vec<Vec<u8>> = lines.iter().map(|line| rows(line, 3).unwrap()).collect();
    assert_eq!(copied.len(), 6);
    assert_eq!(copied, streamed[streamed.len() - 6..]);
}

#[test]
fn a_snapshot_counts_its_rows_over_all_batches() {
    let table = complete(&encode::described(7, "t", &["a", "b"]));
    let mut rows = SnapshotBatch::new(table.clone(), Lsn(0x100), 42, 5).named("one".into());
    rows.push(b"1\tx\n").unwrap();
    assert_eq!(
        rows.push(b"1\n"),
        Err(CopyError::ColumnCount { found: 1, expected: 2 }),
        "a bad line counts for nothing"
    );
    rows.push(b"2\t\\N\n").unwrap();
    assert!(!rows.is_empty());
    let first = rows.take();
    assert!(rows.is_empty());
    assert_eq!((rows.bytes_len(), rows.ordinal_next()), (0, 7));
    rows.push(b"3\ty\n").unwrap();
    let second = rows.take();

    for (batch, ordinals) in [(&first, &[5, 6][..]), (&second, &[7])] {
        let found: Vec<_> = batch.changes.iter().map(|change| change.ordinal).collect();
        assert_eq!(found, ordinals);
        assert!(batch.ends_transaction);
        assert_eq!(batch.snapshot.as_deref(), Some("one"));
        assert_eq!(batch.tables, std::slice::from_ref(&table));
        let transaction = batch.transactions[0];
        assert_eq!((transaction.xid, transaction.commit_lsn), (0, Lsn(0x100)));
        assert_eq!(transaction.commit_time, 42);
    }
    let change = first.changes[1];
    assert_eq!((change.operation, change.lsn, change.old), (Operation::Read, Lsn(0x100), None));
    let row: Vec<_> = first.tuple(change.new.unwrap()).iter().collect();
    assert_eq!(row, [Datum::Text(b"2"), Datum::Null]);
    let row: Vec<_> = second.tuple(second.changes[0].new.unwrap()).iter().collect();
    assert_eq!(row, [Datum::Text(b"3"), Datum::Text(b"y")]);
}

/// As `CopyAttributeOutText` of the server does.
fn write(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b'\t');
        }
        let Some(value) = value else {
            out.put_slice(b"\\N");
            continue;
        };
        for &byte in value {
            match byte {
                b'\\' => out.put_slice(b"\\\\"),
                0x08 => out.put_slice(b"\\b"),
                0x0C => out.put_slice(b"\\f"),
                b'\n' => out.put_slice(b"\\n"),
                b'\r' => out.put_slice(b"\\r"),
                b'\t' => out.put_slice(b"\\t"),
                0x0B => out.put_slice(b"\\v"),
                byte => out.push(byte),
            }
        }
    }
    out.push(b'\n');
    out
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b"\\\t\n\r\x08\x0c\x0bNnt.".to_vec()), any::<u8>()]
}

proptest! {
    #[test]
    fn no_input_panics(line in prop::collection::vec(byte(), 0..60), columns in 0..6u16) {
        let _ = rows(&line, columns);
    }

    #[test]
    fn rows_round_trip(
        values in prop::collection::vec(
            prop::option::of(prop::collection::vec(byte(), 0..20)),
            1..6,
        ),
    ) {
        let columns = u16::try_from(values.len()).unwrap();
        let line = write(&values);
        let expected: Vec<_> = values
            .into_iter()
            .map(|value| value.map_or(Value::Null, Value::Text))
            .collect();
        let found = rows(&line, columns).unwrap();
        prop_assert!(found.len() <= line.len() + 2 + 5 * usize::from(columns));
        prop_assert_eq!(found, tuple(&expected));
    }
}
