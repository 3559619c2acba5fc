//! Messages → changes: transactions, ordinals, relation versions, spans over one buffer.
//!
//! A pure state machine. Tables are completed from the catalog by the caller: a buffer stops before the
//! first change of a new description ([`Step::Describe`]) and goes on after [`Decoder::learn`].
//! Descriptions without changes ask for nothing: with `publish_via_partition_root` the server
//! describes every leaf, but its rows come under the root.

use crate::binary::{self, Plan, Text};
use crate::change::{LogicalMessage, Old, Operation, Span, Transaction};
use crate::frame::{self, Frame, Frames};
use crate::message::{self, Context, Message, OldTuple, Protocol, Relation};
use crate::relation::RelationDescription;
use crate::statement::{self, Statements};
use crate::types::Type;
use crate::{Change, ChangeBatch, Lsn, Table, Tuple};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How the stream was started.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// `proto_version`. Streaming and two-phase commit must not be asked for.
    pub protocol: Protocol,
    /// End of the last transaction before the start, where it is known.
    pub previous_commit_lsn: Option<Lsn>,
    /// Schema of the task's helper objects, where DDL statements are captured.
    pub ddl: Option<Box<str>>,
    /// `server_version_num` of a server that was asked for values in binary form; `None`: texts come. Whichever come, batches
    /// hold texts.
    pub binary: Option<u32>,
}

/// What a buffer came to.
#[derive(Debug)]
pub enum Step {
    /// The whole buffer was decoded.
    Done(ChangeBatch),
    /// The first change of a relation that is new or has a new description: ask the catalog,
    /// [`Decoder::learn`] the table, then [`Decoder::resume`].
    Describe(RelationDescription),
}

/// The stream cannot be decoded further; the decoder is of no more use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("replication stream is damaged: {0}; the connection must be opened again")]
    Frame(#[from] frame::Error),
    #[error(
        "plug-in message at {lsn} cannot be read: {error}; the connection must be opened again, and \
         if it happens again the server speaks another protocol than the one requested"
    )]
    Message { lsn: Lsn, error: message::Error },
    #[error(
        "change at {lsn} of relation {oid}, which the server has not described; the stream must be \
         started again from the confirmed position"
    )]
    RelationUnknown { lsn: Lsn, oid: u32 },
    #[error(
        "row at {lsn} of relation {oid} has {columns} columns instead of {expected}; the stream must \
         be started again from the confirmed position"
    )]
    ColumnCount { lsn: Lsn, oid: u32, columns: usize, expected: usize },
    #[error(
        "{what} at {lsn} out of place; the stream must be started again from the confirmed position"
    )]
    OutOfPlace { lsn: Lsn, what: &'static str },
    #[error(
        "commit at {found} ends the transaction that began for {expected}; the stream must be \
         started again from the confirmed position"
    )]
    CommitMismatch { expected: Lsn, found: Lsn },
    #[error(
        "the server sends {what}, which was not requested; start the stream without the options \
         `streaming` and `two_phase`, and make the slot without two-phase commit"
    )]
    NotRequested { what: &'static str },
    #[error(
        "buffer of {bytes} bytes is above the limit of {} bytes; hand over smaller ones",
        u32::MAX
    )]
    BufferTooLarge { bytes: usize },
    #[error(
        "no table was learned for version {version} of relation {oid}, or one of another shape"
    )]
    NotLearned { oid: u32, version: u32 },
    #[error("decoder called out of turn: {0}")]
    OutOfTurn(&'static str),
    #[error(
        "column {column} came at {lsn} in a binary form that cannot be turned into its text: {fault}; set \
         `source.wire` to auto or text"
    )]
    Misread { lsn: Lsn, column: Box<str>, fault: binary::Fault },
}

/// The state between two buffers of one stream.
#[derive(Debug)]
pub struct Decoder {
    context: Context,
    relations: HashMap<u32, Known>,
    open: Option<Open>,
    previous_commit_lsn: Option<Lsn>,
    /// Of the transactions that begin next: their numbers of changes, as far as they are known.
    lengths: VecDeque<Option<u64>>,
    statements: Option<Statements<Known>>,
    /// Where values come in binary form.
    server_version: Option<u32>,
    /// Of the table that statements are written to.
    helper: Option<Arc<Plan>>,
    /// A buffer that waits for a table.
    paused: Option<(Work, Missing)>,
    /// A buffer was not decoded: whatever follows would leave a gap.
    has_failed: bool,
    /// Number of the buffer, from 1.
    serial: u64,
}

