//! What reads chunks of tables for [`crate::copying`]: a connection of this process, or one that another node holds. The
//! latter is asked one thing after the other and says what the server answered; which rows may be
//! emitted is decided beside the router all the same (delivery-protocol.md, section 9). What carries questions and
//! answers to another node is not this package's business.

pub use crate::chunk::copy::{Key, Range};
use crate::failure::Failure;
use bytes::Bytes;
use futures_util::StreamExt;
use postgres::Error;
pub use postgres::chunk::{Begun, Between, ChunkReader, ChunkSource, KeyColumn};
pub use postgres::replication::Line;
use postgres::settings::Settings;
pub use postgres::snapshot::Readable;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use supervision::FailureClass;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Mutex, mpsc};

/// Rows are passed on in pieces of at least so many bytes.
const PIECE_BYTES_MIN: usize = 256 << 10;
/// A piece has no more: it must fit into one message of a link.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Pieces that wait between a connection and whoever asked for them.
const ANSWERS_QUEUED: usize = 4;
/// PostgreSQL sends no longer row in the text format of COPY.
const ROW_BYTES_MAX: usize = 1 << 30;

/// All that another node needs to know to hold a connection for us.
#[derive(Clone, Debug)]
pub struct OpenReader {
    /// The spec in force, whose secrets are references.
    pub spec: Arc<config::Task>,
    /// What the front streams: rows of another server, or of another line of it, have no place in that.
    pub line: Line,
}

/// What a reader is asked. Each question is answered before the next one is put.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ask {
    /// [`ChunkReader::begin`]
    Begin(ChunkSource),
    /// [`ChunkReader::rows`]
    Rows { source: ChunkSource, range: Range, condition: Option<String>, rows_max: Option<u64> },
    /// [`ChunkReader::last`]
    Last(ChunkSource),
    /// [`ChunkReader::cut`]
    Cut { source: ChunkSource, range: Range, rows: u64 },
    /// [`ChunkReader::end`]
    End,
}

/// What a reader says; first of all, that it has connected ([`Answer::Done`]).
#[derive(Clone, Debug)]
pub enum Answer {
    Begun(Begun),
    /// A part of the rows that were asked for, which may end within a row. [`Answer::Done`] follows the last one.
    Rows(Bytes),
    Key(Option<Key>),
    Done,
    NotRead(NotRead),
}

/// Why something could not be read, and what follows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{failure}")]
pub struct NotRead {
    pub then: Then,
    pub failure: Failure,
}

/// What follows an error of the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It is tried again: somebody alters the table, or has just done so.
    Later,
    /// The table is looked at again.
    Again,
    /// The table is not copied, where somebody has only asked for it.
    Refused,
    /// The failure decides.
    Fail,
    /// Another reader does it: this one is gone.
    Lost,
}

impl From<Error> for NotRead {
    fn from(error: Error) -> Self {
        let then = if matches!(error, Error::LockTimeout { .. }) {
            Then::Later
        } else if matches!(error, Error::TableMissing { .. } | Error::TableRewritten { .. }) {
            Then::Again
        } else if matches!(error, Error::Unsupported { .. } | Error::NotAuthorized { .. }) {
            Then::Refused
        } else {
            Then::Fail
        };
        Self { then, failure: error.into() }
    }
}

impl NotRead {
    /// The connection, or the way to it, is gone.
    #[must_use]
    pub fn lost(failure: Failure) -> Self {
        Self { then: Then::Lost, failure }
    }

    /// As whoever has asked another node sees it: where the connection there may be the cause, another node may do it.
    fn elsewhere(self) -> Self {
        let passes =
            matches!(self.failure.class, FailureClass::Connection | FailureClass::Transient);
        if self.then == Then::Fail && passes { Self::lost(self.failure) } else { self }
    }
}

/// A conversation with a reader on another node. Ends with whoever drops its half.
#[derive(Debug)]
pub struct Conversation {
    asks: UnboundedSender<Ask>,
    answers: Mutex<Receiver<Answer>>,
}

impl Conversation {
    /// Both halves: the second one is for whatever carries them.
    #[must_use]
    pub fn new() -> (Self, UnboundedReceiver<Ask>, Sender<Answer>) {
        let (asks, asked) = mpsc::unbounded_channel();
        let (answer, answers) = mpsc::channel(ANSWERS_QUEUED);
        (Self { asks, answers: Mutex::new(answers) }, asked, answer)
    }

    /// One that cannot be begun.
    #[must_use]
    pub fn failing(failure: Failure) -> Self {
        let (conversation, _, answers) = Self::new();
        // It has room: nothing was said before.
        let _ = answers.try_send(Answer::NotRead(NotRead::lost(failure)));
        conversation
    }

