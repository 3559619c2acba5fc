//! The running stream: whole messages out of one buffer, status updates back.

use super::pace::Pace;
use crate::Error;
use crate::connection::{Connection, Said};
use crate::error::STREAMING;
use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until};
use tracing::debug;
use wal::Lsn;
use wal::frame::{OtherKind, scan};

/// What one read hands over at most, unless a single message is larger.
const BATCH_BYTES: usize = 256 << 10;
/// With so much in hand no more is waited for.
const GATHER_BYTES: usize = 64 << 10;
/// The longest wait for more, while rows come fast. The runtime's timers add up to 1 ms.
const GATHER_MAX: Duration = Duration::from_millis(2);
/// With less room than that a read is not worth a system call.
const READ_BYTES_MIN: usize = 16 << 10;
/// How long the server may take to end the connection.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Microseconds from 1970 to PostgreSQL's epoch, 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A started stream.
#[derive(Debug)]
pub struct WalStream {
    connection: Connection,
    interval: Duration,
    /// Highest end of WAL that the server named, at least where the stream began.
    server_end: Lsn,
    pace: Pace,
    pending: Pending,
    has_own_thread: bool,
}

/// What of the buffer is looked through and not yet handed over.
#[derive(Debug, Default)]
struct Pending {
    /// So many bytes are whole CopyData messages.
    bytes: usize,
    reply_requested: bool,
    /// Until then more is waited for.
    gather_until: Option<Instant>,
}

/// What came: whole CopyData messages.
#[derive(Clone, Debug)]
pub struct Received {
    pub bytes: Bytes,
    /// Highest end of WAL that the server named so far.
    pub server_end: Lsn,
    /// A keepalive asks for an answer.
    pub reply_requested: bool,
}

impl WalStream {
    pub(super) fn new(connection: Connection, interval: Duration, from: Lsn) -> Self {
        let (pace, pending) = (Pace::default(), Pending::default());
        Self { connection, interval, server_end: from, pace, pending, has_own_thread: false }
    }

    /// Nothing else runs on this thread: while it waits for more it sleeps outside the runtime, where no message wakes it.
    /// Each would cost both sides a change of threads, and the server writes every row on its own.
    #[must_use]
    pub fn on_own_thread(self) -> Self {
        Self { has_own_thread: true, ..self }
    }

    /// Waits for the next messages; takes along what has come with them, and while they come fast what comes
    /// within the next moment: a lone row is handed over at once. Cancel-safe: what was received stays in
    /// the buffer.
    ///
    /// # Errors
    /// When the connection ends, or the server ends the stream.
    pub async fn read(&mut self) -> Result<Received, Error> {
        loop {
            let found = scan(&self.connection.buffer[self.pending.bytes..])?;
            self.pending.bytes += found.complete;
            self.pending.reply_requested |= found.reply_requested;
            self.server_end = self.server_end.max(found.server_end.unwrap_or_default());
            if self.pending.bytes == 0 {
                if let Some(other) = found.other {
                    let message = self.connection.buffer.split_to(other.total());
                    other_message(other.kind, message)?;
                } else {
                    self.make_room(found.missing);
                    let bytes = self.connection.fill().await?;
                    self.pace.came(bytes, Instant::now().into_std());
                }
                continue;
            }
            let is_full = BATCH_BYTES <= self.connection.buffer.len() || found.other.is_some();
            if is_full || !(self.read_what_is_there().await? || self.gather().await) {
                return Ok(self.hand_over());
            }
        }
    }

    /// Waits for more, once for each batch and without looking: each look would cost as much as a batch.
    /// `false`: what is there is to be handed over now.
    async fn gather(&mut self) -> bool {
        let is_enough =
            GATHER_BYTES <= self.connection.buffer.len() || self.pending.reply_requested;
        if is_enough || !self.pace.is_fast() {
            return false;
        }
        let now = Instant::now();
        let until = *self.pending.gather_until.get_or_insert(now + GATHER_MAX);
        if until <= now {
            return false;
        }
        if self.has_own_thread {
            std::thread::sleep(until - now);
        } else {
            sleep_until(until).await;
        }
        true
    }

    fn hand_over(&mut self) -> Received {
        let Pending { bytes, reply_requested, .. } = std::mem::take(&mut self.pending);
        let buffer = &mut self.connection.buffer;
        let bytes = buffer.split_to(bytes).freeze();
        if 2 * BATCH_BYTES < bytes.len() {
            // What is left would keep the memory of a large message, and use it again.
            *buffer = BytesMut::from(&buffer[..]);
        }
        Received { bytes, server_end: self.server_end, reply_requested }
    }

