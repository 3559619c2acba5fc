//! Alerts: a task fails, is late, or is well again. [`Watch`] decides, and is told the time; [`Alerts`] looks at the
//! task's figures and posts what it says to `alerts.webhook`.

use crate::Outcome;
use crate::health::danger;
use crate::progress::{LaneState, Progress};
use config::Secret;
use serde::Serialize;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use telemetry::webhook::Webhook;

/// How often the figures are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// What passes within this is no alert, and what is well for less has not recovered.
const LASTING: Duration = Duration::from_secs(5);
/// One thing alerts no more often than this, however often it comes and goes.
const REPEATED_MIN: Duration = Duration::from_secs(300);
/// How long the last alerts may take once the task has ended.
const FINISH_MAX: Duration = Duration::from_secs(8);

/// What an alert is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The task does not run: it is tried again, or has been given up.
    Failure,
    Recovered,
    /// Changes are later than `alerts.latency`.
    Latency,
    LatencyRecovered,
    /// The slot may be lost, or stands still (`health`).
    SlotInDanger,
    SlotSafe,
    /// Tables are not captured, or their users are kept from updating, for want of a replica identity.
    TablesUnfit,
    TablesFit,
    /// A DDL statement was not captured.
    DdlGap,
    /// An applied spec does not come into force; the task goes on by the one before.
    ChangeRefused,
}

/// What is seen of a task.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// What is being tried again.
    pub trouble: Option<String>,
    /// From the commit of the newest durable change until now; zero: nothing waits.
    pub latency: Duration,
    /// What endangers the slot.
    pub danger: Option<(String, String)>,
    /// What is wrong with tables.
    pub unfit: Option<(String, String)>,
    /// DDL statements that were not captured so far.
    pub ddl_gaps: u64,
}

/// Decides when to alert. Pure.
#[derive(Debug)]
pub struct Watch {
    latency_max: Option<Duration>,
    failing: Condition,
    late: Condition,
    endangered: Condition,
    unfit: Condition,
    gaps: Gaps,
}

/// DDL statements that were not captured: none of them is ever over.
#[derive(Debug, Default)]
struct Gaps {
    told: u64,
    told_at: Option<Instant>,
}

impl Gaps {
    /// Whether there are some that were not told of.
    fn look(&mut self, now: Instant, count: u64) -> bool {
        let is_early =
            self.told_at.is_some_and(|at| now.saturating_duration_since(at) < REPEATED_MIN);
        if count <= self.told || is_early {
            return false;
        }
        (self.told, self.told_at) = (count, Some(now));
        true
    }
}

/// Something that is well or not, with a memory against flapping.
#[derive(Debug, Default)]
struct Condition {
    is_raised: bool,
    /// Since when it is other than what was said last.
    since: Option<Instant>,
    raised_at: Option<Instant>,
}

impl Watch {
    /// `latency_max`: `alerts.latency`.
    #[must_use]
    pub fn new(latency_max: Option<Duration>) -> Self {
        let condition = Condition::default;
        let (failing, late) = (condition(), condition());
        let (endangered, unfit) = (condition(), condition());
        Self { latency_max, failing, late, endangered, unfit, gaps: Gaps::default() }
    }

    /// That the task does not run was told before this began to look.
    pub fn has_told_of_failure(&mut self) {
        self.failing.is_raised = true;
    }

    /// Whether the end of a failure is still to be told.
    #[must_use]
    pub fn has_to_end(&self) -> bool {
        self.failing.is_raised
    }

    /// Another limit holds from now on.
    pub fn limit(&mut self, latency_max: Option<Duration>) {
        self.latency_max = latency_max;
    }

    /// What is to be said after a look.
    pub fn look(&mut self, now: Instant, seen: &Seen) -> Vec<Event> {
        let failing = self.failing.look(now, seen.trouble.is_some());
        let is_late = self.latency_max.is_some_and(|max| max < seen.latency);
        let late = self.late.look(now, is_late);
        let failing = failing.map(|raised| if raised { Event::Failure } else { Event::Recovered });
        let late = late.map(|raised| if raised { Event::Latency } else { Event::LatencyRecovered });
        let endangered = self.endangered.look(now, seen.danger.is_some());
        let endangered =
            endangered.map(|raised| if raised { Event::SlotInDanger } else { Event::SlotSafe });
        let unfit = self.unfit.look(now, seen.unfit.is_some());
        let unfit = unfit.map(|raised| if raised { Event::TablesUnfit } else { Event::TablesFit });
        let gap = self.gaps.look(now, seen.ddl_gaps).then_some(Event::DdlGap);
        failing.into_iter().chain(late).chain(endangered).chain(unfit).chain(gap).collect()
    }
}

