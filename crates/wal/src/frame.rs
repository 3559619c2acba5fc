//! What carries the messages: CopyData of the replication connection, WAL data and keepalives in it.
//!
//! Layout (PostgreSQL, "Message Formats" and "Streaming Replication Protocol"): `d`, Int32 length
//! that counts itself, then either `w` (Int64 start, Int64 end of WAL, Int64 clock, one plug-in
//! message) or `k` (Int64 end of WAL, Int64 clock, Byte1 reply requested).

use crate::Lsn;
use bytes::{BufMut, BytesMut};
use std::ops::Range;

/// Longest message that is accepted, by its length field: PostgreSQL's own limit (`MaxAllocSize`).
pub const MESSAGE_BYTES_MAX: u32 = 0x3FFF_FFFF;

/// Tag and length field.
const HEADER_BYTES: usize = 5;
/// Byte1 kind and three Int64.
const XLOG_DATA_BYTES: usize = 25;
/// Byte1 kind, two Int64 and Byte1.
const KEEPALIVE_BYTES: usize = 18;

/// The bytes are no replication stream. The connection cannot be used further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("backend message {tag:#04x} names a length of {length} bytes, below the least of 4")]
    LengthTooSmall { tag: u8, length: u32 },
    #[error(
        "backend message {tag:#04x} names a length of {length} bytes, above the limit of {} bytes",
        MESSAGE_BYTES_MAX
    )]
    LengthTooLarge { tag: u8, length: u32 },
    #[error("backend message {tag:#04x} where only CopyData is expected")]
    NotCopyData { tag: u8 },
    #[error("CopyData is cut off after {bytes} bytes")]
    Cut { bytes: usize },
    #[error("CopyData of unknown kind {kind:#04x}")]
    UnknownKind { kind: u8 },
    #[error("CopyData of kind {kind:#04x} has {bytes} bytes, expected {expected}")]
    WrongSize { kind: u8, bytes: usize, expected: usize },
    #[error("CopyData is empty")]
    Empty,
}

/// What one CopyData message says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// One message of the output plug-in.
    XLogData {
        /// Place of the message in the WAL: of the change itself, for a commit its end.
        start: Lsn,
        /// End of WAL as the server names it here; logical walsenders repeat `start`.
        server_end: Lsn,
        /// The server's clock: microseconds since 2000-01-01 00:00 UTC.
        clock: i64,
        /// Where the plug-in message lies in the buffer.
        payload: Range<usize>,
    },
    /// Nothing new, up to a position.
    Keepalive {
        /// Up to here the server has decoded; all that committed before was sent.
        server_end: Lsn,
        /// The server's clock: microseconds since 2000-01-01 00:00 UTC.
        clock: i64,
        /// The server wants a status update now, or it ends the connection (`wal_sender_timeout`).
        reply: bool,
    },
}

/// Iterator over a buffer of whole CopyData messages. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Frames<'a> {
    /// From the start of the buffer.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::resume(bytes, 0)
    }

    /// From an [`Self::offset`] taken before over the same buffer.
    #[must_use]
    pub fn resume(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    /// Where the next message begins.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn frame(&mut self) -> Result<Frame, Error> {
        let rest = &self.bytes[self.offset..];
        let cut = Error::Cut { bytes: rest.len() };
        let head = Head::read(rest)?.ok_or(cut)?;
        if head.tag != b'd' {
            return Err(Error::NotCopyData { tag: head.tag });
        }
        let body = rest.get(HEADER_BYTES..head.total).ok_or(cut)?;
        let body_start = self.offset + HEADER_BYTES;
        self.offset += head.total;
        match Copied::read(body)? {
            Copied::XLogData { start, server_end, clock } => Ok(Frame::XLogData {
                start,
                server_end,
                clock,
                payload: body_start + XLOG_DATA_BYTES..self.offset,
            }),
            Copied::Keepalive { server_end, clock, reply } => {
                Ok(Frame::Keepalive { server_end, clock, reply })
            }
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Frame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.len() <= self.offset {
            return None;
        }
        let frame = self.frame();
        if frame.is_err() {
            self.offset = self.bytes.len();
        }
        Some(frame)
    }
}

/// The longest start of a buffer of whole CopyData messages with at most so many bytes and rows, but
/// one message at least: its bytes, and the rows in it (inserted, updated, deleted). The rest of a buffer
/// that is none counts to the first part: whoever decodes it will say so.
#[must_use]
pub fn part(buffer: &[u8], rows_max: u64, bytes_max: u64) -> (usize, u64) {
    let (mut frames, mut end, mut rows) = (Frames::new(buffer), 0, 0);
    while let Some(frame) = frames.next() {
        let is_row = match frame {
            Ok(Frame::XLogData { payload, .. }) => {
                matches!(buffer.get(payload.start), Some(b'I' | b'U' | b'D'))
            }
            Ok(Frame::Keepalive { .. }) => false,
            Err(_) => return (buffer.len(), rows),
        };
        let next = frames.offset();
        if end != 0 && (rows_max < rows + u64::from(is_row) || bytes_max < next as u64) {
            break;
        }
        (end, rows) = (next, rows + u64::from(is_row));
    }
    (end, rows)
}

