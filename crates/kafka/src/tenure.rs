//! Who writes a lane in at-least-once delivery, where no epoch keeps an older owner from it: each holds a lease, and
//! a take-over waits until the older one's has run out and what it had handed over has been written or given up
//! (delivery-protocol.md, section 13).

use crate::Error;
use crate::checkpoint::{CHECKPOINT_KEY, ENDED_KEY, Ended, FENCE_KEY, Fence};
use crate::names::Seat;
use crate::process::Process;
use crate::read::{Entry, Reader};
use crate::settings::{MESSAGE_TIMEOUT, Settings};
use crate::writer::Writer;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tracing::info;

/// For so long after the last proof that nobody has taken over an owner hands records to its client.
const LEASE: Duration = Duration::from_secs(5);
/// The library looks about once a second which records have become too old.
const SCAN: Duration = Duration::from_secs(1);
/// After a new owner's fence an older one that it knows nothing of writes for less than this.
const TAKE_OVER_MAX: Duration = LEASE.saturating_add(MESSAGE_TIMEOUT).saturating_add(SCAN);
const PAUSE: Duration = Duration::from_millis(5);
/// How often whoever waits for an older owner looks whether its process has ended.
const WATCH: Duration = Duration::from_millis(100);

/// An owner within this process, which the next one here can simply end.
#[derive(Debug, Default)]
pub(crate) struct Tenure {
    revoked: AtomicBool,
}

type Tenures = HashMap<(String, i32), Vec<Weak<Tenure>>>;

impl Tenure {
    /// Ends the older owners of the seat in this process, and waits until they have thrown away what they had not
    /// written yet.
    pub(crate) fn take(seat: &Seat) -> Result<Arc<Self>, Error> {
        static TENURES: LazyLock<Mutex<Tenures>> = LazyLock::new(Mutex::default);
        let mine = Arc::new(Self::default());
        let older = {
            let mut all = TENURES.lock().unwrap_or_else(PoisonError::into_inner);
            let of_seat = all.entry((seat.topic.clone(), seat.partition)).or_default();
            of_seat.retain(|it| 0 < it.strong_count());
            let older = of_seat.clone();
            of_seat.push(Arc::downgrade(&mine));
            older
        };
        older
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|it| it.revoked.store(true, Ordering::Release));
        let until = Instant::now() + TAKE_OVER_MAX;
        while older.iter().any(|it| 0 < it.strong_count()) && Instant::now() < until {
            mine.check(seat)?;
            thread::sleep(PAUSE);
        }
        Ok(mine)
    }

    fn check(&self, seat: &Seat) -> Result<(), Error> {
        if self.revoked.load(Ordering::Acquire) { Err(fenced(seat)) } else { Ok(()) }
    }
}

fn fenced(seat: &Seat) -> Error {
    Error::Fenced { transactional_id: seat.transactional_id.clone() }
}

/// An owner's right to write, for a while.
pub(crate) struct Lease {
    tenure: Arc<Tenure>,
    settings: Settings,
    seat: Seat,
    term: i64,
    /// Offset of the newest record of the seat that this owner knows of.
    last: i64,
    /// When it was certain that nobody had taken over.
    proven: Instant,
}

impl Lease {
    /// `asked`: before the fence at `term` was written.
    pub(crate) fn new(
        settings: &Settings,
        seat: Seat,
        tenure: Arc<Tenure>,
        term: i64,
        asked: Instant,
    ) -> Self {
        Self { tenure, settings: settings.clone(), seat, term, last: term, proven: asked }
    }

    /// Whether this owner may hand records over. Asks only where the last proof is old; `writer` is connected.
    pub(crate) fn hold(&mut self, writer: &Writer) -> Result<(), Error> {
        self.tenure.check(&self.seat)?;
        if self.proven.elapsed() < LEASE { Ok(()) } else { self.look(writer) }
    }

    /// Whether another owner here has ended this one.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.tenure.check(&self.seat)
    }

    /// A record of the seat was written at `offset`, and asked for not before `asked`. Where it follows the one before, it
    /// proves that nobody has announced itself in between.
    pub(crate) fn wrote(
        &mut self,
        writer: &Writer,
        offset: i64,
        asked: Instant,
    ) -> Result<(), Error> {
        if offset == self.last + 1 {
            (self.last, self.proven) = (offset, asked);
            return Ok(());
        }
        self.look(writer)
    }

    fn look(&mut self, writer: &Writer) -> Result<(), Error> {
        let asked = Instant::now();
        let end = writer.end_of(&self.seat.topic, self.seat.partition)?;
        if self.last + 1 < end {
            let reader = Reader::uncommitted(&self.settings, &self.seat, self.last + 1)?;
            let entries = reader.to_end()?;
            if entries.iter().any(|it| it.key == FENCE_KEY && self.term < it.offset) {
                return Err(fenced(&self.seat));
            }
            self.last = end - 1;
        }
        self.proven = asked;
        Ok(())
    }

    pub(crate) fn ended(&self) -> Ended {
        Ended { term: self.term }
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }
}

/// An owner that may still write while the next one opens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Older {
    pub(crate) term: i64,
    /// `None`: it has not said.
    pub(crate) process: Option<Process>,
}