    async fn next(&self) -> Result<Answer, NotRead> {
        let ended = || NotRead::lost(Failure::transient("the reader of chunks has ended"));
        match self.answers.lock().await.recv().await.ok_or_else(ended)? {
            Answer::NotRead(not_read) => Err(not_read.elsewhere()),
            answer @ (Answer::Begun(_) | Answer::Rows(_) | Answer::Key(_) | Answer::Done) => {
                Ok(answer)
            }
        }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, NotRead> {
        // Whoever is gone says so as its answer.
        let _ = self.asks.send(ask);
        self.next().await
    }
}

fn unexpected() -> NotRead {
    NotRead::lost(Failure::transient("the reader of chunks said something unexpected"))
}

/// A connection that reads chunks.
pub(crate) enum Reader {
    Here(Box<ChunkReader>),
    Elsewhere(Conversation),
}

impl Reader {
    /// On this node.
    pub(crate) async fn here(settings: &Settings, line: Line) -> Result<Self, Error> {
        Ok(Self::Here(Box::new(connect(settings, line).await?)))
    }

    /// On another one, once it is connected.
    pub(crate) async fn elsewhere(conversation: Conversation) -> Result<Self, NotRead> {
        let Answer::Done = conversation.next().await? else { return Err(unexpected()) };
        Ok(Self::Elsewhere(conversation))
    }

    pub(crate) async fn begin(&self, source: &ChunkSource) -> Result<Begun, NotRead> {
        match self {
            Self::Here(reader) => Ok(reader.begin(source).await?),
            Self::Elsewhere(there) => {
                let answer = there.ask(Ask::Begin(source.clone())).await?;
                let Answer::Begun(begun) = answer else { return Err(unexpected()) };
                Ok(begun)
            }
        }
    }

