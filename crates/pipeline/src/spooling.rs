//! Spooling: before the reader, where the server sends transactions while they are in progress.
//!
//! In:    the replication stream.
//! Out:   the same stream with each transaction whole, behind its commit.
//! Holds: a file for each transaction in progress; of one that has committed, a piece at a time.
//! Never: hands on a change before its transaction has committed; keeps a file longer than its stream.
//!
//! Nothing here must outlive a crash: the slot is confirmed no further than to what is durable in Kafka, and the server
//! sends each transaction that commits behind that again, from its first change. So files have no name: whichever way the process
//! ends, they are gone, and nobody else can open them.

use crate::failure::Failure;
use crate::progress::Progress;
use crate::reader::{Answer, OpenStream, Received, WalStream};
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervision::FailureClass;
use tracing::info;
use wal::Lsn;
use wal::frame::scan;
use wal::streamed::{self, Replay, Step, Streamed};

/// What is read of a file at once, and handed on: as much as one read of the connection brings.
const PIECE_BYTES: usize = 256 << 10;

/// Where spools are, and how much they may hold.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Made where it is missing.
    pub folder: PathBuf,
    /// Of all transactions in progress together (`source.spool_bytes_max`).
    pub bytes_max: u64,
}

/// A stream of transactions in progress, opened as one of whole ones.
#[must_use]
pub fn spooled(open: OpenStream, options: SpoolOptions, progress: Arc<Progress>) -> OpenStream {
    Box::new(move || {
        Box::pin(async move {
            let stream = open().await?;
            Ok(Box::new(Spooling::new(stream, options, progress)) as Box<dyn WalStream>)
        })
    })
}

/// The folder of spools outside a cluster, where no node spec names one: `TMPDIR`, else `/var/tmp`, since `/tmp` is
/// often in memory.
#[must_use]
pub fn temporary_folder() -> PathBuf {
    std::env::var_os("TMPDIR")
        .filter(|it| !it.is_empty())
        .map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

struct Spooling {
    stream: Box<dyn WalStream>,
    core: Streamed,
    folder: PathBuf,
    spools: HashMap<u32, File>,
    /// In the order of the stream. Nothing is read before all of it is handed on.
    ready: VecDeque<Ready>,
    server_end: Lsn,
    told: Told,
}

/// What can be handed on.
enum Ready {
    Pass(Bytes),
    Replay(Replaying),
}

impl Spooling {
    fn new(stream: Box<dyn WalStream>, options: SpoolOptions, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            core: Streamed::new(options.bytes_max),
            folder: options.folder,
            spools: HashMap::new(),
            ready: VecDeque::new(),
            server_end: Lsn::ZERO,
            told: Told { progress, bytes: 0, transactions: 0 },
        }
    }

    /// Cancel-safe: what was read is in hand or in its file before anything else is waited for.
    async fn next(&mut self) -> Result<Received, Failure> {
        let mut reply_requested = false;
        let bytes = if let Some(bytes) = self.piece()? {
            bytes
        } else {
            let received = self.stream.read().await?;
            self.server_end = received.server_end;
            reply_requested = received.reply_requested;
            self.take(&received.bytes)?;
            // Nothing, if all of it was spooled: a keepalive among it wants its answer all the same.
            self.piece()?.unwrap_or_default()
        };
        self.tell();
        Ok(Received { bytes, server_end: self.server_end, reply_requested })
    }

    /// Writes go to the page cache, on the reader's own thread: a disk that stands still longer than the server waits
    /// for an answer ends the connection.
    fn take(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        for step in self.core.take(bytes)? {
            match step {
                Step::Pass(bytes) => self.ready.push_back(Ready::Pass(bytes)),
                Step::Write { xid, at, bytes } => {
                    let written = self.write(xid, at, &bytes);
                    written.map_err(|error| unwritten(&self.folder, &error))?;
                }
                Step::Cut { xid, to } => {
                    let cut = self.spools.get(&xid).map_or(Ok(()), |file| file.set_len(to));
                    cut.map_err(|error| unwritten(&self.folder, &error))?;
                }
                Step::Drop { xid } => drop(self.spools.remove(&xid)),
                Step::Replay(replay) => {
                    let Replay { xid, bytes, .. } = replay;
                    info!(xid, bytes, "a transaction that was spooled has committed");
                    let file = self.spools.remove(&xid);
                    self.ready.push_back(Ready::Replay(Replaying::new(file, replay)));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, xid: u32, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = match self.spools.entry(xid) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
                let file = tempfile::tempfile_in(&self.folder)?;
                file.set_permissions(Permissions::from_mode(0o600))?;
                entry.insert(file)
            }
        };
        file.write_all_at(bytes, at)
    }

    /// What is to be handed on next.
    fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(ready) = self.ready.pop_front() {
            match ready {
                Ready::Pass(bytes) => return Ok(Some(bytes)),
                Ready::Replay(mut replaying) => {
                    let piece = replaying.piece().map_err(|error| unread(&self.folder, &error))?;
                    if let Some(bytes) = piece {
                        self.ready.push_front(Ready::Replay(replaying));
                        return Ok(Some(bytes));
                    }
                }
            }
        }
        Ok(None)
    }

    fn tell(&mut self) {
        let left = self.ready.iter().filter_map(|ready| match ready {
            Ready::Pass(_) => None,
            Ready::Replay(replaying) => Some(replaying.left()),
        });
        let (replayed, left) = left.fold((0, 0), |sum, left| (sum.0 + 1, sum.1 + left));
        self.told.say(self.core.bytes() + left, self.core.transactions() as u64 + replayed);
    }
}