/// Of an opening's `entries`, whose fence is at `term`: the owners before it that have not said that they ended. One that has written a checkpoint had
/// waited for all before it. `unknown`: also those that do not say which process they are, be it because they had an epoch.
pub(crate) fn older(entries: &[Entry], term: i64, unknown: bool) -> Vec<Older> {
    #[derive(Deserialize)]
    struct Of {
        term: i64,
    }
    let mut owners: Vec<Older> = Vec::new();
    for entry in entries.iter().filter(|it| it.offset < term) {
        let of = || serde_json::from_slice::<Of>(&entry.value).ok().map(|it| it.term);
        match entry.key.as_str() {
            FENCE_KEY => {
                let fence = serde_json::from_slice::<Fence>(&entry.value).ok();
                let process = fence.and_then(|it| it.process);
                owners.push(Older { term: entry.offset, process });
            }
            CHECKPOINT_KEY => {
                let Some(writer) = of() else { continue };
                // One of an owner that has been taken over proves nothing.
                if owners.last().is_none_or(|newest| newest.term <= writer) {
                    let known = owners.pop().filter(|it| it.term == writer);
                    owners = vec![known.unwrap_or(Older { term: writer, process: None })];
                }
            }
            ENDED_KEY => {
                let ended = of();
                owners.retain(|it| Some(it.term) != ended);
            }
            _ => {}
        }
    }
    owners.retain(|it| unknown || it.process.is_some());
    owners
}

/// Waits until the older owners cannot write any more. `reader` has read up to the fence at `term`.
pub(crate) fn await_older(
    seat: &Seat,
    reader: &Reader,
    mut older: Vec<Older>,
    tenure: Option<&Tenure>,
) -> Result<(), Error> {
    let until = Instant::now() + TAKE_OVER_MAX;
    let this = Process::this();
    // What this process held, it has ended itself.
    let is_gone = |it: &Process| this.as_ref().is_some_and(|this| it == this || it.is_gone(this));
    let mut told = false;
    loop {
        older.retain(|it| !it.process.as_ref().is_some_and(is_gone));
        if older.is_empty() || until <= Instant::now() {
            return Ok(());
        }
        if !told {
            told = true;
            info!(
                lane = seat.transactional_id,
                seconds_max = TAKE_OVER_MAX.as_secs(),
                "an older owner may still write: waiting until it cannot, or says that it has ended"
            );
        }
        if let Some(tenure) = tenure {
            tenure.check(seat)?;
        }
        let Some(entry) = reader.next(WATCH)? else { continue };
        match entry.key.as_str() {
            FENCE_KEY => return Err(fenced(seat)),
            ENDED_KEY => {
                let ended = serde_json::from_slice::<Ended>(&entry.value).ok();
                older.retain(|it| Some(it.term) != ended.as_ref().map(|it| it.term));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::VERSION;
    use crate::names::LaneId;

    fn fence(offset: i64, process: Option<Process>) -> Entry {
        let fence = Fence {
            v: VERSION,
            task: "shop".into(),
            lane: LaneId::Lane(3),
            node: "w1".into(),
            ver: "0.1.0".into(),
            process,
        };
        let value = serde_json::to_vec(&fence).expect("JSON");
        Entry { offset, key: FENCE_KEY.into(), value }
    }

    fn of(offset: i64, key: &str, term: i64) -> Entry {
        Entry { offset, key: key.into(), value: format!(r#"{{"term":{term}}}"#).into_bytes() }
    }

    fn terms(entries: &[Entry], unknown: bool) -> Vec<i64> {
        older(entries, 100, unknown).into_iter().map(|it| it.term).collect()
    }

    #[test]
    fn an_owner_is_waited_for_unless_it_has_ended_or_was_waited_for_before() {
        let here = Process::this();
        let own = fence(100, here.clone());
        assert!(terms(&[fence(100, here.clone())], true).is_empty());
        let begun = [fence(1, here.clone()), fence(2, None), fence(3, here.clone()), own];
        assert_eq!(terms(&begun, true), [1, 2, 3], "none has written");
        assert_eq!(terms(&begun, false), [1, 3]);
        let wrote = [fence(1, here.clone()), fence(2, here.clone()), of(3, CHECKPOINT_KEY, 2)];
        assert_eq!(terms(&wrote, true), [2], "it had waited for the first");
        let stale = [fence(1, here.clone()), fence(2, here.clone()), of(3, CHECKPOINT_KEY, 1)];
        assert_eq!(terms(&stale, true), [1, 2], "taken over, it proves nothing");
        let ended = [fence(1, here.clone()), of(2, CHECKPOINT_KEY, 1), of(3, ENDED_KEY, 1)];
        assert!(terms(&ended, true).is_empty());
        let late = [fence(1, here.clone()), fence(2, here), of(3, ENDED_KEY, 1)];
        assert_eq!(terms(&late, true), [2]);
    }

    #[test]
    fn an_owner_whose_fence_was_compacted_away_is_unknown() {
        let compacted = [of(9, CHECKPOINT_KEY, 5)];
        assert_eq!(older(&compacted, 100, true), [Older { term: 5, process: None }]);
        assert!(older(&compacted, 100, false).is_empty());
    }
}
