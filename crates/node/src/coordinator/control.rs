//! The threads that wait for Kafka, whose calls block for up to half a minute.
//!
//! In:    [`Order`] of the desk.
//! Out:   [`Read`]: what the control topic holds, in order; [`Outcome`] of each order.
//! Holds: the control topic's reader, and the leader's producer while there is one.
//! Never: takes a role by itself, or writes for another term than it was asked to.

use crate::control::patiently;
use crate::state::Term;
use kafka::Error;
use kafka::control::{ControlEntry, ControlSettings, Leadership, ensure_control, is_unled, newest};
use std::sync::mpsc as blocking;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Polls of the reader that the desk may leave unread.
const POLLS_MAX: usize = 16;
/// Between two tries of what Kafka has not answered.
const TRY_PAUSE: Duration = Duration::from_secs(1);

/// Key and value of a record; without a value it deletes the ones before.
pub(super) type KeyValue = (String, Option<Vec<u8>>);

#[derive(Debug)]
pub(super) enum Order {
    /// Become the leader: `Taken` or `Dropped`.
    Take,
    /// A sign of life: `Committed`, `Unclean`, `Fenced`, or nothing where the producer is gone.
    Beat { resigned: bool },
    /// Records of one transaction: likewise.
    Write { term: Term, records: Vec<KeyValue> },
    /// Lead no more: `Dropped`.
    Drop,
}

/// What became of an order.
#[derive(Debug)]
pub(super) enum Outcome {
    Taken {
        term: Term,
    },
    Dropped,
    /// The last record lies at `offset`.
    Committed {
        began: Instant,
        offset: i64,
        is_beat: bool,
    },
    /// The producer is gone; what it was to write may have been written.
    Unclean,
    Fenced,
    /// The log cannot be trusted any more.
    Lost(Error),
}

/// What the control topic shows.
#[derive(Debug)]
pub(super) enum Read {
    /// Nobody has ever led.
    Unled,
    Entries(Vec<ControlEntry>),
    /// Everything was shown that was there when reading began.
    Present,
    /// There is nothing to be read any more.
    Lost(Error),
}

/// The desk's end of both threads. They end when it is dropped.
pub(super) struct Control {
    pub(super) orders: blocking::Sender<Order>,
    pub(super) outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub(super) read: mpsc::Receiver<Read>,
}

impl Control {
    pub(super) fn start(
        settings: ControlSettings,
        node: &str,
        address: &str,
    ) -> std::io::Result<Self> {
        let (orders, to_writer) = blocking::channel();
        let (from_writer, outcomes) = mpsc::unbounded_channel();
        let (from_tail, read) = mpsc::channel(POLLS_MAX);
        let writer = Writer {
            settings: settings.clone(),
            node: node.into(),
            address: address.into(),
            leadership: None,
            outcomes: from_writer,
        };
        let thread = |name: &str| thread::Builder::new().name(name.into());
        thread("control-writer").spawn(move || writer.run(&to_writer))?;
        thread("control-tail").spawn(move || tail(&settings, &from_tail))?;
        Ok(Self { orders, outcomes, read })
    }
}

struct Writer {
    settings: ControlSettings,
    node: String,
    address: String,
    leadership: Option<Leadership>,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

impl Writer {
    fn run(mut self, orders: &blocking::Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Take => self.take(),
                Order::Beat { resigned: false } => self.commit(true, Leadership::beat),
                Order::Beat { resigned: true } => self.commit(true, Leadership::resign),
                Order::Write { term, records } => {
                    // What another life of the producer was to write is not this one's.
                    if self.leadership.as_ref().is_some_and(|it| it.term() == term) {
                        self.commit(false, |leadership| leadership.write(&records));
                    }
                }
                Order::Drop => {
                    self.leadership = None;
                    self.say(Outcome::Dropped);
                }
            }
        }
    }

    fn take(&mut self) {
        self.leadership = None;
        match Leadership::take(&self.settings, &self.node, &self.address) {
            Ok((leadership, _)) => {
                let term = leadership.term();
                self.leadership = Some(leadership);
                self.say(Outcome::Taken { term });
            }
            Err(error @ Error::InternalTopic { .. }) => self.say(Outcome::Lost(error)),
            Err(error) => {
                warn!(%error, "the lead was not taken");
                self.say(Outcome::Dropped);
            }
        }
    }

    fn commit(&mut self, is_beat: bool, act: impl Fn(&mut Leadership) -> Result<(), Error>) {
        let Some(leadership) = &mut self.leadership else { return };
        let began = Instant::now();
        let outcome = match act(leadership) {
            Ok(()) => {
                let (offset, clean) = (leadership.committed(), leadership.is_clean());
                self.say(Outcome::Committed { began, offset, is_beat });
                if clean {
                    return;
                }
                info!("a commit was slow or repeated: the producer is opened anew");
                Outcome::Unclean
            }
            Err(Error::Fenced { .. }) => Outcome::Fenced,
            Err(error @ Error::InternalTopic { .. }) => Outcome::Lost(error),
            Err(error) => {
                warn!(%error, "the control topic could not be written");
                Outcome::Unclean
            }
        };
        self.leadership = None;
        self.say(outcome);
    }

    fn say(&self, outcome: Outcome) {
        // Nobody listens once the desk has ended.
        let _ = self.outcomes.send(outcome);
    }
}

fn tail(settings: &ControlSettings, read: &mpsc::Sender<Read>) {
    if let Err(error) = follow(settings, read) {
        let _ = read.blocking_send(Read::Lost(error));
    }
}

/// Ends without an error when nobody listens any more.
fn follow(settings: &ControlSettings, read: &mpsc::Sender<Read>) -> Result<(), Error> {
    let is_closed = || read.is_closed();
    let passes =
        |error: &Error| matches!(error, Error::Unreachable { .. } | Error::TopicMissing { .. });
    if patiently(TRY_PAUSE, is_closed, passes, || ensure_control(settings))?.is_none() {
        return Ok(());
    }
    match patiently(TRY_PAUSE, is_closed, passes, || is_unled(settings))? {
        Some(true) if read.blocking_send(Read::Unled).is_err() => return Ok(()),
        Some(_) => {}
        None => return Ok(()),
    }
    let Some(newest) = patiently(TRY_PAUSE, is_closed, passes, || newest(settings))? else {
        return Ok(());
    };
    if newest.is_none() && read.blocking_send(Read::Present).is_err() {
        return Ok(());
    }
    let mut present = newest;
    // Without a pause: who reads a leader's records late takes its place.
    crate::control::follow(settings, Duration::ZERO, is_closed, |entries| {
        let last = entries.last().map(|entry| entry.offset);
        let is_present = present.take_if(|newest| Some(*newest) <= last).is_some();
        let shown = read.blocking_send(Read::Entries(entries)).is_ok();
        shown && (!is_present || read.blocking_send(Read::Present).is_ok())
    })
}
