//! The stages before the router, wherever they run: each takes orders and reports events. What carries them
//! to another node is not this package's business.
//!
//! * `inlet`: stands for a stage on another node, beside the stage that it feeds.
//! * `hosted`: a stage of another node's task, here.
//!
//! A batch brings its credit with it in an event: whoever carries it gives back what the other side has lent.

mod hosted;
mod inlet;
mod threaded;

pub use hosted::{ReaderHost, host};
pub use inlet::{Inlet, Sink, Told};
pub use postgres::replication::Line;

use crate::batch::{Decoded, WalBatch};
use crate::decoder::SPOOL_BYTES_MAX;
use crate::failure::Failure;
use crate::reader::{self, Obey, OpenStream};
use crate::source::open_stream;
use crate::spooling::{SpoolOptions, spooled};
use actix::{Actor, Addr};
use config::{DdlCapture, Switch};
use postgres::replication::StreamOptions;
use postgres::settings::Settings;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use supervision::Credit;
pub use supervision::{Budget, Limits};
use threaded::ThreadedReader;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use wal::relation::RelationDescription;
use wal::spool::Spool;
use wal::{Lsn, Table};

/// Bytes that one task may hold between the WAL and Kafka.
const CREDIT_BYTES_MAX: u32 = 16 << 20;
/// Version of pgoutput's protocol that every server since 11 speaks.
const PROTOCOL: u32 = 1;
/// The one that has transactions in progress. Behind the spools they are those of the first one.
const PROTOCOL_STREAMING: u32 = 2;

/// What a task's bytes are paid from, on each node that holds some of them.
#[must_use]
pub fn budget() -> Budget {
    Budget::new(CREDIT_BYTES_MAX)
}

/// A stage that another node may run for the one after it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum UpstreamStage {
    Reader,
    /// With the reader behind it.
    Decoder,
}

/// What a stage is told. The queue's end tells it to end.
#[derive(Clone, Debug)]
pub enum Order {
    /// A position that may be confirmed to the server.
    Confirmed(Lsn),
    /// The table that was asked for by [`Event::Describe`].
    Learned(Arc<Table>),
    /// How much its reader may read in a second from now on.
    Limits(Limits),
    /// Take in nothing more.
    Pause,
    /// Take leave of the server, and say [`Event::Closed`].
    Close,
}

/// What a stage reports. After the last two nothing follows.
#[derive(Debug)]
pub enum Event {
    /// From a reader.
    Wal(WalBatch, Seen),
    /// From a decoder, which waits for the table.
    Describe(RelationDescription),
    /// From a decoder.
    Changes(Decoded, Seen),
    Failed(Failure),
    /// It has ended as it was told to.
    Closed,
}

/// What the reader has heard from the server so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    pub server_end: Lsn,
    pub wal_bytes: u64,
}

/// Takes what a stage reports, from any thread.
pub type Report = Arc<dyn Fn(Event) + Send + Sync>;

/// Starts a stage elsewhere, which reports until it ends.
pub type Start = Box<dyn FnOnce(Report) -> UnboundedSender<Order> + Send>;

/// One life of a stage, and all that another node needs to know for it.
#[derive(Clone, Debug)]
pub struct OpenStage {
    pub stage: UpstreamStage,
    /// The spec in force, whose secrets are references.
    pub spec: Arc<config::Task>,
    /// The life of the front.
    pub generation: u64,
    /// Where the stream starts.
    pub from: Lsn,
    /// That was decided for a server on this line, and holds on no other.
    pub line: Line,
    /// The position that is confirmed already.
    pub confirmed: Lsn,
    /// Somebody waits for each position.
    pub eager: bool,
    /// `server_version_num`, where the server is to send values in binary form; `None`: as text.
    pub binary: Option<u32>,
}

impl OpenStage {
    /// How much its reader may read in a second.
    #[must_use]
    pub fn limits(&self) -> Limits {
        limits(&self.spec.throttle)
    }

    /// The stream that its reader reads.
    #[must_use]
    pub fn stream(&self, settings: Settings) -> OpenStream {
        let slot = slot_name(&self.spec);
        let streaming = self.spec.source.streaming == Switch::On;
        let options = StreamOptions {
            from: self.from,
            line: Some(self.line),
            publications: vec![slot.clone()],
            slot,
            protocol: if streaming { PROTOCOL_STREAMING } else { PROTOCOL },
            messages: captures_ddl(&self.spec),
            binary: self.binary.is_some(),
            streaming,
        };
        open_stream(settings, options)
    }