impl WalStream for Spooling {
    fn read(&mut self) -> Answer<'_, Received> {
        Box::pin(self.next())
    }

    fn report(&mut self, received: Lsn, confirmed: Lsn, reply: bool) -> Answer<'_, ()> {
        self.stream.report(received, confirmed, reply)
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        self.stream.close()
    }

    fn status_interval(&self) -> Duration {
        self.stream.status_interval()
    }
}

/// A transaction that has committed, on its way.
struct Replaying {
    /// `None`: nothing was written of it.
    file: Option<File>,
    bytes: u64,
    /// So many of them were read.
    at: u64,
    /// Begins with a whole message.
    buffer: BytesMut,
    /// Handed on behind the file.
    end: Option<Bytes>,
}

impl Replaying {
    fn new(file: Option<File>, replay: Replay) -> Self {
        let Replay { begin, bytes, end, .. } = replay;
        Self { file, bytes, at: 0, buffer: BytesMut::from(&begin[..]), end: Some(end) }
    }

    fn left(&self) -> u64 {
        self.bytes - self.at
    }

    /// Whole messages; the first ones with Begin, the last ones with Commit, and then nothing.
    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut missing = 0;
        while self.end.is_some() {
            self.read(missing)?;
            if self.left() == 0 {
                self.buffer.extend(self.end.take());
                return Ok(Some(self.buffer.split().freeze()));
            }
            let found = scan(&self.buffer).map_err(io::Error::other)?;
            if 0 < found.complete {
                let piece = self.buffer.split_to(found.complete).freeze();
                // The rest of a message; the piece keeps the memory that it was read to.
                self.buffer = BytesMut::from(&self.buffer[..]);
                return Ok(Some(piece));
            }
            missing = found.missing;
        }
        Ok(None)
    }

    /// Reads as much as a piece takes, or is missing to the first message.
    fn read(&mut self, missing: usize) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.left() != 0) else { return Ok(()) };
        let has = self.buffer.len();
        let wanted = PIECE_BYTES.saturating_sub(has).max(missing);
        let wanted = usize::try_from(self.left()).map_or(wanted, |left| wanted.min(left));
        self.buffer.resize(has + wanted, 0);
        file.read_exact_at(&mut self.buffer[has..], self.at)?;
        self.at += wanted as u64;
        Ok(())
    }
}

/// What the figures say of this stream. It is taken back with the stream.
struct Told {
    progress: Arc<Progress>,
    bytes: u64,
    transactions: u64,
}

impl Told {
    fn say(&mut self, bytes: u64, transactions: u64) {
        if (bytes, transactions) != (self.bytes, self.transactions) {
            let before = (self.bytes, self.transactions);
            self.progress.spooled(before, (bytes, transactions));
            (self.bytes, self.transactions) = (bytes, transactions);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.say(0, 0);
    }
}

fn unwritten(folder: &Path, error: &io::Error) -> Failure {
    Failure::transient(format!(
        "a transaction in progress cannot be spooled below {}: {error}; nothing is lost: make room there, name another \
         place (`data_dir` of the node, TMPDIR for `run`), or set `source.streaming: off`",
        folder.display()
    ))
}

fn unread(folder: &Path, error: &io::Error) -> Failure {
    Failure::transient(format!(
        "a spooled transaction cannot be read again below {}: {error}; nothing is lost: the stream begins again; if \
         it stays so, look after the disk",
        folder.display()
    ))
}

impl From<streamed::Error> for Failure {
    fn from(error: streamed::Error) -> Self {
        use streamed::Error;
        let class = match &error {
            Error::Frame(_) | Error::Message { .. } | Error::OutOfPlace { .. } => {
                FailureClass::Transient
            }
            // The same transaction comes again.
            Error::TooLarge { .. } | Error::TooManyNotes => FailureClass::Fatal,
        };
        Self { class, cause: error.to_string() }
    }
}

#[cfg(test)]
mod tests;