/// Appends one message of the output plug-in, which is given in parts, as the server would send it. A message that
/// came from the server and grew by nothing is never too long for the length field.
pub fn append_xlog_data(
    out: &mut BytesMut,
    start: Lsn,
    server_end: Lsn,
    clock: i64,
    message: &[&[u8]],
) {
    let bytes: usize = message.iter().map(|part| part.len()).sum();
    let length = u32::try_from(HEADER_BYTES - 1 + XLOG_DATA_BYTES + bytes).unwrap_or(u32::MAX);
    out.reserve(HEADER_BYTES + XLOG_DATA_BYTES + bytes);
    out.put_u8(b'd');
    out.put_u32(length);
    out.put_u8(b'w');
    out.put_u64(start.0);
    out.put_u64(server_end.0);
    out.put_i64(clock);
    for part in message {
        out.put_slice(part);
    }
}

/// What a receive buffer holds, as [`scan`] found it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scan {
    /// So many bytes at the start are whole CopyData messages.
    pub complete: usize,
    /// Highest end of WAL among them.
    pub server_end: Option<Lsn>,
    /// A keepalive among them asks for a status update.
    pub reply_requested: bool,
    /// The first other message, when it is whole: it begins at `complete`. Nothing behind it was
    /// looked at.
    pub other: Option<Other>,
    /// At least so many bytes are missing to the message after `complete`; 0 when none has begun
    /// or `other` is set.
    pub missing: usize,
}

/// A message that is no CopyData, in the middle of the stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Other {
    pub kind: OtherKind,
    /// Its body (without tag and length) in the buffer.
    pub body: Range<usize>,
}

/// Backend messages that may come between CopyData.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OtherKind {
    /// `E`.
    ErrorResponse,
    /// `N`.
    NoticeResponse,
    /// `S`.
    ParameterStatus,
    /// `c`.
    CopyDone,
    /// `C`.
    CommandComplete,
    /// `Z`.
    ReadyForQuery,
    /// Any other tag.
    Unknown(u8),
}

impl Other {
    /// Number of bytes to drop from the front of the buffer, once `complete` was taken, to be
    /// behind this message.
    #[must_use]
    pub fn total(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }
}

/// Looks through a growing receive buffer for whole messages, in one pass that touches a few bytes
/// per message. Take [`Scan::complete`] bytes off the front before the next call: then every
/// message is seen once.
///
/// # Errors
/// When the bytes are no replication stream. A message that is not whole yet is no error.
pub fn scan(buffer: &[u8]) -> Result<Scan, Error> {
    let mut found = Scan::default();
    loop {
        let rest = &buffer[found.complete..];
        let Some(head) = Head::read(rest)? else {
            found.missing = if rest.is_empty() { 0 } else { HEADER_BYTES - rest.len() };
            return Ok(found);
        };
        let Some(body) = rest.get(HEADER_BYTES..head.total) else {
            found.missing = head.total - rest.len();
            return Ok(found);
        };
        if head.tag != b'd' {
            let body = found.complete + HEADER_BYTES..found.complete + head.total;
            found.other = Some(Other { kind: OtherKind::of(head.tag), body });
            return Ok(found);
        }
        let server_end = match Copied::read(body)? {
            Copied::XLogData { server_end, .. } => server_end,
            Copied::Keepalive { server_end, reply, .. } => {
                found.reply_requested |= reply;
                server_end
            }
        };
        found.server_end = found.server_end.max(Some(server_end));
        found.complete += head.total;
    }
}

impl OtherKind {
    fn of(tag: u8) -> Self {
        match tag {
            b'E' => Self::ErrorResponse,
            b'N' => Self::NoticeResponse,
            b'S' => Self::ParameterStatus,
            b'c' => Self::CopyDone,
            b'C' => Self::CommandComplete,
            b'Z' => Self::ReadyForQuery,
            tag => Self::Unknown(tag),
        }
    }
}

/// Tag and size of a backend message.
struct Head {
    tag: u8,
    /// With tag and length field.
    total: usize,
}

impl Head {
    /// `None`: the bytes end before the length field does.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length < 4 {
            return Err(Error::LengthTooSmall { tag, length });
        }
        if MESSAGE_BYTES_MAX < length {
            return Err(Error::LengthTooLarge { tag, length });
        }
        Ok(Some(Self { tag, total: 1 + length as usize }))
    }
}

/// The fixed part of a CopyData message.
enum Copied {
    XLogData { start: Lsn, server_end: Lsn, clock: i64 },
    Keepalive { server_end: Lsn, clock: i64, reply: bool },
}

impl Copied {
    fn read(body: &[u8]) -> Result<Self, Error> {
        let (&kind, _) = body.split_first().ok_or(Error::Empty)?;
        let wrong = |expected| Error::WrongSize { kind, bytes: body.len(), expected };
        match kind {
            b'w' => {
                let fixed = body.first_chunk::<XLOG_DATA_BYTES>();
                let fixed = fixed.ok_or(wrong(XLOG_DATA_BYTES))?;
                Ok(Self::XLogData {
                    start: Lsn(int64(&fixed[1..])),
                    server_end: Lsn(int64(&fixed[9..])),
                    clock: int64(&fixed[17..]).cast_signed(),
                })
            }
            b'k' => {
                let fixed: &[u8; KEEPALIVE_BYTES] =
                    body.try_into().map_err(|_| wrong(KEEPALIVE_BYTES))?;
                Ok(Self::Keepalive {
                    server_end: Lsn(int64(&fixed[1..])),
                    clock: int64(&fixed[9..]).cast_signed(),
                    reply: fixed[17] != 0,
                })
            }
            kind => Err(Error::UnknownKind { kind }),
        }
    }
}

/// The first eight bytes; the callers above have checked that they exist.
fn int64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk))
}