impl Condition {
    /// `true`: it is to be raised; `false`: it is over.
    fn look(&mut self, now: Instant, is_bad: bool) -> Option<bool> {
        if is_bad == self.is_raised {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let is_early = is_bad
            && self.raised_at.is_some_and(|at| now.saturating_duration_since(at) < REPEATED_MIN);
        if now.saturating_duration_since(since) < LASTING || is_early {
            return None;
        }
        self.since = None;
        self.is_raised = is_bad;
        if is_bad {
            self.raised_at = Some(now);
        }
        Some(is_bad)
    }
}

/// What is posted.
#[derive(Debug, Serialize)]
struct Message<'a> {
    task: &'a str,
    event: Event,
    /// `retrying`, `running`, `unplaced`, or how the task has ended: `failed`, `parked`, `precheck-failed`.
    state: &'a str,
    cause: &'a str,
    remedy: &'a str,
    latency_ms: u64,
    /// `alerts.latency`.
    latency_ms_max: Option<u64>,
    /// Milliseconds since 1970.
    time_ms: u64,
}

/// Looks at a task while it runs, and posts what is to be known.
pub struct Alerts {
    poster: Rc<RefCell<Option<Poster>>>,
    looking: tokio::task::JoinHandle<()>,
}

/// By `alerts` of the spec.
struct Poster {
    task: String,
    latency_max: Option<Duration>,
    webhook: Webhook,
}

impl Alerts {
    /// Begins to look; nobody is told where the spec asks for no alerts. `folder`: what paths of secrets are relative
    /// to. `left`: why the task did not run before, where that was told: that it runs again is told, too. Needs an actix
    /// system on this thread.
    ///
    /// # Errors
    /// When the webhook's secret cannot be had, or is no address. Says nothing of its value.
    pub fn start(
        spec: &config::Task,
        folder: &Path,
        progress: &Arc<Progress>,
        left: Option<String>,
    ) -> Result<Self, String> {
        let poster = Rc::new(RefCell::new(Poster::new(spec, folder)?));
        let looking = actix_rt::spawn(look(Rc::clone(&poster), Arc::clone(progress), left));
        Ok(Self { poster, looking })
    }

    /// Whether [`Self::start`] or [`Self::change`] can go by this spec.
    ///
    /// # Errors
    /// As these.
    pub fn check(spec: &config::Task, folder: &Path) -> Result<(), String> {
        Poster::new(spec, folder).map(drop)
    }

    /// Goes by a changed spec from now on. What was told stays told: its end is told to the new receiver.
    ///
    /// # Errors
    /// As [`Self::start`]; nothing has changed then.
    pub fn change(&self, spec: &config::Task, folder: &Path) -> Result<(), String> {
        let poster = Poster::new(spec, folder)?;
        // What waits for the former receiver is still posted.
        drop(self.poster.replace(poster));
        Ok(())
    }

    /// A changed spec cannot be carried out, and the task goes on by the one before.
    pub fn refused(&self, cause: &str, remedy: &str) {
        if let Some(poster) = &*self.poster.borrow() {
            poster.post(Event::ChangeRefused, "running", cause, remedy, Duration::ZERO);
        }
    }

    /// The task has ended. Waits a little until what is to be known has been posted.
    pub async fn finish(self, outcome: &Outcome) {
        let told = match outcome {
            Outcome::Parked { cause, remedy } => Some(("parked", &**cause, &**remedy)),
            Outcome::Failed { cause } => {
                Some(("failed", &**cause, "see the cause, then start the task again"))
            }
            // Where another process has taken over, that one speaks.
            Outcome::CaughtUp
            | Outcome::Stopped { .. }
            | Outcome::Released
            | Outcome::Overtaken { .. } => None,
        };
        self.end(told).await;
    }

    /// The task does not begin: a person must mend what the precheck has found. Waits as [`Self::finish`] does.
    pub async fn unfit(self, cause: &str, remedy: &str) {
        self.end(Some(("precheck-failed", cause, remedy))).await;
    }