/// A relation, and its place in the batch in hand.
#[derive(Debug)]
struct Known {
    description: RelationDescription,
    table: Option<Arc<Table>>,
    /// Of the table, where values come in binary form.
    plan: Option<Arc<Plan>>,
    /// `index` holds for this buffer only.
    serial: u64,
    index: u32,
}

/// The transaction in which the stream stands.
#[derive(Debug)]
struct Open {
    transaction: Transaction,
    ordinal_next: u64,
    /// Place in the batch in hand, if it has a change there.
    index: Option<u32>,
    /// It began in the buffer in hand.
    whole: bool,
}

/// A buffer in hand.
#[derive(Debug)]
struct Work {
    bytes: Bytes,
    offset: usize,
    batch: ChangeBatch,
    keepalive_end: Option<Lsn>,
    recent: Option<Recent>,
    /// By place of the table in the batch.
    plans: Vec<Option<Arc<Plan>>>,
    /// What the batch holds where values come in binary form; `None`: the buffer itself.
    text: Option<Text>,
}

/// The relation of the last change: most changes come in runs of one relation.
#[derive(Clone, Copy, Debug)]
struct Recent {
    oid: u32,
    index: u32,
    columns: usize,
}

/// What of a change its message alone tells.
struct Row<'a> {
    oid: u32,
    operation: Operation,
    old: Option<OldTuple<'a>>,
    new: Option<Tuple<'a>>,
}

/// What became of a message.
enum Applied {
    Done,
    /// Nothing was done: this must be learned first.
    TableMissing(Missing),
}