    /// Where its reader spools transactions in progress: below `data_dir` of its node. `None`: none come.
    #[must_use]
    pub fn spools(&self, data_dir: &Path) -> Option<SpoolOptions> {
        let source = &self.spec.source;
        (source.streaming == Switch::On).then(|| SpoolOptions {
            folder: data_dir.to_owned(),
            bytes_max: source.spool_bytes_max.0,
        })
    }
}

/// How much of the stream may be read in a second.
#[must_use]
pub fn limits(throttle: &config::Throttles) -> Limits {
    let config::StreamThrottle { rows, bytes } = throttle.incremental;
    Limits { rows, bytes: bytes.0 }
}

/// Whether DDL statements are looked for in the stream.
fn captures_ddl(spec: &config::Task) -> bool {
    spec.source.ddl != DdlCapture::Off
}

/// How a task's stream is decoded.
pub(crate) fn decoding(open: &OpenStage) -> wal::decoder::Options {
    wal::decoder::Options {
        ddl: captures_ddl(&open.spec).then(|| slot_name(&open.spec).into()),
        binary: open.binary,
        ..wal::decoder::Options::default()
    }
}

/// What holds a transaction until its length is known, where records tell it.
pub(crate) fn spool(spec: &config::Task) -> Option<Spool<Credit>> {
    let helpers = captures_ddl(spec).then(|| slot_name(spec));
    let spool = || Spool::new(SPOOL_BYTES_MAX).with_statements(helpers.as_deref());
    spec.sink.wants_lengths().then(spool)
}

/// Name of a task's slot and publication, and of the schema of its helper objects.
pub(crate) fn slot_name(spec: &config::Task) -> String {
    spec.slot_of(spec.stream)
}

/// A stage that cannot be started.
#[must_use]
pub fn failing(failure: Failure) -> Start {
    Box::new(move |report| {
        report(Event::Failed(failure));
        unbounded_channel().0
    })
}

/// What reads, or stands for what reads.
pub(crate) enum Source {
    Here(ThreadedReader),
    Elsewhere(Addr<Inlet>),
}

/// How to begin a [`Source`] of WAL.
pub(crate) enum ReadFrom {
    Here {
        open: OpenStream,
        budget: Budget,
        /// Transactions come while they are in progress.
        spools: Option<SpoolOptions>,
    },
    Elsewhere(Start),
}

/// What a source of WAL needs wherever it runs.
pub(crate) struct SourceParts {
    pub confirmed: watch::Receiver<Lsn>,
    /// How much may be read in a second.
    pub limits: watch::Receiver<Limits>,
    pub decoder: actix::Recipient<WalBatch>,
    pub eager: bool,
    pub progress: Arc<crate::Progress>,
    pub lifeline: supervision::Lifeline,
}

impl Source {
    pub(crate) fn begin(from: ReadFrom, parts: SourceParts) -> Self {
        let SourceParts { confirmed, limits, decoder, eager, progress, lifeline } = parts;
        match from {
            ReadFrom::Here { open, budget, spools } => {
                let open = match spools {
                    Some(options) => spooled(open, options, Arc::clone(&progress)),
                    None => open,
                };
                let parts = reader::Parts {
                    open,
                    budget,
                    limits,
                    confirmed,
                    decoder,
                    eager,
                    progress,
                    lifeline,
                };
                Self::Here(ThreadedReader::start(parts))
            }
            ReadFrom::Elsewhere(start) => {
                let sink = Sink::Decoder(decoder);
                let told = inlet::Told { confirmed, limits };
                Self::Elsewhere(Inlet::new(start, sink, told, progress, lifeline).start())
            }
        }
    }

    pub(crate) fn obey(&self, order: reader::Order) {
        match self {
            Self::Here(reader) => reader.obey(order),
            Self::Elsewhere(inlet) => inlet.do_send(Obey(order)),
        }
    }

    /// Whether it has not ended yet.
    pub(crate) fn connected(&self) -> bool {
        match self {
            Self::Here(reader) => reader.is_there(),
            Self::Elsewhere(inlet) => inlet.connected(),
        }
    }

    /// Whatever it still does, nobody listens any more.
    pub(crate) fn retire(&self) {
        if let Self::Elsewhere(inlet) = self {
            inlet.do_send(crate::batch::Retire);
        }
    }
}

impl fmt::Display for UpstreamStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reader => "reader",
            Self::Decoder => "decoder",
        })
    }
}