    /// `told`: state, cause and remedy of a failure.
    async fn end(self, told: Option<(&str, &str, &str)>) {
        let Self { poster, looking } = self;
        looking.abort();
        drop(looking.await);
        let Some(poster) = poster.take() else { return };
        if let Some((state, cause, remedy)) = told {
            poster.post(Event::Failure, state, cause, remedy, Duration::ZERO);
        }
        let Poster { webhook, .. } = poster;
        // It ends by itself within its patience.
        drop(tokio::task::spawn_blocking(move || webhook.finish(FINISH_MAX)).await);
    }
}

/// Tells the receiver of a spec, if it has one, of a task that runs nowhere or does so again. Does not wait for it. `folder`:
/// what paths of secrets are relative to.
///
/// # Errors
/// As [`Alerts::start`].
pub fn tell(
    spec: &config::Task,
    folder: &Path,
    event: Event,
    [state, cause, remedy]: [&str; 3],
) -> Result<(), String> {
    if let Some(poster) = Poster::new(spec, folder)? {
        poster.post(event, state, cause, remedy, Duration::ZERO);
    }
    Ok(())
}

fn begin(webhook: &Secret, folder: &Path) -> Result<Webhook, String> {
    let url = webhook.resolve(folder).map_err(|error| error.to_string())?;
    Webhook::start(url).map_err(|error| error.to_string())
}

async fn look(
    poster: Rc<RefCell<Option<Poster>>>,
    progress: Arc<Progress>,
    mut left: Option<String>,
) {
    let mut watch = Watch::new(None);
    if left.is_some() {
        watch.has_told_of_failure();
    }
    let mut due = tokio::time::interval(LOOK);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        let now = Instant::now();
        // What has not begun has not recovered.
        if progress.streaming.load(Relaxed) || progress.snapshot_running.load(Relaxed) {
            left = None;
        }
        let seen = Seen {
            trouble: trouble(&progress).or_else(|| left.clone()),
            latency: progress.latency().unwrap_or_default(),
            danger: progress.slot_health().as_ref().and_then(danger),
            unfit: progress.unfit_tables(),
            ddl_gaps: progress.ddl_gaps.load(Relaxed),
        };
        let gap = progress.ddl_gap().unwrap_or_default();
        let poster = poster.borrow();
        let Some(poster) = &*poster else {
            // Nobody is told, so there is nothing whose end is to be told.
            watch = Watch::new(None);
            continue;
        };
        watch.limit(poster.latency_max);
        for event in watch.look(now, &seen) {
            let trouble = seen.trouble.as_deref().unwrap_or_default();
            let (state, cause, remedy) = match event {
                Event::Failure => {
                    ("retrying", trouble, "it is tried again, as `retry` of the spec says")
                }
                Event::Latency => {
                    ("running", trouble, "see the rates and retries in the task's status")
                }
                Event::SlotInDanger | Event::TablesUnfit => {
                    let is_slot = event == Event::SlotInDanger;
                    let said = if is_slot { &seen.danger } else { &seen.unfit };
                    let said = said.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
                    let (cause, remedy) = said.unwrap_or_default();
                    ("running", cause, remedy)
                }
                Event::DdlGap => ("running", gap.0.as_str(), gap.1.as_str()),
                Event::Recovered
                | Event::LatencyRecovered
                | Event::SlotSafe
                | Event::TablesFit
                | Event::ChangeRefused => ("running", trouble, ""),
            };
            poster.post(event, state, cause, remedy, seen.latency);
        }
    }
}

/// What is being tried again: the front, or a lane.
fn trouble(progress: &Progress) -> Option<String> {
    if let Some(trouble) = progress.trouble() {
        return Some(trouble.cause);
    }
    let retrying = |lane: &_| matches!(lane, LaneState::Retrying);
    let lane = progress.lanes().iter().position(|lane| retrying(&lane.state))?;
    Some(format!("lane {lane} has failed and is opened again; the log says why"))
}

impl Poster {
    /// `None`: the spec asks for no alerts.
    fn new(spec: &config::Task, folder: &Path) -> Result<Option<Self>, String> {
        let Some(alerts) = &spec.alerts else { return Ok(None) };
        let Some(webhook) = &alerts.webhook else { return Ok(None) };
        let webhook = begin(webhook, folder).map_err(|error| format!("alerts.webhook: {error}"))?;
        let latency_max = alerts.latency.map(|span| span.0);
        Ok(Some(Self { task: spec.task.clone(), latency_max, webhook }))
    }

