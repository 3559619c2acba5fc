//! Buffers that are held until the transactions in them have ended, so that a transaction's number of
//! changes is known before its first change is passed on.
//!
//! pgoutput says how many there were by ending the transaction, and nowhere before. What is held is
//! bounded: of a transaction that is longer, the number stays unknown.

use crate::frame::{Frame, Frames};
use bytes::Bytes;
use std::collections::VecDeque;

/// Buffers of one stream, each with what belongs to it.
#[derive(Debug)]
pub struct Spool<T> {
    bytes_max: usize,
    held: VecDeque<(Bytes, T)>,
    held_bytes: usize,
    ready: VecDeque<(Bytes, T)>,
    /// Of the transaction in which the stream stands: changes so far.
    open: Option<u64>,
    /// The open transaction is passed on as it comes.
    given_up: bool,
    lengths: VecDeque<Option<u64>>,
    /// How often everything was released.
    serial: u64,
}

impl<T> Spool<T> {
    /// Holds a little more than `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            held: VecDeque::new(),
            held_bytes: 0,
            ready: VecDeque::new(),
            open: None,
            given_up: false,
            lengths: VecDeque::new(),
            serial: 0,
        }
    }

    /// Takes in the next buffer of whole CopyData messages.
    pub fn push(&mut self, bytes: Bytes, with: T) {
        self.read(&bytes);
        self.held_bytes += bytes.len();
        self.held.push_back((bytes, with));
        if self.open.is_none() || self.given_up {
            self.release();
        } else if self.bytes_max < self.held_bytes {
            self.give_up();
        }
    }

    /// The next buffer that may be decoded.
    pub fn pop(&mut self) -> Option<(Bytes, T)> {
        self.ready.pop_front()
    }

    /// Numbers of changes, one for each transaction that begins in what [`Self::pop`] gives; `None`: not
    /// known. Each is given once.
    pub fn lengths(&mut self) -> impl Iterator<Item = Option<u64>> {
        // Those of held buffers do not hurt: they come in the same order.
        self.lengths.drain(..)
    }

    /// Whether something waits for the end of its transaction.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Grows whenever what was held is released.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Holds nothing more of the open transaction.
    pub fn give_up(&mut self) {
        if self.open.is_some() && !self.given_up {
            self.given_up = true;
            self.lengths.push_back(None);
        }
        self.release();
    }

    fn release(&mut self) {
        self.ready.append(&mut self.held);
        self.held_bytes = 0;
        self.serial += 1;
    }

    /// Counts what the decoder will give ordinals to. What is damaged is left to it.
    fn read(&mut self, bytes: &[u8]) {
        for frame in Frames::new(bytes) {
            let Ok(frame) = frame else { return self.give_up() };
            let Frame::XLogData { payload, .. } = frame else { continue };
            let message = &bytes[payload];
            let changes = match message.first() {
                Some(b'B') => {
                    self.open = Some(0);
                    0
                }
                Some(b'C') => {
                    let length = self.open.take();
                    if !std::mem::take(&mut self.given_up) {
                        self.lengths.push_back(length);
                    }
                    0
                }
                Some(b'I' | b'U' | b'D') => 1,
                // The number of tables follows (PostgreSQL, "Logical Replication Message Formats").
                Some(b'T') => {
                    let count = message[1..].first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
                    count.unwrap_or(0).into()
                }
                Some(_) | None => 0,
            };
            if let Some(count) = &mut self.open {
                *count += changes;
            }
        }
    }
}
