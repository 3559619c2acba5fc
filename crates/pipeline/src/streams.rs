//! A task of several streams (`source.streams`): each runs as a task of its own, side by side; they begin, end, park and
//! fail as one.
//!
//! The first stream begins alone: it takes the task from an older process, refuses another number of streams than the task
//! has begun with, and tells readers of tables. Where no snapshot makes up for what lies between the slots, all begin at
//! the position of the last one.

use crate::failure::Failure;
use crate::hosts::Here;
use crate::progress::Progress;
use crate::task::{self, Options, Outcome};
use config::streams::STREAMS_MAX;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kafka::meta::MetaState;
use kafka::names::Names;
use postgres::Session;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span};
use wal::Lsn;

/// How often the figures of the streams are gathered.
const GATHER_EVERY: Duration = Duration::from_millis(20);

/// What the streams of a task know of each other.
#[derive(Debug)]
struct Companions {
    /// The first one has begun.
    begun: watch::Sender<bool>,
    /// Where the slot of each began.
    points: watch::Sender<Vec<Option<Lsn>>>,
}

/// The hold of one stream on the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    /// From 1.
    number: u8,
    /// `None`: there are no others.
    companions: Option<Rc<Companions>>,
}

impl Beside {
    /// Of all streams, in their order.
    fn all(streams: u8) -> Vec<Self> {
        let begun = watch::Sender::new(false);
        let points = watch::Sender::new(vec![None; usize::from(streams)]);
        let companions = Some(Rc::new(Companions { begun, points }));
        (1..=streams).map(|number| Self { number, companions: companions.clone() }).collect()
    }

    /// Waits for the first stream.
    pub(crate) async fn may_begin(&self) {
        if let Some(companions) = self.companions.as_ref().filter(|_| 1 < self.number) {
            // The sender lives as long as this does.
            let _ = companions.begun.subscribe().wait_for(|begun| *begun).await;
        }
    }

    /// This stream owns its part of the task; the first one lets the others begin. `point`: where its slot began.
    pub(crate) fn begins(&self, point: Lsn) {
        let Some(companions) = &self.companions else { return };
        companions.points.send_modify(|points| {
            points[usize::from(self.number - 1)] = Some(point);
        });
        if self.number == 1 {
            companions.begun.send_replace(true);
        }
    }

    /// The position of the slot that was made last, `own` where there are no others.
    pub(crate) async fn last_point(&self, own: Lsn) -> Lsn {
        let Some(companions) = &self.companions else { return own };
        let mut points = companions.points.subscribe();
        let all = points.wait_for(|points| points.iter().all(Option::is_some)).await;
        all.map_or(own, |points| points.iter().flatten().copied().max().unwrap_or(own))
    }
}

/// Another number of streams than the task has begun with would leave tables to slots that do not know them.
///
/// # Errors
/// A failure that says so.
pub(crate) fn unchanged(spec: &config::Task, state: &MetaState) -> Result<(), Failure> {
    let wanted = spec.source.streams;
    let begun = match &state.revision {
        Some(revision) => revision.newest().1.streams,
        // A task of an earlier release did not write its revision down.
        None if state.snapshot.is_some() => 1,
        None => return Ok(()),
    };
    if begun == wanted {
        return Ok(());
    }
    Err(Failure::fatal(format!(
        "task `{}` has begun with `source.streams: {begun}`, and {wanted} are asked for now: set {begun} again, or begin \
         anew with `distributary run TASK.yaml --reseed`, which takes new slots and new snapshots",
        spec.task
    )))
}

