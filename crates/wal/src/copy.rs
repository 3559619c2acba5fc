//! Rows of `COPY … TO STDOUT` → TupleData, so that snapshot rows take the path of the stream.
//!
//! Source: PostgreSQL, "COPY", Text Format: tabs between values, `\N` for null, backslash escapes.

use crate::change::{Operation, Span, Transaction};
use crate::{Change, ChangeBatch, Lsn, Table};
use bytes::{BufMut, BytesMut};
use std::sync::Arc;

/// The line is no row in the text format of COPY, as the server writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CopyError {
    #[error("COPY line has {found} columns instead of {expected}; the table must be read again")]
    ColumnCount { found: usize, expected: u16 },
    #[error("unknown escape at byte {at} of the COPY line; COPY must run in its text format")]
    Escape { at: usize },
    #[error("line break at byte {at} inside the COPY line; hand over one line at a time")]
    LineBreak { at: usize },
    #[error("rows above {} bytes in one batch; hand it on before the next row", u32::MAX)]
    TooLarge,
}

/// Appends the row as TupleData with values of kind text.
///
/// `line` may end with its line feed. The output grows by no more than the line and five bytes per
/// column.
///
/// # Errors
/// When the line is not what COPY writes for so many columns. `out` is unchanged then.
pub fn append_tuple(line: &[u8], columns: u16, out: &mut BytesMut) -> Result<Span, CopyError> {
    let start = out.len();
    let end = append(line.strip_suffix(b"\n").unwrap_or(line), columns, out)
        .and_then(|()| u32::try_from(out.len()).map_err(|_| CopyError::TooLarge));
    match (u32::try_from(start), end) {
        (Ok(start), Ok(end)) => Ok(Span { start, end }),
        (_, Err(error)) => {
            out.truncate(start);
            Err(error)
        }
        (Err(_), Ok(_)) => {
            out.truncate(start);
            Err(CopyError::TooLarge)
        }
    }
}

fn append(line: &[u8], columns: u16, out: &mut BytesMut) -> Result<(), CopyError> {
    out.reserve(2 + line.len());
    out.put_u16(columns);
    if columns == 0 {
        // A table without columns: an empty line for each row.
        let wrong = CopyError::ColumnCount { found: 1, expected: 0 };
        return line.is_empty().then_some(()).ok_or(wrong);
    }
    let mut value = Value::begin(out);
    let mut values: usize = 1;
    // Up to here the line was taken.
    let mut taken = 0;
    for at in memchr::memchr3_iter(b'\t', b'\\', b'\n', line) {
        if at < taken {
            // The second byte of an escape: a backslash.
            continue;
        }
        out.put_slice(&line[taken..at]);
        match line[at] {
            b'\t' => {
                value.end(out);
                value = Value::begin(out);
                values += 1;
                taken = at + 1;
            }
            b'\\' => {
                let escaped = line.get(at + 1).copied();
                match escaped.and_then(unescape) {
                    Some(byte) => out.put_u8(byte),
                    None if escaped == Some(b'N') && is_whole(line, at) => value.null(out),
                    None => return Err(CopyError::Escape { at }),
                }
                taken = at + 2;
            }
            _ => return Err(CopyError::LineBreak { at }),
        }
    }
    out.put_slice(&line[taken..]);
    value.end(out);
    let wrong = CopyError::ColumnCount { found: values, expected: columns };
    (values == usize::from(columns)).then_some(()).ok_or(wrong)
}

/// `\N` means null only where it is the whole value.
fn is_whole(line: &[u8], at: usize) -> bool {
    let begins = at.checked_sub(1).is_none_or(|before| line[before] == b'\t');
    begins && line.get(at + 2).is_none_or(|&after| after == b'\t')
}

/// What the server escapes. Octal and hexadecimal escapes are read by COPY but never written.
fn unescape(escaped: u8) -> Option<u8> {
    match escaped {
        b'\\' => Some(b'\\'),
        b'b' => Some(0x08),
        b'f' => Some(0x0C),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(0x0B),
        _ => None,
    }
}

/// A value whose length is not known yet.
struct Value {
    /// Where its kind stands in the output.
    start: usize,
    is_null: bool,
}

impl Value {
    fn begin(out: &mut BytesMut) -> Self {
        let start = out.len();
        out.put_slice(b"t\0\0\0\0");
        Self { start, is_null: false }
    }

    fn null(&mut self, out: &mut BytesMut) {
        out.truncate(self.start);
        out.put_u8(b'n');
        self.is_null = true;
    }

    fn end(&self, out: &mut BytesMut) {
        let data = self.start + 5;
        if !self.is_null {
            // A value that passes u32 makes the batch too large, which `append_tuple` refuses.
            let length = u32::try_from(out.len() - data).unwrap_or(u32::MAX);
            out[self.start + 1..data].copy_from_slice(&length.to_be_bytes());
        }
    }
}

/// Rows of one table read by a snapshot, collected into batches.
#[derive(Debug)]
pub struct SnapshotBatch {
    table: Arc<Table>,
    snapshot: Option<Arc<str>>,
    transaction: Transaction,
    ordinal_next: u64,
    bytes: BytesMut,
    changes: Vec<Change>,
}

impl SnapshotBatch {
    /// An empty batch. `lsn`: the snapshot's; `time`: microseconds since 2000-01-01 00:00 UTC;
    /// `ordinal`: of the first row, the number of rows of the snapshot that were read before.
    #[must_use]
    pub fn new(table: Arc<Table>, lsn: Lsn, time: i64, ordinal: u64) -> Self {
        let transaction = Transaction {
            xid: 0,
            commit_lsn: lsn,
            previous_commit_lsn: None,
            commit_time: time,
            changes_count: None,
        };
        let (bytes, changes) = (BytesMut::new(), Vec::new());
        Self { table, snapshot: None, transaction, ordinal_next: ordinal, bytes, changes }
    }

    /// Names the snapshot that the rows are part of ([`ChangeBatch::snapshot`]).
    #[must_use]
    pub fn named(self, snapshot: Arc<str>) -> Self {
        Self { snapshot: Some(snapshot), ..self }
    }

    /// Adds one line of COPY.
    ///
    /// # Errors
    /// As [`append_tuple`], for as many columns as the table has. The batch is unchanged then.
    pub fn push(&mut self, line: &[u8]) -> Result<(), CopyError> {
        let columns = self.table.columns.len();
        let columns = u16::try_from(columns)
            .map_err(|_| CopyError::ColumnCount { found: columns, expected: u16::MAX })?;
        let new = Some(append_tuple(line, columns, &mut self.bytes)?);
        self.changes.push(Change {
            transaction: 0,
            table: 0,
            ordinal: self.ordinal_next,
            lsn: self.transaction.commit_lsn,
            operation: Operation::Read,
            old: None,
            new,
        });
        self.ordinal_next += 1;
        Ok(())
    }

    /// Bytes collected since the last [`Self::take`].
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Ordinal of the next row.
    #[must_use]
    pub fn ordinal_next(&self) -> u64 {
        self.ordinal_next
    }

    /// Hands on what was collected; collecting goes on, with the next ordinal.
    pub fn take(&mut self) -> ChangeBatch {
        let changes = std::mem::take(&mut self.changes);
        self.changes.reserve(changes.len());
        ChangeBatch {
            bytes: self.bytes.split().freeze(),
            changes,
            transactions: vec![self.transaction],
            tables: vec![self.table.clone()],
            ends_transaction: true,
            snapshot: self.snapshot.clone(),
            ..ChangeBatch::default()
        }
    }
}
