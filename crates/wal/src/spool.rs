//! Buffers that are held until the transactions in them have ended, so that a transaction's number of
//! changes is known before its first change is passed on.
//!
//! pgoutput says how many there were by ending the transaction, and nowhere before. What is held is
//! bounded: of a transaction that is longer, the number stays unknown.

use crate::Tuple;
use crate::frame::{Frame, Frames};
use crate::statement;
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
    /// Where DDL statements are captured.
    statements: Option<Captured>,
}

/// What stands for captured statements: each is a change, and what is done to the helper table is none.
#[derive(Debug)]
struct Captured {
    schema: Box<str>,
    prefix: String,
    /// The helper table, once the stream has described it.
    table: Option<[u8; 4]>,
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
            statements: None,
        }
    }

    /// Counts the DDL statements that are captured by the helper objects in `schema`.
    #[must_use]
    pub fn with_statements(self, schema: Option<&str>) -> Self {
        let captured = |schema: &str| Captured {
            schema: schema.into(),
            prefix: statement::prefix(schema),
            table: None,
        };
        Self { statements: schema.map(captured), ..self }
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
                Some(_) | None => changes(message, self.statements.as_mut()),
            };
            if let Some(count) = &mut self.open {
                *count += changes;
            }
        }
    }
}

/// How many changes the decoder makes of a message (PostgreSQL, "Logical Replication Message Formats").
fn changes(message: &[u8], statements: Option<&mut Captured>) -> u64 {
    let Some((&kind, rest)) = message.split_first() else { return 0 };
    let is_helper = |oid: Option<&[u8; 4]>| {
        oid.is_some() && statements.as_ref().and_then(|it| it.table.as_ref()) == oid
    };
    match kind {
        // A statement is inserted into the helper table, and taken away again.
        b'I' => 1,
        b'U' | b'D' => u64::from(!is_helper(rest.first_chunk())),
        // The number of tables, options, then the tables.
        b'T' => {
            let count = rest.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            let tables = rest.get(5..).unwrap_or_default().as_chunks().0;
            let helpers = tables.iter().filter(|oid| is_helper(Some(oid))).count();
            u64::from(count).saturating_sub(helpers as u64)
        }
        b'R' => {
            if let Some(statements) = statements {
                statements.describe(rest);
            }
            0
        }
        b'M' => u64::from(statements.is_some_and(|it| it.is_statement(rest))),
        _ => 0,
    }
}

impl Captured {
    /// A relation: its OID, then schema and name, each ended by a zero byte.
    fn describe(&mut self, relation: &[u8]) {
        let Some((oid, names)) = relation.split_first_chunk() else { return };
        let mut names = names.split(|&byte| byte == 0);
        let is_helper = names.next() == Some(self.schema.as_bytes())
            && names.next() == Some(statement::TABLE.as_bytes());
        if is_helper {
            self.table = Some(*oid);
        }
    }

    /// A logical message: flags (1: transactional), LSN, prefix with a zero byte, length, content.
    fn is_statement(&self, message: &[u8]) -> bool {
        let content = || {
            let (&flags, rest) = message.split_first()?;
            let rest = rest.get(8..)?.strip_prefix(self.prefix.as_bytes())?.strip_prefix(&[0])?;
            rest.get(4..).filter(|_| flags & 1 == 1)
        };
        // Whoever may write messages can write others.
        content().is_some_and(|content| {
            let tuple = Tuple::check(content).ok().filter(|(_, taken)| *taken == content.len());
            tuple.is_some_and(|(tuple, _)| statement::changed(tuple).is_some())
        })
    }
}