    fn post(&self, event: Event, state: &str, cause: &str, remedy: &str, latency: Duration) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let message = Message {
            task: &self.task,
            event,
            state,
            cause,
            remedy,
            latency_ms: ms(latency),
            latency_ms_max: self.latency_max.map(ms),
            time_ms: ms(crate::progress::since_1970()),
        };
        match serde_json::to_string(&message) {
            Ok(text) => self.webhook.send(text),
            Err(error) => tracing::warn!(%error, "alert left out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said, second by second, of a task that is seen so.
    fn said(watch: &mut Watch, start: Instant, seen: &[(u64, Seen)]) -> Vec<(u64, Event)> {
        let mut said = Vec::new();
        for (second, seen) in seen {
            let events = watch.look(start + Duration::from_secs(*second), seen);
            said.extend(events.into_iter().map(|event| (*second, event)));
        }
        said
    }

    fn failing(is_failing: bool) -> Seen {
        Seen { trouble: is_failing.then(|| "gone".into()), ..Seen::default() }
    }

    #[test]
    fn what_lasts_is_said_once_and_so_is_its_end() {
        let seen: Vec<_> = (0..60).map(|it| (it, failing((10..40).contains(&it)))).collect();
        let mut watch = Watch::new(None);
        let expected = [(15, Event::Failure), (45, Event::Recovered)];
        assert_eq!(said(&mut watch, Instant::now(), &seen), expected);
    }

    #[test]
    fn the_end_of_what_was_told_before_is_said() {
        let seen: Vec<_> = (0..60).map(|it| (it, failing(it < 40))).collect();
        let mut watch = Watch::new(None);
        watch.has_told_of_failure();
        assert_eq!(said(&mut watch, Instant::now(), &seen), [(45, Event::Recovered)]);
    }

    #[test]
    fn what_passes_at_once_is_not_said() {
        let seen: Vec<_> = (0..600).map(|it| (it, failing(it % 8 < 4))).collect();
        assert_eq!(said(&mut Watch::new(None), Instant::now(), &seen), []);
    }

    #[test]
    fn what_comes_and_goes_is_not_said_each_time() {
        let seen: Vec<_> = (0..1200).map(|it| (it, failing(it % 20 < 10))).collect();
        let said = said(&mut Watch::new(None), Instant::now(), &seen);
        let raised: Vec<_> = said.iter().filter(|(_, event)| *event == Event::Failure).collect();
        assert_eq!(raised.len(), 4, "{said:?}");
        assert!(raised.windows(2).all(|pair| 300 <= pair[1].0 - pair[0].0), "{said:?}");
    }

    #[test]
    fn a_slot_in_danger_is_said_and_its_end() {
        let seen = |second| Seen {
            danger: (second < 30).then(|| ("full".into(), "act".into())),
            ..Seen::default()
        };
        let seen: Vec<_> = (0..60).map(|it| (it, seen(it))).collect();
        let expected = [(5, Event::SlotInDanger), (35, Event::SlotSafe)];
        assert_eq!(said(&mut Watch::new(None), Instant::now(), &seen), expected);
        let unfit =
            |(second, seen): (u64, Seen)| (second, Seen { unfit: seen.danger, ..Seen::default() });
        let seen: Vec<_> = seen.into_iter().map(unfit).collect();
        let expected = [(5, Event::TablesUnfit), (35, Event::TablesFit)];
        assert_eq!(said(&mut Watch::new(None), Instant::now(), &seen), expected);
    }

    #[test]
    fn gaps_in_ddl_are_said_at_once_and_not_one_by_one() {
        let seen = |second| Seen { ddl_gaps: second / 10, ..Seen::default() };
        let seen: Vec<_> = (0..400).map(|it| (it, seen(it.min(320)))).collect();
        let expected = [(10, Event::DdlGap), (310, Event::DdlGap)];
        assert_eq!(said(&mut Watch::new(None), Instant::now(), &seen), expected);
    }

    #[test]
    fn a_latency_above_the_limit_is_said_and_its_end() {
        let late = |seconds| Seen { latency: Duration::from_secs(seconds), ..Seen::default() };
        let seen: Vec<_> = (0..60).map(|it| (it, late(if it < 30 { 31 } else { 30 }))).collect();
        let mut watch = Watch::new(Some(Duration::from_secs(30)));
        let expected = [(5, Event::Latency), (35, Event::LatencyRecovered)];
        assert_eq!(said(&mut watch, Instant::now(), &seen), expected);
        assert_eq!(said(&mut Watch::new(None), Instant::now(), &seen), []);
    }
}
