//! The coordinator's role (delivery-protocol.md, section 10). Pure: the caller says what happened and
//! what time it is by its own monotonic clock.
//!
//! In:    [`Event`]: what the control topic shows and what became of the orders.
//! Out:   [`Action`]: orders for whoever holds the producer of the leader.
//! Holds: the role, and since when nothing was heard.
//! Never: decides who may write. Two coordinators may both believe to lead; the epoch of the leader's
//!        producer lets only the later one commit.
//!
//! ```text
//! FOLLOWER ─ silence ─► TAKING ─ fence committed ─► READING ─ own fence read last ─► LEADER
//!    ▲                   │                           │                                │
//!    └── dropped ── STEPPING DOWN ◄── failed, other fence, not committed, resigned ───┘
//! ```

use crate::state::Term;
use std::time::{Duration, Instant};

/// The times of section 10.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// Without a leader's record for so long, a follower takes over.
    pub silence: Duration,
    /// Up to so much more, so that not all do so at once.
    pub jitter_max: Duration,
    pub heartbeat: Duration,
    /// A leader that has not committed for so long steps down.
    pub uncommitted_max: Duration,
    /// A new leader waits so long before it moves anything that has a place.
    pub settling: Duration,
    /// Without a tick for so long, this process was paused: what others wrote meanwhile is not yet
    /// read, and its silence means nothing.
    pub pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(8),
            jitter_max: Duration::from_secs(2),
            heartbeat: Duration::from_secs(2),
            uncommitted_max: Duration::from_secs(8),
            settling: Duration::from_secs(10),
            pause: Duration::from_secs(2),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// Time passes. To be told several times a second.
    Tick,
    /// The control topic has been read to its end and no leader was ever there.
    Unled,
    /// A fence was read.
    Fence { term: Term },
    /// A leader's heartbeat was read.
    Beat { term: Term, resigned: bool },
    /// [`Action::Take`] is done: the own fence is committed, and its offset is the term.
    Taken { term: Term },
    /// A transaction of the leader that began at `began` is committed, and clean.
    Committed { began: Instant },
    /// The leader's producer must be opened anew: an error, or a dirty commit (C1, C4).
    Unclean,
    /// A newer leader has fenced this one.
    Fenced,
    /// A person or the end of the process: let others lead. Its last heartbeat says so.
    Resign,
    /// [`Action::Take`] has failed, or [`Action::StepDown`] is done: there is no producer any more.
    Dropped,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// `init_transactions`, then a fence record: answered by `Taken` or `Dropped`. A producer from before
    /// is dropped first.
    Take,
    /// Lead from now on. Unless `renewed`, who lives is not known: others have led in between.
    Lead { term: Term, renewed: bool },
    /// Commit a heartbeat: answered by `Committed`, `Unclean` or `Fenced`.
    Beat { beat: u64, resigned: bool },
    /// Lead no more, drop the producer: answered by `Dropped`.
    StepDown(Cause),
}

/// Why a leader steps down.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Cause {
    #[error("another coordinator leads")]
    Fenced,
    #[error("nothing could be committed to the control topic for long")]
    Uncommitted,
    #[error("it was asked to")]
    Resigned,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// Waits for silence that lasts until then.
    Follower {
        until: Instant,
    },
    Taking {
        renewed: Option<Renewed>,
    },
    /// The own fence is committed, but not read back.
    Reading {
        term: Term,
        since: Instant,
        renewed: Option<Renewed>,
    },
    Leader(Reign),
    SteppingDown,
}

/// A leader that opens its producer anew. Unless someone has led in between, it knows what it knew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Renewed {
    term: Term,
    moves_from: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Reign {
    term: Term,
    moves_from: Instant,
    /// When the last committed transaction began.
    committed: Instant,
    /// When the last heartbeat was ordered.
    beaten: Option<Instant>,
    beat: u64,
    in_flight: bool,
    resigned: bool,
}

#[derive(Clone, Debug)]
pub struct Leadership {
    timing: Timing,
    role: Role,
    ticked: Instant,
    /// The highest fence read, and the one before it.
    fence: Option<Term>,
    fence_before: Option<Term>,
    /// This coordinator is about to end.
    retired: bool,
}

