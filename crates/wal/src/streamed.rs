//! Transactions that are sent while they are in progress (pgoutput's option `streaming`, PostgreSQL 14) → ordinary
//! ones, as if the server had sent each whole after its commit.
//!
//! A pure state machine that stores nothing: [`Streamed::take`] says what is to be written to which transaction's
//! spool, where a spool is to be cut, and when it is to be replayed. What is behind it cannot tell the difference.
//!
//! Source: PostgreSQL, "Logical Streaming Replication Protocol" and "Logical Replication Message Formats". Between
//! StreamStart and StreamStop every change names the subtransaction that made it.

use crate::Lsn;
use crate::frame::{self, Frame, Frames, append_xlog_data};
use crate::message::{self, Context, Message, Protocol, StreamAbort, StreamCommit, StreamStart};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::ops::Range;

/// `proto_version` that has `streaming`.
pub const PROTOCOL: Protocol = Protocol::V2;

/// Subtransactions and descriptions of relations that are remembered in all transactions in progress together. Each
/// takes some 60 bytes here, and several hundred on the server.
pub const NOTES_MAX: usize = 1 << 21;

/// What is to be done with a part of the stream, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Whole CopyData messages to be handed on.
    Pass(Bytes),
    /// Whole CopyData messages that belong at this place of a transaction's spool, which is its end.
    Write { xid: u32, at: u64, bytes: Bytes },
    /// A subtransaction was rolled back: the spool is so many bytes long now.
    Cut { xid: u32, to: u64 },
    /// The transaction was rolled back: its spool is of no more use.
    Drop { xid: u32 },
    /// The transaction has committed: `begin`, its spool and `end` are to be handed on, before anything that follows.
    Replay(Replay),
}

/// A transaction that has committed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replay {
    pub xid: u32,
    /// Begin, in CopyData.
    pub begin: Bytes,
    /// Length of the spool.
    pub bytes: u64,
    /// Commit, in CopyData, after descriptions that hold again.
    pub end: Bytes,
}

/// The stream cannot be followed further.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("replication stream is damaged: {0}; the connection must be opened again")]
    Frame(#[from] frame::Error),
    #[error(
        "plug-in message at {lsn} cannot be read: {error}; the connection must be opened again"
    )]
    Message { lsn: Lsn, error: message::Error },
    #[error(
        "{what} at {lsn} out of place among transactions in progress; the stream must be started again from the \
         confirmed position"
    )]
    OutOfPlace { lsn: Lsn, what: &'static str },
    #[error(
        "transactions in progress need more than the {bytes_max} bytes of `source.spool_bytes_max`; nothing is lost: \
         set it higher, or `source.streaming: off`, which leaves them to the server until they commit"
    )]
    TooLarge { bytes_max: u64 },
    #[error(
        "transactions in progress have more than {NOTES_MAX} subtransactions (savepoints, blocks with EXCEPTION) and \
         descriptions of tables; nothing is lost: set `source.streaming: off`, which leaves them to the server until \
         they commit"
    )]
    TooManyNotes,
}

/// The state between two buffers of one stream.
#[derive(Debug)]
pub struct Streamed {
    bytes_max: u64,
    in_progress: HashMap<u32, InProgress>,
    /// In all spools.
    bytes: u64,
    /// Between StreamStart and StreamStop: of which transaction.
    stream: Option<u32>,
    /// Between Begin and Commit of a transaction that is sent whole.
    is_inside: bool,
    /// The newest description of each relation that was handed on while something was in progress.
    described: HashMap<u32, Description>,
    /// Descriptions so far.
    arrivals: u64,
}

/// A transaction in progress.
#[derive(Debug, Default)]
struct InProgress {
    first_lsn: Lsn,
    /// Length of its spool.
    bytes: u64,
    /// Whose the last message was, so that most are looked up nowhere.
    recent: u32,
    /// Its subtransactions, by where their first message stands in the spool.
    starts: Vec<(u64, u32)>,
    start_of: HashMap<u32, u64>,
    /// Relations, by where they are described in the spool.
    described: Vec<(u64, u32, Description)>,
}