/// What has no table yet.
#[derive(Debug)]
enum Missing {
    Relation(u32),
    /// A DDL statement, by what it changes.
    Statement(Box<[u8]>),
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            context: Context { protocol: options.protocol, in_stream: false },
            relations: HashMap::new(),
            open: None,
            previous_commit_lsn: options.previous_commit_lsn,
            lengths: VecDeque::new(),
            statements: options.ddl.map(Statements::new),
            server_version: options.binary,
            helper: None,
            paused: None,
            has_failed: false,
            serial: 0,
        }
    }

    /// Says how many changes the transactions have that begin next, in their order; `None`: not known. Without
    /// it, the number is known of transactions that begin and end in one buffer.
    pub fn expect(&mut self, lengths: impl IntoIterator<Item = Option<u64>>) {
        self.lengths.extend(lengths);
    }

    /// Decodes a buffer of whole CopyData messages, the next of the stream.
    ///
    /// # Errors
    /// When the bytes are not what the protocol allows here. The decoder is of no more use then.
    pub fn decode(&mut self, bytes: Bytes) -> Result<Step, Error> {
        if self.paused.is_some() {
            return Err(Error::OutOfTurn("a buffer came while another one waits for a table"));
        }
        if self.has_failed {
            return Err(Error::OutOfTurn("a buffer came after one that could not be decoded"));
        }
        let step = self.buffer(bytes);
        self.has_failed = step.is_err();
        step
    }

    fn buffer(&mut self, bytes: Bytes) -> Result<Step, Error> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::BufferTooLarge { bytes: bytes.len() });
        }
        self.serial += 1;
        if let Some(open) = &mut self.open {
            open.index = None;
            open.whole = false;
        }
        let changes = Vec::with_capacity(bytes.len() / BYTES_PER_CHANGE);
        let batch = ChangeBatch { changes, ..ChangeBatch::default() };
        let text = self.server_version.map(|_| {
            let max = bytes.len().saturating_mul(TEXT_TIMES_MAX).saturating_add(TEXT_BYTES_FREE);
            Text::new(bytes.len() + bytes.len() / 4, max.min(u32::MAX as usize))
        });
        let (keepalive_end, recent, plans) = (None, None, Vec::new());
        self.run(Work { bytes, offset: 0, batch, keepalive_end, recent, plans, text })
    }

    /// Takes in the completed table of a description. Tables that were not asked for, or that do not
    /// have the version and the columns asked for, are left aside.
    pub fn learn(&mut self, table: Arc<Table>) {
        let known = match table.oid {
            statement::OID => self.statements.as_mut().and_then(|it| {
                it.known.values_mut().find(|known| known.description.version == table.version)
            }),
            oid => self.relations.get_mut(&oid),
        };
        if let Some(known) = known
            && known.description.version == table.version
            && known.description.columns.len() == table.columns.len()
        {
            let plan = |version| Arc::new(Plan::new(&table, version));
            known.plan = self.server_version.map(plan);
            known.table = Some(table);
        }
    }

    /// Goes on with the buffer that waits for a table.
    ///
    /// # Errors
    /// As [`Self::decode`]; also when the table was not learned or no buffer waits.
    pub fn resume(&mut self) -> Result<Step, Error> {
        let waits = self.paused.take();
        let (work, missing) = waits.ok_or(Error::OutOfTurn("no buffer waits for a table"))?;
        let step = self.go_on(work, &missing);
        self.has_failed = step.is_err();
        step
    }

    fn go_on(&mut self, work: Work, missing: &Missing) -> Result<Step, Error> {
        match self.known(missing) {
            Some(Known {
                table: None,
                description: RelationDescription { oid, version, .. },
                ..
            }) => Err(Error::NotLearned { oid: *oid, version: *version }),
            Some(Known { table: Some(_), .. }) | None => self.run(work),
        }
    }

    /// No transaction is open where the last buffer ended.
    #[must_use]
    pub fn is_between_transactions(&self) -> bool {
        self.open.is_none()
    }

    fn run(&mut self, mut work: Work) -> Result<Step, Error> {
        let bytes = work.bytes.clone();
        let mut frames = Frames::resume(&bytes, work.offset);
        while let Some(frame) = frames.next() {
            let frame_end = frames.offset();
            let (lsn, payload) = match frame? {
                Frame::Keepalive { server_end, .. } => {
                    work.keepalive_end = work.keepalive_end.max(Some(server_end));
                    work.offset = frame_end;
                    continue;
                }
                Frame::XLogData { start, payload, .. } => (start, payload),
            };
            let end = payload.end;
            let message = Message::parse(&bytes[payload], self.context)
                .map_err(|error| Error::Message { lsn, error })?;
            match self.apply(&mut work, lsn, end, message)? {
                Applied::Done => work.offset = frame_end,
                Applied::TableMissing(missing) => return self.pause(work, lsn, missing),
            }
        }
        let Work { mut batch, keepalive_end, text, .. } = work;
        batch.bytes = text.map_or(bytes, Text::into_bytes);
        batch.ends_transaction = self.open.is_none();
        batch.idle_until = keepalive_end.filter(|_| batch.ends_transaction);
        Ok(Step::Done(batch))
    }

    /// The message that needs the table is read again afterwards.
    fn pause(&mut self, work: Work, lsn: Lsn, missing: Missing) -> Result<Step, Error> {
        let oid = match &missing {
            Missing::Relation(oid) => *oid,
            Missing::Statement(_) => statement::OID,
        };
        let known = self.known(&missing).ok_or(Error::RelationUnknown { lsn, oid })?;
        let description = known.description.clone();
        self.paused = Some((work, missing));
        Ok(Step::Describe(description))
    }

    fn known(&self, missing: &Missing) -> Option<&Known> {
        match missing {
            Missing::Relation(oid) => self.relations.get(oid),
            Missing::Statement(changed) => self.statements.as_ref()?.known.get(changed),
        }
    }

    /// Whether this is the table that statements are written to.
    fn is_helper(&self, oid: u32) -> bool {
        self.statements.as_ref().is_some_and(|it| it.table == Some(oid))
    }

    /// `end`: where the message ends in the buffer. Tuples and contents are last in their messages,
    /// so spans are counted back from there.
    fn apply(
        &mut self,
        work: &mut Work,
        lsn: Lsn,
        end: usize,
        message: Message<'_>,
    ) -> Result<Applied, Error> {
        let row = match message {
            Message::Insert(message::Insert { oid, new, .. }) if self.is_helper(oid) => {
                return self.statement(work, lsn, end, new);
            }
            // They are taken away as soon as they are written.
            Message::Update(message::Update { oid, .. })
            | Message::Delete(message::Delete { oid, .. })
                if self.is_helper(oid) =>
            {
                return Ok(Applied::Done);
            }
            Message::Insert(message::Insert { oid, new, .. }) => {
                Row { oid, operation: Operation::Insert, old: None, new: Some(new) }
            }
            Message::Update(message::Update { oid, old, new, .. }) => {
                Row { oid, operation: Operation::Update, old, new: Some(new) }
            }
            Message::Delete(message::Delete { oid, old, .. }) => {
                Row { oid, operation: Operation::Delete, old: Some(old), new: None }
            }
            Message::Truncate(truncate) => return self.truncate(work, lsn, end, truncate),
            Message::Begin(begin) => return self.begin(lsn, begin),
            Message::Commit(commit) => return self.commit(work, lsn, commit),
            Message::Relation(relation) => {
                self.describe(work, &relation);
                return Ok(Applied::Done);
            }
            Message::Logical(logical) => return self.logical(work, lsn, end, &logical),
            // Types come from the catalog; where a change was made first does not matter to us.
            Message::Type(_) | Message::Origin(_) => return Ok(Applied::Done),
            Message::StreamStart(_)
            | Message::StreamStop
            | Message::StreamCommit(_)
            | Message::StreamAbort(_)
            | Message::StreamPrepare(_) => {
                return Err(Error::NotRequested { what: "transactions in progress" });
            }
            Message::BeginPrepare(_)
            | Message::Prepare(_)
            | Message::CommitPrepared(_)
            | Message::RollbackPrepared(_) => {
                return Err(Error::NotRequested { what: "prepared transactions" });
            }
        };
        self.push(work, lsn, end, &row)
    }

    fn truncate(
        &mut self,
        work: &mut Work,
        lsn: Lsn,
        end: usize,
        truncate: message::Truncate<'_>,
    ) -> Result<Applied, Error> {
        let is_missing = |oid: &u32| self.relations.get(oid).is_some_and(|it| it.table.is_none());
        // All or nothing: the message is read again once the table is there.
        if let Some(oid) = truncate.relations.iter().find(is_missing) {
            return Ok(Applied::TableMissing(Missing::Relation(oid)));
        }
        for oid in truncate.relations.iter().filter(|oid| !self.is_helper(*oid)).collect::<Vec<_>>()
        {
            let row = Row { oid, operation: Operation::Truncate, old: None, new: None };
            self.push(work, lsn, end, &row)?;
        }
        Ok(Applied::Done)
    }

    fn begin(&mut self, lsn: Lsn, begin: message::Begin) -> Result<Applied, Error> {
        if self.open.is_some() {
            return Err(Error::OutOfPlace { lsn, what: "Begin inside a transaction" });
        }
        let transaction = Transaction {
            xid: begin.xid,
            commit_lsn: begin.final_lsn,
            previous_commit_lsn: self.previous_commit_lsn,
            commit_time: begin.commit_time,
            changes_count: self.lengths.pop_front().flatten(),
        };
        self.open = Some(Open { transaction, ordinal_next: 0, index: None, whole: true });
        Ok(Applied::Done)
    }

    fn commit(
        &mut self,
        work: &mut Work,
        lsn: Lsn,
        commit: message::Commit,
    ) -> Result<Applied, Error> {
        let what = "Commit outside a transaction";
        let open = self.open.take().ok_or(Error::OutOfPlace { lsn, what })?;
        let (expected, found) = (open.transaction.commit_lsn, commit.commit_lsn);
        if expected != found {
            return Err(Error::CommitMismatch { expected, found });
        }
        if let Some(index) = open.index
            && open.whole
        {
            work.batch.transactions[index as usize].changes_count = Some(open.ordinal_next);
        }
        self.previous_commit_lsn = Some(commit.end_lsn);
        work.batch.committed_end_lsn = Some(commit.end_lsn);
        Ok(Applied::Done)
    }

    /// Keeps a new description; the table is asked for with its first change.
    fn describe(&mut self, work: &mut Work, relation: &Relation<'_>) {
        if let Some(statements) = &mut self.statements
            && statements.are_in(relation)
        {
            statements.table = Some(relation.oid);
            let types: Vec<_> =
                relation.columns.iter().map(|it| Type::unknown(it.type_oid)).collect();
            self.helper = self.server_version.map(|it| Arc::new(Plan::of(&types, it)));
            return;
        }
        let description = match self.relations.get(&relation.oid) {
            None => Some(RelationDescription::first(relation)),
            Some(known) => known.description.next(relation),
        };
        if let Some(description) = description {
            work.recent = None;
            let known = Known { description, table: None, plan: None, serial: 0, index: 0 };
            self.relations.insert(relation.oid, known);
        }
    }

    fn logical(
        &mut self,
        work: &mut Work,
        lsn: Lsn,
        end: usize,
        logical: &message::Logical<'_>,
    ) -> Result<Applied, Error> {
        if logical.transactional
            && self.statements.as_ref().is_some_and(|it| *it.prefix == *logical.prefix)
            && let Ok((tuple, taken)) = Tuple::check(logical.content)
            && taken == logical.content.len()
        {
            return self.statement(work, lsn, end, tuple);
        }
        let transaction = if logical.transactional {
            let what = "transactional message outside a transaction";
            let open = self.open.as_mut().ok_or(Error::OutOfPlace { lsn, what })?;
            Some((open.enter(&mut work.batch), open.ordinal_next))
        } else {
            None
        };
        let (prefix, content) = match &mut work.text {
            Some(text) => {
                let mut put = |part: &[u8]| {
                    let start = text.len();
                    let fault =
                        |fault| Error::Misread { lsn, column: "of a message".into(), fault };
                    text.append(part).map_err(fault)?;
                    Ok::<_, Error>(span(start, text.len()))
                };
                (put(logical.prefix.as_bytes())?, put(logical.content)?)
            }
            None => {
                let content_start = end - logical.content.len();
                // Before the content come its length, and before that the zero byte that ends the prefix.
                let prefix_end = content_start - 5;
                (span(prefix_end - logical.prefix.len(), prefix_end), span(content_start, end))
            }
        };
        work.batch.messages.push(LogicalMessage {
            transaction: transaction.map(|(index, _)| index),
            ordinal_next: transaction.map(|(_, ordinal)| ordinal),
            changes_before: narrow(work.batch.changes.len()),
            lsn: logical.lsn,
            prefix,
            content,
        });
        Ok(Applied::Done)
    }

    /// A DDL statement: a row of a table that stands for what it changes.
    fn statement(
        &mut self,
        work: &mut Work,
        lsn: Lsn,
        end: usize,
        tuple: Tuple<'_>,
    ) -> Result<Applied, Error> {
        let place = put(&mut work.text, tuple, end, self.helper.as_deref())
            .map_err(|it| it.at(lsn, None))?;
        let tuple = match &work.text {
            Some(text) => text.as_slice().get(place.start as usize..).map_or(tuple, Tuple::trusted),
            None => tuple,
        };
        // Whoever may write messages can write others.
        let (Some(statements), Some(changed)) = (&mut self.statements, statement::changed(tuple))
        else {
            return Ok(Applied::Done);
        };
        let what = "DDL statement outside a transaction";
        let open = self.open.as_mut().ok_or(Error::OutOfPlace { lsn, what })?;
        let first =
            |description| Known { description, table: None, plan: None, serial: 0, index: 0 };
        let known = statements.of(changed, first);
        let entered = known.enter(self.serial, &mut work.batch, &mut work.plans);
        let Some(Recent { index: table, .. }) = entered else {
            return Ok(Applied::TableMissing(Missing::Statement(changed.into())));
        };
        let transaction = open.enter(&mut work.batch);
        let ordinal = open.ordinal_next;
        open.ordinal_next += 1;
        let (operation, new) = (Operation::Insert, Some(place));
        work.batch.changes.push(Change {
            transaction,
            table,
            ordinal,
            lsn,
            operation,
            old: None,
            new,
        });
        Ok(Applied::Done)
    }

    fn push(
        &mut self,
        work: &mut Work,
        lsn: Lsn,
        end: usize,
        row: &Row<'_>,
    ) -> Result<Applied, Error> {
        let what = "change outside a transaction";
        let open = self.open.as_mut().ok_or(Error::OutOfPlace { lsn, what })?;
        let recent = match work.recent {
            Some(recent) if recent.oid == row.oid => recent,
            Some(_) | None => {
                let unknown = Error::RelationUnknown { lsn, oid: row.oid };
                let known = self.relations.get_mut(&row.oid).ok_or(unknown)?;
                let entered = known.enter(self.serial, &mut work.batch, &mut work.plans);
                let Some(recent) = entered else {
                    return Ok(Applied::TableMissing(Missing::Relation(row.oid)));
                };
                *work.recent.insert(recent)
            }
        };
        let check = |tuple: Tuple<'_>| {
            let (columns, expected) = (tuple.len(), recent.columns);
            let wrong = Error::ColumnCount { lsn, oid: row.oid, columns, expected };
            (columns == expected).then_some(()).ok_or(wrong)
        };
        let plan = work.plans.get(recent.index as usize).and_then(Option::as_deref);
        let table = work.batch.tables.get(recent.index as usize).map(|table| &**table);
        let mut put = |tuple: Tuple<'_>, end| {
            check(tuple)?;
            put(&mut work.text, tuple, end, plan).map_err(|it| it.at(lsn, table))
        };
        let mut end = end;
        let mut new = None;
        if let Some(tuple) = row.new {
            new = Some(put(tuple, end)?);
            // One byte before the new tuple says that it is one.
            end -= tuple.encoded_len() + 1;
        }
        let mut old = None;
        if let Some(tuple) = row.old {
            let span = put(tuple.tuple(), end)?;
            old = Some(match tuple {
                OldTuple::Key(_) => Old::Key(span),
                OldTuple::Row(_) => Old::Row(span),
            });
        }
        let transaction = open.enter(&mut work.batch);
        let ordinal = open.ordinal_next;
        open.ordinal_next += 1;
        let (table, operation) = (recent.index, row.operation);
        work.batch.changes.push(Change { transaction, table, ordinal, lsn, operation, old, new });
        Ok(Applied::Done)
    }
}