    /// Gives each row with its line feed to `take`, until that wants no more: the reader is of no use then, and closes its
    /// connection when it is dropped.
    pub(crate) async fn rows(
        &self,
        source: &ChunkSource,
        range: &Range,
        condition: Option<&str>,
        rows_max: Option<u64>,
        mut take: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<Result<(), Failure>, NotRead> {
        let mut each = |rows: &[u8]| {
            for row in rows.split_inclusive(|&byte| byte == b'\n') {
                if take(row)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        match self {
            Self::Here(reader) => {
                let rows = reader.rows(source, between(range), condition, rows_max).await?;
                let mut rows = pin!(rows);
                while let Some(data) = rows.next().await {
                    match each(&data?) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => return Ok(Ok(())),
                        Err(failure) => return Ok(Err(failure)),
                    }
                }
            }
            Self::Elsewhere(there) => {
                let (source, range) = (source.clone(), range.clone());
                let condition = condition.map(str::to_owned);
                let mut answer =
                    there.ask(Ask::Rows { source, range, condition, rows_max }).await?;
                let mut whole = Rows::default();
                while let Answer::Rows(piece) = answer {
                    let Some(rows) = whole.add(&piece) else { return Err(unexpected()) };
                    match each(&rows) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => return Ok(Ok(())),
                        Err(failure) => return Ok(Err(failure)),
                    }
                    answer = there.next().await?;
                }
                if !matches!(answer, Answer::Done) || !whole.0.is_empty() {
                    return Err(unexpected());
                }
            }
        }
        Ok(Ok(()))
    }

    pub(crate) async fn last(&self, source: &ChunkSource) -> Result<Option<Key>, NotRead> {
        match self {
            Self::Here(reader) => Ok(reader.last(source).await?),
            Self::Elsewhere(there) => there.key(Ask::Last(source.clone())).await,
        }
    }

    pub(crate) async fn cut(
        &self,
        source: &ChunkSource,
        range: &Range,
        rows: u64,
    ) -> Result<Option<Key>, NotRead> {
        match self {
            Self::Here(reader) => Ok(reader.cut(source, between(range), rows).await?),
            Self::Elsewhere(there) => {
                let (source, range) = (source.clone(), range.clone());
                there.key(Ask::Cut { source, range, rows }).await
            }
        }
    }

    pub(crate) async fn end(&self) -> Result<(), NotRead> {
        match self {
            Self::Here(reader) => Ok(reader.end().await?),
            Self::Elsewhere(there) => {
                let Answer::Done = there.ask(Ask::End).await? else { return Err(unexpected()) };
                Ok(())
            }
        }
    }
}

impl Conversation {
    async fn key(&self, ask: Ask) -> Result<Option<Key>, NotRead> {
        let Answer::Key(key) = self.ask(ask).await? else { return Err(unexpected()) };
        Ok(key)
    }
}

fn between(range: &Range) -> Between<'_> {
    Between { after: range.after.as_deref(), upto: &range.upto }
}

/// The beginning of a row whose rest has not come.
#[derive(Default)]
struct Rows(Vec<u8>);

impl Rows {
    /// The whole rows so far. `None`: no server sends so long a row.
    fn add(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let end = piece.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let (whole, rest) = piece.split_at(end);
        if whole.is_empty() {
            self.0.extend_from_slice(rest);
            return (self.0.len() <= ROW_BYTES_MAX).then(Vec::new);
        }
        let mut rows = std::mem::replace(&mut self.0, rest.to_vec());
        rows.extend_from_slice(whole);
        Some(rows)
    }
}

/// A connection to the server that is streamed from.
async fn connect(settings: &Settings, line: Line) -> Result<ChunkReader, Error> {
    let reader = ChunkReader::open(settings).await?;
    reader.line().is(line)?;
    Ok(reader)
}

/// Holds a connection for another node, on a thread of its own, and answers what it asks, until nobody asks or listens
/// any more. Paths of the spec, those of its secrets too, are relative to `folder`.
///
/// # Errors
/// When the spec cannot be carried out here: a secret or a certificate is missing, or there is no thread.
pub fn host(
    open: &OpenReader,
    folder: &Path,
    asked: UnboundedReceiver<Ask>,
    answers: Sender<Answer>,
) -> Result<(), Failure> {
    let (settings, line) = (Settings::new(&open.spec, folder)?, open.line);
    std::thread::Builder::new()
        .name(format!("chunks {}", open.spec.task))
        .spawn(move || actix_rt::System::new().block_on(live(settings, line, asked, answers)))
        .map_err(|error| Failure::transient(format!("no thread for a reader: {error}")))?;
    Ok(())
}

async fn live(
    settings: Settings,
    line: Line,
    asked: UnboundedReceiver<Ask>,
    answers: Sender<Answer>,
) {
    // Whatever a server does meanwhile, nobody waits for it.
    tokio::select! {
        () = answers.closed() => {}
        () = converse(&settings, line, asked, &answers) => {}
    }
}

async fn converse(
    settings: &Settings,
    line: Line,
    mut asked: UnboundedReceiver<Ask>,
    answers: &Sender<Answer>,
) {
    let reader = match connect(settings, line).await {
        Ok(reader) => reader,
        Err(error) => return drop(answers.send(Answer::NotRead(error.into())).await),
    };
    let mut answer = Answer::Done;
    // Who does not listen any more has ended this.
    while answers.send(answer).await.is_ok() {
        let Some(ask) = asked.recv().await else { return };
        answer = answered(&reader, ask, answers)
            .await
            .unwrap_or_else(|error| Answer::NotRead(error.into()));
    }
}

/// The last word of an answer.
async fn answered(
    reader: &ChunkReader,
    ask: Ask,
    answers: &Sender<Answer>,
) -> Result<Answer, Error> {
    Ok(match ask {
        Ask::Begin(source) => Answer::Begun(reader.begin(&source).await?),
        Ask::Rows { source, range, condition, rows_max } => {
            let rows = reader.rows(&source, between(&range), condition.as_deref(), rows_max);
            let mut rows = pin!(rows.await?);
            let mut piece = Vec::new();
            while let Some(data) = rows.next().await {
                piece.extend_from_slice(&data?);
                if PIECE_BYTES_MIN <= piece.len() {
                    pass(answers, &mut piece).await;
                }
            }
            pass(answers, &mut piece).await;
            Answer::Done
        }
        Ask::Last(source) => Answer::Key(reader.last(&source).await?),
        Ask::Cut { source, range, rows } => {
            Answer::Key(reader.cut(&source, between(&range), rows).await?)
        }
        Ask::End => {
            reader.end().await?;
            Answer::Done
        }
    })
}

async fn pass(answers: &Sender<Answer>, piece: &mut Vec<u8>) {
    let mut piece = Bytes::from(std::mem::take(piece));
    while !piece.is_empty() {
        let part = piece.split_to(piece.len().min(PIECE_BYTES_MAX));
        // Nobody listens: the conversation ends.
        let _ = answers.send(Answer::Rows(part)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_whole_wherever_the_pieces_end() {
        let text = b"1\ta\n22\tb\n333\tc\n";
        for size in 1..=text.len() {
            let (mut rows, mut out) = (Rows::default(), Vec::new());
            for piece in text.chunks(size) {
                let whole = rows.add(piece).expect("not too long");
                assert!(whole.is_empty() || whole.ends_with(b"\n"), "{size}");
                out.extend(whole);
            }
            assert_eq!((out.as_slice(), rows.0.len()), (&text[..], 0), "{size}");
        }
    }

    #[tokio::test]
    async fn who_reads_elsewhere_and_is_gone_is_replaced() {
        let (there, _asked, answers) = Conversation::new();
        let gone = Failure { class: FailureClass::Connection, cause: "away".into() };
        let not_read = NotRead { then: Then::Fail, failure: gone.clone() };
        answers.send(Answer::NotRead(not_read)).await.expect("it is heard");
        drop(answers);
        for _ in 0..2 {
            assert_eq!(there.next().await.expect_err("it is gone").then, Then::Lost);
        }
        // What would fail anywhere fails.
        let fatal = NotRead { then: Then::Fail, failure: Failure::fatal("no") };
        assert_eq!(fatal.elsewhere().then, Then::Fail);
    }
}