/// A Relation message.
#[derive(Clone, Debug)]
struct Description {
    /// Its number in the stream: the server takes the newest for known, whatever transaction it came in.
    arrival: u64,
    message: Bytes,
}

/// Where a message stands.
#[derive(Clone, Copy)]
struct Head {
    start: Lsn,
    server_end: Lsn,
    clock: i64,
}

/// A buffer in hand.
struct Work<'a> {
    bytes: &'a Bytes,
    steps: Vec<Step>,
    /// Parts of it to be handed on together.
    passed: Vec<Range<usize>>,
    /// What the open stream brings.
    written: BytesMut,
}

impl Streamed {
    /// At the start of a stream. `bytes_max`: of all spools together.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            in_progress: HashMap::new(),
            bytes: 0,
            stream: None,
            is_inside: false,
            described: HashMap::new(),
            arrivals: 0,
        }
    }

    /// Bytes in the spools of transactions that have not ended.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Transactions in progress that something has come of.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.in_progress.len()
    }

    /// What is to be done with the next buffer of whole CopyData messages.
    ///
    /// # Errors
    /// When the buffer is damaged or a message has no place where it stands; when a limit is passed. The stream must be
    /// started again: the server sends all of what has not committed once more.
    pub fn take(&mut self, bytes: &Bytes) -> Result<Vec<Step>, Error> {
        let mut work =
            Work { bytes, steps: Vec::new(), passed: Vec::new(), written: BytesMut::new() };
        let (mut frames, mut begin) = (Frames::new(bytes), 0);
        while let Some(frame) = frames.next() {
            let range = begin..frames.offset();
            begin = range.end;
            let Frame::XLogData { start, server_end, clock, payload } = frame? else {
                work.pass(range);
                continue;
            };
            let (head, message) = (Head { start, server_end, clock }, &bytes[payload]);
            match self.stream {
                Some(xid) => self.spool(&mut work, xid, head, message)?,
                None => self.follow(&mut work, range, head, message)?,
            }
        }
        if let Some(xid) = self.stream {
            self.write(&mut work, xid)?;
        }
        work.flush();
        Ok(work.steps)
    }

    /// A message outside a stream.
    fn follow(
        &mut self,
        work: &mut Work<'_>,
        range: Range<usize>,
        head: Head,
        message: &[u8],
    ) -> Result<(), Error> {
        let is_inside = match message.first() {
            Some(b'S' | b'c' | b'A') if self.is_inside => {
                let what = "part of a transaction in progress inside another transaction";
                return Err(Error::OutOfPlace { lsn: head.start, what });
            }
            Some(b'S' | b'c' | b'A' | b'E') => return self.control(work, head, message),
            Some(b'R') => {
                self.describe(message);
                self.is_inside
            }
            Some(b'B') => true,
            Some(b'C') => false,
            Some(_) | None => self.is_inside,
        };
        self.is_inside = is_inside;
        work.pass(range);
        Ok(())
    }

    /// What begins, ends or rolls back a transaction in progress.
    fn control(&mut self, work: &mut Work<'_>, head: Head, message: &[u8]) -> Result<(), Error> {
        let lsn = head.start;
        let context = Context { protocol: PROTOCOL, in_stream: false };
        let parsed =
            Message::parse(message, context).map_err(|error| Error::Message { lsn, error })?;
        if let Message::StreamStart(start) = parsed {
            self.start(lsn, start)
        } else if let Message::StreamCommit(commit) = parsed {
            // Behind the transaction id both kinds of Commit are the same.
            self.commit(work, head, commit, message.get(5..).unwrap_or_default())
        } else if let Message::StreamAbort(abort) = parsed {
            self.abort(work, abort);
            Ok(())
        } else {
            Err(Error::OutOfPlace { lsn, what: "end of a piece that did not begin" })
        }
    }

    fn start(&mut self, lsn: Lsn, start: StreamStart) -> Result<(), Error> {
        let StreamStart { xid, first_segment } = start;
        if first_segment == self.in_progress.contains_key(&xid) {
            let what = "first piece of a transaction, or one without it,";
            return Err(Error::OutOfPlace { lsn, what });
        }
        let new = || InProgress { first_lsn: lsn, recent: xid, ..InProgress::default() };
        self.in_progress.entry(xid).or_insert_with(new);
        self.stream = Some(xid);
        Ok(())
    }

    fn commit(
        &mut self,
        work: &mut Work<'_>,
        head: Head,
        commit: StreamCommit,
        rest: &[u8],
    ) -> Result<(), Error> {
        let StreamCommit { xid, commit } = commit;
        let what = "commit of a transaction of which nothing came";
        let ended = self.end(xid).ok_or(Error::OutOfPlace { lsn: head.start, what })?;
        let begin = begin(&ended, xid, head, &commit).freeze();
        let mut end = self.restored(&ended, head);
        append_xlog_data(&mut end, head.start, head.server_end, head.clock, &[b"C", rest]);
        work.flush();
        let replay = Replay { xid, begin, bytes: ended.bytes, end: end.freeze() };
        work.steps.push(Step::Replay(replay));
        self.adopt(&ended);
        Ok(())
    }

    /// A message inside a stream of the transaction `xid`.
    fn spool(
        &mut self,
        work: &mut Work<'_>,
        xid: u32,
        head: Head,
        message: &[u8],
    ) -> Result<(), Error> {
        let lsn = head.start;
        let (tag, made_by, rest) = match message {
            [b'E'] => {
                self.write(work, xid)?;
                self.stream = None;
                return Ok(());
            }
            // It has no transaction id, and where a change was made first matters to nobody.
            [b'O', ..] => return Ok(()),
            [tag @ (b'I' | b'U' | b'D' | b'T' | b'R' | b'Y' | b'M'), a, b, c, d, rest @ ..] => {
                (tag, u32::from_be_bytes([*a, *b, *c, *d]), rest)
            }
            _ => {
                let what = "message that is no change of a transaction in progress";
                return Err(Error::OutOfPlace { lsn, what });
            }
        };
        let what = "change of a transaction that is not in progress";
        let open = self.in_progress.get_mut(&xid).ok_or(Error::OutOfPlace { lsn, what })?;
        let at = open.bytes + work.written.len() as u64;
        if made_by != open.recent {
            open.recent = made_by;
            open.note(xid, made_by, at);
        }
        if *tag == b'R' {
            self.arrivals += 1;
            open.describe(at, self.arrivals, rest);
        }
        append_xlog_data(
            &mut work.written,
            head.start,
            head.server_end,
            head.clock,
            &[std::slice::from_ref(tag), rest],
        );
        Ok(())
    }

    /// Hands out what the open stream has brought.
    fn write(&mut self, work: &mut Work<'_>, xid: u32) -> Result<(), Error> {
        let bytes = work.written.split().freeze();
        let Some(open) = self.in_progress.get_mut(&xid).filter(|_| !bytes.is_empty()) else {
            return Ok(());
        };
        let at = open.bytes;
        open.bytes += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        if self.bytes_max < self.bytes {
            return Err(Error::TooLarge { bytes_max: self.bytes_max });
        }
        if NOTES_MAX < self.in_progress.values().map(InProgress::notes).sum() {
            return Err(Error::TooManyNotes);
        }
        work.steps.push(Step::Write { xid, at, bytes });
        Ok(())
    }

    /// What `made_by` wrote goes, and all behind it: until a subtransaction ends, only it and those within it write.
    /// Nothing may have come of either.
    fn abort(&mut self, work: &mut Work<'_>, abort: StreamAbort) {
        let StreamAbort { xid, subtransaction: made_by, .. } = abort;
        if xid == made_by {
            if self.end(xid).is_some() {
                work.steps.push(Step::Drop { xid });
            }
            self.forget();
        } else if let Some(open) = self.in_progress.get_mut(&xid)
            && let Some(&to) = open.start_of.get(&made_by)
        {
            self.bytes -= open.bytes - to;
            open.cut(xid, to);
            work.steps.push(Step::Cut { xid, to });
        }
    }

    fn end(&mut self, xid: u32) -> Option<InProgress> {
        let ended = self.in_progress.remove(&xid)?;
        self.bytes -= ended.bytes;
        Some(ended)
    }

    /// A description that is handed on.
    fn describe(&mut self, message: &[u8]) {
        self.arrivals += 1;
        if self.in_progress.is_empty() {
            return;
        }
        if let Some(oid) = oid(&message[1..]) {
            let message = Bytes::copy_from_slice(message);
            self.described.insert(oid, Description { arrival: self.arrivals, message });
        }
    }

    /// The server will not say again what it has said since a transaction was described to us, which is replayed only
    /// now: what it said last is said again behind it.
    fn restored(&self, ended: &InProgress, head: Head) -> BytesMut {
        let mut out = BytesMut::new();
        for (oid, newest) in ended.newest() {
            if let Some(Description { arrival, message }) = self.described.get(&oid)
                && newest.arrival < *arrival
            {
                append_xlog_data(&mut out, head.start, head.server_end, head.clock, &[message]);
            }
        }
        out
    }

    /// What a transaction described has been handed on.
    fn adopt(&mut self, ended: &InProgress) {
        for (oid, newest) in ended.newest() {
            let known = self.described.get(&oid);
            if known.is_none_or(|known| known.arrival < newest.arrival) {
                self.described.insert(oid, newest.clone());
            }
        }
        self.forget();
    }

    /// Descriptions matter only to transactions that were in progress when they came.
    fn forget(&mut self) {
        if self.in_progress.is_empty() {
            self.described.clear();
        }
    }
}