/// Guess for the room that changes will need: less than most take, so that few batches grow theirs.
const BYTES_PER_CHANGE: usize = 160;
/// How much longer than the buffer its texts may be: a bit becomes a digit. A numeric of ten bytes can have a hundred
/// thousand digits, and few of these are borne beside.
const TEXT_TIMES_MAX: usize = 8;
const TEXT_BYTES_FREE: usize = 1 << 20;
/// What stands for no plan: texts need none.
static TEXTS: Plan = Plan::none();

/// Where a tuple stands in the batch, whose message ends at `end` in the buffer: there, or in the texts of `text`.
fn put(
    text: &mut Option<Text>,
    tuple: Tuple<'_>,
    end: usize,
    plan: Option<&Plan>,
) -> Result<Span, binary::Misread> {
    let Some(text) = text else { return Ok(span(end - tuple.encoded_len(), end)) };
    let start = text.len();
    plan.unwrap_or(&TEXTS).append(tuple, text)?;
    Ok(span(start, text.len()))
}

impl binary::Misread {
    fn at(self, lsn: Lsn, table: Option<&Table>) -> Error {
        let Self { column, fault } = self;
        let named = |table: &Table| {
            let column = table.columns.get(column)?;
            Some(format!("{}.{}.{}", table.schema, table.name, column.name).into())
        };
        let column = table.and_then(named).unwrap_or_else(|| column.to_string().into());
        Error::Misread { lsn, column, fault }
    }
}

impl Open {
    /// Place of the transaction in the batch.
    fn enter(&mut self, batch: &mut ChangeBatch) -> u32 {
        *self.index.get_or_insert_with(|| {
            batch.transactions.push(self.transaction);
            narrow(batch.transactions.len() - 1)
        })
    }
}

impl Known {
    /// Place of the table in the batch; `None` when the table was never learned.
    fn enter(
        &mut self,
        serial: u64,
        batch: &mut ChangeBatch,
        plans: &mut Vec<Option<Arc<Plan>>>,
    ) -> Option<Recent> {
        let table = self.table.as_ref()?;
        if self.serial != serial {
            batch.tables.push(table.clone());
            plans.push(self.plan.clone());
            (self.serial, self.index) = (serial, narrow(batch.tables.len() - 1));
        }
        let oid = self.description.oid;
        Some(Recent { oid, index: self.index, columns: table.columns.len() })
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { start: narrow(start), end: narrow(end) }
}

/// Counts and offsets of a buffer, whose length [`Decoder::decode`] has checked.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
