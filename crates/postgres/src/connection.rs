//! A raw connection up to "ready for query", and simple queries on it (PostgreSQL, "Message Flow").
//!
//! For replication only: the SQL client knows no CopyBoth, and hands out one message at a time.

mod login;
mod said;

pub(crate) use said::Said;

use crate::Error;
use crate::dial::Transport;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Messages outside the stream are small: a larger one is no PostgreSQL.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Tag of CopyBothResponse, which `postgres-protocol` does not know.
const COPY_BOTH: u8 = b'W';

/// A connection whose messages are read one by one.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Transport,
    /// Received and not yet taken.
    pub(crate) buffer: BytesMut,
    /// Not yet sent. A call that is cancelled leaves the rest of a message here, and the next call
    /// goes on with it.
    pub(crate) out: BytesMut,
    /// The process that the other side says it is. A pooler says a number of its own.
    pub(crate) process_id: i32,
}

/// Rows of a simple query, as texts.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

impl Connection {
    /// The next message that is no notice and no parameter's status.
    async fn message(&mut self) -> Result<Message, Error> {
        loop {
            match Message::parse(&mut self.buffer).map_err(protocol)? {
                Some(Message::NoticeResponse(body)) => Said::read(body.fields())?.log(),
                Some(Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(message),
                None if MESSAGE_BYTES_MAX < self.buffer.len() => {
                    return Err(Error::protocol("a message is too long"));
                }
                None => drop(self.fill().await?),
            }
        }
    }

    /// Reads what has come, waiting for the first byte.
    pub(crate) async fn fill(&mut self) -> Result<usize, Error> {
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Error::closed("the server closed it")),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(Error::closed(&error)),
        }
    }

    /// Sends all that is in `out`. Cancel-safe.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        let sent = async {
            while !self.out.is_empty() {
                self.socket.write_buf(&mut self.out).await?;
            }
            self.socket.flush().await
        };
        sent.await.map_err(|error: io::Error| Error::closed(&error))
    }

    /// A simple query. `doing` says what for.
    pub(crate) async fn query(&mut self, doing: &str, statement: &str) -> Result<Rows, Error> {
        frontend::query(statement, &mut self.out).map_err(protocol)?;
        self.flush().await?;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let message = match (self.message().await, failed.take()) {
                // Who ends the connection has said why before.
                (Err(_), Some(said)) => return Err(Said::error(&said, doing)),
                (message, said) => {
                    failed = said;
                    message?
                }
            };
            if let Message::DataRow(row) = &message {
                let values = row.ranges().map(|range| {
                    let text = |range| String::from_utf8_lossy(&row.buffer()[range]).into();
                    Ok(range.map(text))
                });
                rows.push(values.collect().map_err(protocol)?);
            } else if let Message::ErrorResponse(body) = &message {
                failed = Some(Said::read(body.fields())?);
            } else if let Message::ReadyForQuery(_) = &message {
                break;
            }
        }
        failed.map_or(Ok(rows), |said| Err(said.error(doing)))
    }

    /// Sends a command that begins a stream in both directions.
    pub(crate) async fn copy_both(&mut self, doing: &str, statement: &str) -> Result<(), Error> {
        frontend::query(statement, &mut self.out).map_err(protocol)?;
        self.flush().await?;
        loop {
            if self.buffer.first() == Some(&COPY_BOTH) {
                if self.drop_message() {
                    return Ok(());
                }
                self.fill().await?;
                continue;
            }
            match Message::parse(&mut self.buffer).map_err(protocol)? {
                Some(Message::ErrorResponse(body)) => {
                    return Err(Said::read(body.fields())?.error(doing));
                }
                Some(Message::NoticeResponse(body)) => Said::read(body.fields())?.heed()?,
                Some(_) => {}
                None => drop(self.fill().await?),
            }
        }
    }

    /// Drops the first message, if it is whole.
    fn drop_message(&mut self) -> bool {
        let Some(&[_, a, b, c, d]) = self.buffer.first_chunk::<5>() else { return false };
        let bytes = 1 + u32::from_be_bytes([a, b, c, d]) as usize;
        let is_whole = bytes <= self.buffer.len();
        if is_whole {
            drop(self.buffer.split_to(bytes));
        }
        is_whole
    }
}

// By value: for `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn protocol(error: io::Error) -> Error {
    Error::protocol(error.to_string())
}