impl InProgress {
    fn notes(&self) -> usize {
        self.starts.len() + self.described.len()
    }

    /// A message of `made_by` comes to stand at `at`.
    fn note(&mut self, xid: u32, made_by: u32, at: u64) {
        if made_by != xid && !self.start_of.contains_key(&made_by) {
            self.start_of.insert(made_by, at);
            self.starts.push((at, made_by));
        }
    }

    fn describe(&mut self, at: u64, arrival: u64, rest: &[u8]) {
        let Some(oid) = oid(rest) else { return };
        // Mostly it says the same again, after a subtransaction was rolled back.
        let same = |it: &&(u64, u32, Description)| it.1 == oid && it.2.message[1..] == *rest;
        let message = match self.described.last().filter(same) {
            Some((_, _, known)) => known.message.clone(),
            None => [b"R", rest].concat().into(),
        };
        self.described.push((at, oid, Description { arrival, message }));
    }

    /// The newest description of each relation.
    fn newest(&self) -> HashMap<u32, &Description> {
        self.described.iter().map(|(_, oid, description)| (*oid, description)).collect()
    }

    fn cut(&mut self, xid: u32, to: u64) {
        self.bytes = to;
        self.recent = xid;
        while let Some((_, cut)) = self.starts.pop_if(|(at, _)| to <= *at) {
            self.start_of.remove(&cut);
        }
        let keeps = self.described.partition_point(|(at, ..)| *at < to);
        self.described.truncate(keeps);
    }
}

impl Work<'_> {
    fn pass(&mut self, range: Range<usize>) {
        match self.passed.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) | None => self.passed.push(range),
        }
    }

    /// Hands out what is to be handed on so far. A part of the buffer would keep all of it in memory, so it is copied.
    fn flush(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        let bytes = match passed.as_slice() {
            [] => return,
            [all] if all.len() == self.bytes.len() => self.bytes.clone(),
            parts => {
                let parts: Vec<_> = parts.iter().map(|part| &self.bytes[part.clone()]).collect();
                parts.concat().into()
            }
        };
        self.steps.push(Step::Pass(bytes));
    }
}

/// Begin, as the server would have sent it after the commit.
fn begin(ended: &InProgress, xid: u32, head: Head, commit: &message::Commit) -> BytesMut {
    let mut out = BytesMut::new();
    append_xlog_data(
        &mut out,
        ended.first_lsn,
        head.server_end,
        head.clock,
        &[
            b"B",
            &commit.commit_lsn.0.to_be_bytes(),
            &commit.commit_time.to_be_bytes(),
            &xid.to_be_bytes(),
        ],
    );
    out
}

fn oid(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