impl Leadership {
    /// A follower. `jitter`, here and later, is a random number.
    #[must_use]
    pub fn new(timing: Timing, now: Instant, jitter: u32) -> Self {
        let until = now + timing.silence + spread(timing.jitter_max, jitter);
        let role = Role::Follower { until };
        Self { timing, role, ticked: now, fence: None, fence_before: None, retired: false }
    }

    /// Whether this coordinator was told to resign and will never lead again.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// The term to write with, if this coordinator leads.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        match self.role {
            Role::Leader(reign) if !reign.resigned => Some(reign.term),
            Role::Leader(_)
            | Role::Follower { .. }
            | Role::Taking { .. }
            | Role::Reading { .. }
            | Role::SteppingDown => None,
        }
    }

    /// Whether this coordinator may move what has a place.
    #[must_use]
    pub fn may_move(&self, now: Instant) -> bool {
        match self.role {
            Role::Leader(reign) => !reign.resigned && reign.moves_from <= now,
            Role::Follower { .. }
            | Role::Taking { .. }
            | Role::Reading { .. }
            | Role::SteppingDown => false,
        }
    }

    /// What follows from `event`.
    #[must_use]
    pub fn handle(&mut self, event: Event, now: Instant, jitter: u32) -> Option<Action> {
        match event {
            Event::Tick => self.tick(now, jitter),
            Event::Unled => self.wait(Duration::ZERO, now, jitter),
            Event::Fence { term } => self.fence(term, now, jitter),
            Event::Beat { term, resigned } => self.beat(term, resigned, now, jitter),
            Event::Taken { term } => self.taken(term, now),
            Event::Committed { began } => self.committed(began),
            Event::Unclean => self.unclean(),
            Event::Fenced => self.deposed(),
            Event::Resign => self.resign(now),
            Event::Dropped => self.dropped(now, jitter),
        }
    }

    fn tick(&mut self, now: Instant, jitter: u32) -> Option<Action> {
        let paused = self.timing.pause < now.saturating_duration_since(self.ticked);
        self.ticked = now;
        match &mut self.role {
            Role::Follower { .. } if paused => self.wait(self.timing.silence, now, jitter),
            Role::Follower { until } => {
                if now < *until || self.retired {
                    return None;
                }
                self.role = Role::Taking { renewed: None };
                Some(Action::Take)
            }
            Role::Reading { since, .. } => {
                let late = self.timing.uncommitted_max <= now.saturating_duration_since(*since);
                late.then(|| self.step_down(Cause::Uncommitted))
            }
            Role::Leader(reign) => {
                let since = now.saturating_duration_since(reign.committed);
                if self.timing.uncommitted_max <= since {
                    return Some(self.step_down(Cause::Uncommitted));
                }
                let due = reign.beaten.is_none_or(|it| self.timing.heartbeat <= now - it);
                if !due || reign.in_flight || reign.resigned {
                    return None;
                }
                Some(reign.next_beat(now))
            }
            Role::Taking { .. } | Role::SteppingDown => None,
        }
    }

    fn fence(&mut self, term: Term, now: Instant, jitter: u32) -> Option<Action> {
        if self.fence < Some(term) {
            self.fence_before = self.fence.replace(term);
        }
        match self.role {
            Role::Follower { .. } => self.wait(self.timing.silence, now, jitter),
            Role::Reading { term: own, .. } if own == term => self.lead(now),
            Role::Reading { term: own, .. } | Role::Leader(Reign { term: own, .. })
                if own < term =>
            {
                Some(self.step_down(Cause::Fenced))
            }
            // What was opened last counts: the broker decides, not the order of reading.
            Role::Taking { .. } | Role::Reading { .. } | Role::Leader(_) | Role::SteppingDown => {
                None
            }
        }
    }

    fn beat(&mut self, term: Term, resigned: bool, now: Instant, jitter: u32) -> Option<Action> {
        match self.fence {
            Some(fence) if term < fence => None,
            Some(fence) if term == fence => {
                let silence = if resigned { Duration::ZERO } else { self.timing.silence };
                self.wait(silence, now, jitter)
            }
            // Compaction has removed its fence.
            Some(_) | None => self.fence(term, now, jitter),
        }
    }

    fn taken(&mut self, term: Term, now: Instant) -> Option<Action> {
        let Role::Taking { renewed } = self.role else {
            return None;
        };
        self.role = Role::Reading { term, since: now, renewed };
        match self.fence {
            Some(fence) if term < fence => Some(self.step_down(Cause::Fenced)),
            Some(fence) if term == fence => self.lead(now),
            Some(_) | None => None,
        }
    }

    /// The own fence was read, and none after it.
    fn lead(&mut self, now: Instant) -> Option<Action> {
        let Role::Reading { term, renewed, .. } = self.role else {
            return None;
        };
        if self.retired {
            return Some(self.step_down(Cause::Resigned));
        }
        let renewed = renewed.filter(|it| self.fence_before == Some(it.term));
        let moves_from = renewed.map_or(now + self.timing.settling, |it| it.moves_from);
        self.role = Role::Leader(Reign {
            term,
            moves_from,
            committed: now,
            beaten: None,
            beat: 0,
            in_flight: false,
            resigned: false,
        });
        Some(Action::Lead { term, renewed: renewed.is_some() })
    }

    fn committed(&mut self, began: Instant) -> Option<Action> {
        if let Role::Leader(reign) = &mut self.role {
            reign.committed = reign.committed.max(began);
            // Transactions are written one after the other: a heartbeat ordered before is among them.
            reign.in_flight = reign.beaten.is_some_and(|it| began < it);
            if reign.resigned && !reign.in_flight {
                return Some(self.step_down(Cause::Resigned));
            }
        }
        None
    }

    fn unclean(&mut self) -> Option<Action> {
        let Role::Leader(Reign { term, moves_from, resigned, .. }) = self.role else {
            return None;
        };
        if resigned {
            return Some(self.step_down(Cause::Resigned));
        }
        self.role = Role::Taking { renewed: Some(Renewed { term, moves_from }) };
        Some(Action::Take)
    }

    fn deposed(&mut self) -> Option<Action> {
        match self.role {
            Role::Leader(_) | Role::Reading { .. } => Some(self.step_down(Cause::Fenced)),
            Role::Follower { .. } | Role::Taking { .. } | Role::SteppingDown => None,
        }
    }

    fn resign(&mut self, now: Instant) -> Option<Action> {
        self.retired = true;
        match &mut self.role {
            Role::Leader(reign) if !reign.resigned => {
                reign.resigned = true;
                Some(reign.next_beat(now))
            }
            Role::Reading { .. } => Some(self.step_down(Cause::Resigned)),
            Role::Leader(_) | Role::Follower { .. } | Role::Taking { .. } | Role::SteppingDown => {
                None
            }
        }
    }

    fn step_down(&mut self, cause: Cause) -> Action {
        self.role = Role::SteppingDown;
        Action::StepDown(cause)
    }

    /// A follower waits anew.
    fn wait(&mut self, silence: Duration, now: Instant, jitter: u32) -> Option<Action> {
        if let Role::Follower { until } = &mut self.role {
            *until = now + silence + spread(self.timing.jitter_max, jitter);
        }
        None
    }

    fn dropped(&mut self, now: Instant, jitter: u32) -> Option<Action> {
        match self.role {
            Role::Taking { .. } | Role::SteppingDown => {
                self.role = Role::Follower { until: now };
                self.wait(self.timing.silence, now, jitter)
            }
            Role::Follower { .. } | Role::Reading { .. } | Role::Leader(_) => None,
        }
    }
}

impl Reign {
    fn next_beat(&mut self, now: Instant) -> Action {
        self.beat += 1;
        self.beaten = Some(now);
        self.in_flight = true;
        Action::Beat { beat: self.beat, resigned: self.resigned }
    }
}

fn spread(max: Duration, jitter: u32) -> Duration {
    max.mul_f64(f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