    /// Makes room for a message of which so many bytes are missing, and for more of them.
    fn make_room(&mut self, missing: usize) {
        let buffer = &mut self.connection.buffer;
        if buffer.capacity() - buffer.len() < missing.max(READ_BYTES_MIN) {
            buffer.reserve(missing.max(BATCH_BYTES));
        }
    }

    /// Reads what the kernel has already, without waiting. `true`: something came.
    async fn read_what_is_there(&mut self) -> Result<bool, Error> {
        self.make_room(0);
        let Connection { socket, buffer, .. } = &mut self.connection;
        let mut read = pin!(socket.read_buf(buffer));
        let polled = poll_fn(|cx| match read.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => Poll::Ready(None),
        });
        match polled.await {
            // The end is told when what came before it is taken.
            None | Some(Ok(0)) => Ok(false),
            Some(Ok(bytes)) => {
                self.pace.came(bytes, Instant::now().into_std());
                Ok(true)
            }
            Some(Err(error)) => Err(Error::closed(&error)),
        }
    }

    /// Tells the server what was received and what is durable, and with `reply_requested` asks for a
    /// keepalive. Cancel-safe: an update is sent whole, if not by this call then by the next one.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn report(
        &mut self,
        received: Lsn,
        confirmed: Lsn,
        reply_requested: bool,
    ) -> Result<(), Error> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = i64::try_from(since.as_micros()).unwrap_or(i64::MAX) - EPOCH_US;
        let received = received.min(self.server_end);
        let update = status_update(received, confirmed, clock, reply_requested);
        self.connection.out.extend_from_slice(&update);
        self.connection.flush().await
    }

    /// Ends the stream in good order: afterwards the server has released the slot.
    ///
    /// # Errors
    /// When the connection has ended already.
    pub async fn close(mut self) -> Result<(), Error> {
        frontend::copy_done(&mut self.connection.out);
        frontend::terminate(&mut self.connection.out);
        let ended = async {
            self.connection.flush().await?;
            // Until the end, also what was on its way: the server would not read the farewell else.
            loop {
                self.connection.buffer.clear();
                self.make_room(0);
                match self.connection.socket.read_buf(&mut self.connection.buffer).await {
                    // Without the farewell of TLS it is an error, and an end all the same.
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(CLOSE_MAX, ended).await.unwrap_or_else(|_| {
            debug!("the server does not end the replication connection; left to itself");
            Ok(())
        })
    }

    /// How often the server must hear from us.
    #[must_use]
    pub fn status_interval(&self) -> Duration {
        self.interval
    }
}

/// A message between CopyData.
fn other_message(kind: OtherKind, mut message: BytesMut) -> Result<(), Error> {
    let wrong = |error: std::io::Error| Error::protocol(error.to_string());
    match kind {
        OtherKind::ErrorResponse => match Message::parse(&mut message).map_err(wrong)? {
            Some(Message::ErrorResponse(body)) => Err(Said::read(body.fields())?.error(STREAMING)),
            Some(_) | None => Err(Error::protocol("an error that cannot be read")),
        },
        OtherKind::NoticeResponse => match Message::parse(&mut message).map_err(wrong)? {
            Some(Message::NoticeResponse(body)) => Said::read(body.fields())?.heed(),
            Some(_) | None => Err(Error::protocol("a notice that cannot be read")),
        },
        OtherKind::ParameterStatus => Ok(()),
        OtherKind::CopyDone | OtherKind::CommandComplete | OtherKind::ReadyForQuery => {
            Err(Error::closed("the server ended the stream"))
        }
        OtherKind::Unknown(tag) => {
            Err(Error::protocol(format!("message {tag:#04x} inside the stream")))
        }
    }
}

/// A standby status update in CopyData. Never confirms above what was received: the server would
/// believe it and skip what comes (design.md, server fact 2).
fn status_update(received: Lsn, confirmed: Lsn, clock: i64, reply_requested: bool) -> BytesMut {
    let confirmed = confirmed.min(received);
    let mut update = BytesMut::with_capacity(39);
    update.put_u8(b'd');
    update.put_u32(4 + 34);
    update.put_u8(b'r');
    update.put_u64(received.0);
    update.put_u64(confirmed.0);
    update.put_u64(confirmed.0);
    update.put_i64(clock);
    update.put_u8(u8::from(reply_requested));
    update
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::Transport;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    #[test]
    fn the_bytes_of_a_status_update() {
        let update = status_update(Lsn(0x0102), Lsn(0x0101), 5, true);
        let mut expected = vec![b'd', 0, 0, 0, 38, b'r'];
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 1]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 1]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 5, 1]);
        assert_eq!(update, expected);
    }

    #[test]
    fn nothing_is_confirmed_that_was_not_received() {
        let (beyond, within) =
            (status_update(Lsn(5), Lsn(9), 0, false), status_update(Lsn(5), Lsn(5), 0, false));
        assert_eq!(beyond, within);
    }

    /// A stream from a server that the test plays.
    async fn stream() -> (WalStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let socket = Transport::Plain(client);
        let (buffer, out) = (BytesMut::new(), BytesMut::new());
        let connection = Connection { socket, buffer, out, process_id: 0 };
        (WalStream::new(connection, Duration::ZERO, Lsn::ZERO), server)
    }

    fn row(end: u64, bytes: usize) -> Vec<u8> {
        let mut message = vec![b'd'];
        message.extend(u32::try_from(4 + 25 + bytes).unwrap().to_be_bytes());
        message.push(b'w');
        message.extend([0; 8]);
        message.extend(end.to_be_bytes());
        message.extend([0; 8]);
        message.resize(message.len() + bytes, b'x');
        message
    }

    #[tokio::test]
    async fn a_read_that_is_cancelled_loses_nothing() {
        let (mut stream, mut server) = stream().await;
        let (first, second) = (row(1, 10), row(2, 1000));
        let (head, tail) = second.split_at(500);
        server.write_all(head).await.unwrap();
        // Long enough for what was sent on this machine; were it not, the test would prove less.
        let cancelled = tokio::time::timeout(Duration::from_millis(50), stream.read()).await;
        assert!(cancelled.is_err(), "half a message came out");
        server.write_all(tail).await.unwrap();
        let received = stream.read().await.unwrap();
        assert_eq!((received.bytes.as_ref(), received.server_end), (second.as_slice(), Lsn(2)));
        server.write_all(&first).await.unwrap();
        let received = stream.read().await.unwrap();
        assert_eq!((received.bytes.as_ref(), received.server_end), (first.as_slice(), Lsn(2)));
    }

    /// How long the row of this number is held back, on a clock that only waiting moves.
    async fn held_back(stream: &mut WalStream, server: &mut TcpStream, number: u64) -> Duration {
        server.write_all(&row(number, 1000)).await.unwrap();
        let begun = Instant::now();
        while stream.read().await.unwrap().server_end < Lsn(number) {}
        begun.elapsed()
    }

    #[tokio::test]
    async fn only_what_comes_fast_is_held_back() {
        tokio::time::pause();
        let (mut stream, mut server) = stream().await;
        for number in 1..=15 {
            assert_eq!(held_back(&mut stream, &mut server, number).await, Duration::ZERO);
        }
        for number in 16..=18 {
            held_back(&mut stream, &mut server, number).await;
        }
        assert!(GATHER_MAX <= held_back(&mut stream, &mut server, 19).await);
        tokio::time::advance(Duration::from_millis(50)).await;
        assert_eq!(held_back(&mut stream, &mut server, 20).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn on_its_own_thread_it_sleeps_as_long() {
        let (stream, mut server) = stream().await;
        let mut stream = stream.on_own_thread();
        server.write_all(&[row(1, 1000), row(2, 32 << 10)].concat()).await.unwrap();
        let begun = std::time::Instant::now();
        while stream.read().await.unwrap().server_end < Lsn(2) {}
        assert!(GATHER_MAX <= begun.elapsed());
        stream.pace = Pace::default();
        assert!(!stream.gather().await, "a lone row is not held back");
    }

    #[tokio::test]
    async fn a_request_for_a_reply_is_not_held_back() {
        tokio::time::pause();
        let (mut stream, _server) = stream().await;
        stream.pace.came(1 << 20, Instant::now().into_std());
        stream.pending = Pending { bytes: 1, reply_requested: true, gather_until: None };
        assert!(stream.pace.is_fast() && !stream.gather().await);
        stream.pending.reply_requested = false;
        assert!(stream.gather().await, "waited once");
        assert!(!stream.gather().await, "and not again");
    }

    #[tokio::test]
    async fn a_large_message_leaves_no_large_buffer() {
        const LARGE: usize = 8 << 20;
        let (mut stream, mut server) = stream().await;
        let mut sent = row(1, LARGE);
        let whole = sent.len();
        sent.extend_from_slice(&row(2, 10)[..20]);
        let sending = tokio::spawn(async move {
            server.write_all(&sent).await.unwrap();
            server
        });
        let received = stream.read().await.unwrap();
        assert_eq!(received.bytes.len(), whole);
        drop(received);
        stream.make_room(0);
        assert!(stream.connection.buffer.capacity() <= 2 * BATCH_BYTES);
        drop(sending.await.unwrap());
        assert!(matches!(stream.read().await, Err(Error::Closed { .. })));
    }
}