/// Runs every stream until the task is stopped, has caught up, or one of them cannot go on.
pub(crate) async fn run(
    spec: Arc<config::Task>,
    options: Options,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Outcome {
    let mut outcome = run_all(&spec, &options, &progress, stop).await;
    if options.release && matches!(outcome, Outcome::CaughtUp | Outcome::Stopped { .. }) {
        let released = release(&spec, &options, 1..=spec.source.streams).await;
        outcome = released.map_or_else(
            |failure| Outcome::Failed {
                cause: format!("not everything could be removed: {failure}; run it again"),
            },
            |()| Outcome::Released,
        );
    }
    task::trace_end(&progress, &outcome);
    outcome
}

async fn run_all(
    spec: &Arc<config::Task>,
    options: &Options,
    progress: &Arc<Progress>,
    stop: CancellationToken,
) -> Outcome {
    let count = spec.source.streams;
    // One that ends otherwise than well ends the others.
    let stop = stop.child_token();
    let (mut running, mut figures) = (FuturesUnordered::new(), Vec::new());
    for beside in Beside::all(count) {
        let number = beside.number;
        let figure = Arc::new(Progress::of_stream(progress));
        figures.push(Arc::clone(&figure));
        let stream = Arc::new(spec.as_stream(number));
        // What belongs to the whole task is removed when all have ended.
        let options = Options { release: false, ..options.clone() };
        let life = task::run_beside(stream, options, figure, stop.clone(), Rc::new(Here), beside);
        let life = actix_rt::spawn(life.instrument(info_span!("stream", number)));
        running.push(async move { (number, life.await) });
    }
    let mut outcomes = Vec::new();
    let mut gathering = tokio::time::interval(GATHER_EVERY);
    while outcomes.len() < usize::from(count) {
        tokio::select! {
            ended = running.next() => {
                let Some((number, ended)) = ended else { break };
                let outcome = ended.unwrap_or_else(|error| Outcome::Failed { cause: error.to_string() });
                let outcome = named(number, count, outcome);
                if !matches!(outcome, Outcome::CaughtUp) {
                    stop.cancel();
                }
                outcomes.push(outcome);
            }
            _ = gathering.tick() => progress.gather(&figures),
        }
    }
    progress.gather(&figures);
    together(outcomes)
}

/// Says of which stream it is why the task ends.
fn named(number: u8, count: u8, outcome: Outcome) -> Outcome {
    let of = |cause: String| format!("stream {number} of {count}: {cause}");
    match outcome {
        Outcome::Parked { cause, remedy } => Outcome::Parked { cause: of(cause), remedy },
        Outcome::Failed { cause } => Outcome::Failed { cause: of(cause) },
        Outcome::Overtaken { cause } => Outcome::Overtaken { cause: of(cause) },
        Outcome::CaughtUp | Outcome::Stopped { .. } | Outcome::Released => outcome,
    }
}

/// How the task ends whose streams have ended so, in this order.
fn together(outcomes: Vec<Outcome>) -> Outcome {
    let mut ended = Outcome::CaughtUp;
    for outcome in outcomes {
        ended = match (ended, outcome) {
            // The first one that could not go on is why the others were stopped.
            (
                ended @ (Outcome::Parked { .. }
                | Outcome::Failed { .. }
                | Outcome::Overtaken { .. }),
                _,
            ) => ended,
            // The server keeps the WAL once for all of them.
            (Outcome::Stopped { retained_bytes: a }, Outcome::Stopped { retained_bytes: b }) => {
                Outcome::Stopped { retained_bytes: a.max(b) }
            }
            (ended, Outcome::CaughtUp | Outcome::Released) => ended,
            (_, outcome) => outcome,
        };
    }
    ended
}

/// Removes what streams of these numbers have on the server and in Kafka; what is not there is fine.
async fn release(
    spec: &config::Task,
    options: &Options,
    streams: impl Iterator<Item = u8>,
) -> Result<(), Failure> {
    for number in streams {
        let stream = spec.as_stream(number);
        let postgres = postgres::settings::Settings::new(&stream, &options.folder)?;
        let kafka = kafka::settings::Settings::new(&stream, &options.folder)?;
        let names = Names::new(&stream.sink.state_prefix, &stream.life())
            .map_err(|error| Failure::fatal(error.to_string()))?;
        task::release(&postgres, &kafka, &names, &stream.slot_of(number)).await?;
    }
    Ok(())
}

/// A task that begins anew with fewer streams leaves nothing of the others behind.
///
/// # Errors
/// When the server or Kafka cannot be asked, or does not permit it.
pub(crate) async fn release_surplus(spec: &config::Task, options: &Options) -> Result<(), Failure> {
    let settings = postgres::settings::Settings::new(spec, &options.folder)?;
    let session = Session::connect(&settings).await?;
    let mut surplus = Vec::new();
    for number in spec.source.streams.max(1) + 1..=STREAMS_MAX {
        let name = spec.slot_of(number);
        if session.slot(&name).await?.is_some() || session.publication(&name).await?.is_some() {
            surplus.push(number);
        }
    }
    if !surplus.is_empty() {
        info!(streams = ?surplus, "the task has fewer streams now: what the others had is removed");
    }
    release(spec, options, surplus.into_iter()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Shape;
    use kafka::meta::Revision;

    fn failed(cause: &str) -> Outcome {
        Outcome::Failed { cause: cause.into() }
    }

    fn stopped(retained_bytes: impl Into<Option<u64>>) -> Outcome {
        Outcome::Stopped { retained_bytes: retained_bytes.into() }
    }

    #[test]
    fn streams_end_as_one() {
        let caught_up = || Outcome::CaughtUp;
        assert_eq!(together(vec![caught_up(), caught_up()]), Outcome::CaughtUp);
        assert_eq!(together(vec![caught_up(), stopped(7)]), stopped(7));
        assert_eq!(together(vec![stopped(7), caught_up(), stopped(9)]), stopped(9));
        assert_eq!(together(vec![stopped(None), stopped(9)]), stopped(9));
        assert_eq!(together(vec![failed("a"), stopped(9), failed("b")]), failed("a"));
        assert_eq!(together(vec![caught_up(), failed("a")]), failed("a"));
        assert_eq!(named(2, 3, failed("a")), failed("stream 2 of 3: a"));
    }

    #[test]
    fn a_task_keeps_the_number_of_its_streams() {
        let spec = |streams| {
            let mut spec = config::Task { task: "shop".into(), ..config::Task::default() };
            spec.source.streams = streams;
            spec
        };
        let begun = |streams| {
            let shape = Shape { streams, ..Shape::default() };
            let revision = Revision { number: 1, start: Lsn(0), shape, marks: Vec::new() };
            MetaState { revision: Some(revision), ..MetaState::default() }
        };
        assert!(unchanged(&spec(3), &MetaState::default()).is_ok(), "a new task");
        assert!(unchanged(&spec(3), &begun(3)).is_ok());
        for (streams, before) in [(1, 3), (3, 1), (3, 2)] {
            let failure = unchanged(&spec(streams), &begun(before)).expect_err("refused");
            assert!(failure.cause.contains(&format!("source.streams: {before}")), "{failure}");
        }
    }

    #[actix_rt::test]
    async fn the_first_stream_begins_alone_and_the_last_slot_decides() {
        let [one, two] = <[Beside; 2]>::try_from(Beside::all(2)).expect("two");
        let waits = two.clone();
        let waiting = actix_rt::spawn(async move { waits.may_begin().await });
        one.may_begin().await;
        assert!(!waiting.is_finished());
        one.begins(Lsn(10));
        waiting.await.expect("no panic");
        two.begins(Lsn(30));
        assert_eq!(one.last_point(Lsn(10)).await, Lsn(30));
        assert_eq!(Beside::default().last_point(Lsn(10)).await, Lsn(10));
    }
}
