//! The states of a task: which order of a person is possible in which, and where news lead. Pure.
//!
//! In:    [`Order`] of a person, [`News`] of the worker that runs the front.
//! Out:   the next state, or why there is none.
//! Never: lets news of a task that is not to run change anything: they come late.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a task does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Applied, never started.
    NotConfigured,
    Prechecking,
    PrecheckFailed,
    /// Reads the tables.
    Initializing,
    /// Follows the stream, close behind.
    Synchronizing,
    /// Follows the stream, far behind.
    CatchingUp,
    /// Tries again after a failure.
    Retrying,
    Suspended,
    /// A changed spec is about to take force.
    Modifying,
    /// Waits for a person's decision.
    Parked,
    /// Has given up trying.
    Failed,
    /// Has done all that it was to do.
    Completed,
    /// Slot, publication and internal topics are about to be removed.
    Releasing,
    /// Not all of them could be removed.
    ReleaseFailed,
    /// All of them are. An older release writes so what is [`TaskState::Releasing`] here.
    Released,
}

/// What a person wants.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Order {
    /// A changed spec.
    Apply,
    Start,
    Suspend,
    Resume,
    Restart,
    /// Read one table again.
    Snapshot,
    Reseed,
    Release,
}

/// What a worker reports.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum News {
    Prechecking,
    PrecheckFailed,
    /// The tables are read.
    Initializing,
    /// The stream is followed, far behind the source.
    Behind,
    /// The stream is followed, close behind the source.
    Close,
    /// It failed and is tried again.
    Retrying,
    /// A person must decide.
    Parked,
    /// It is tried no more.
    GaveUp,
    /// All that it was to do is done.
    Completed,
    /// Slot, publication and internal topics are being removed.
    Releasing,
    /// Not all of them could be.
    ReleaseFailed,
    /// All of them are.
    Released,
}

/// An order that is not possible.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    pub task: String,
    pub state: TaskState,
    pub order: Order,
}

impl TaskState {
    pub const ALL: [Self; 15] = [
        Self::NotConfigured,
        Self::Prechecking,
        Self::PrecheckFailed,
        Self::Initializing,
        Self::Synchronizing,
        Self::CatchingUp,
        Self::Retrying,
        Self::Suspended,
        Self::Modifying,
        Self::Parked,
        Self::Failed,
        Self::Completed,
        Self::Releasing,
        Self::ReleaseFailed,
        Self::Released,
    ];

    /// As the control topic writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotConfigured => "not-configured",
            Self::Prechecking => "prechecking",
            Self::PrecheckFailed => "precheck-failed",
            Self::Initializing => "initializing",
            Self::Synchronizing => "synchronizing",
            Self::CatchingUp => "catching-up",
            Self::Retrying => "retrying",
            Self::Suspended => "suspended",
            Self::Modifying => "modifying",
            Self::Parked => "parked",
            Self::Failed => "failed",
            Self::Completed => "completed",
            Self::Releasing => "releasing",
            Self::ReleaseFailed => "release-failed",
            Self::Released => "released",
        }
    }

    /// Whether the task runs or tries to, and is to have a place.
    #[must_use]
    pub fn runs(self) -> bool {
        match self {
            Self::Prechecking
            | Self::Initializing
            | Self::Synchronizing
            | Self::CatchingUp
            | Self::Retrying
            | Self::Modifying => true,
            Self::NotConfigured
            | Self::PrecheckFailed
            | Self::Suspended
            | Self::Parked
            | Self::Failed
            | Self::Completed
            | Self::Releasing
            | Self::ReleaseFailed
            | Self::Released => false,
        }
    }

    /// Whether it was told to end for good.
    fn leaves(self) -> bool {
        matches!(self, Self::Releasing | Self::ReleaseFailed | Self::Released)
    }

    /// Where an order leads.
    ///
    /// # Errors
    /// The order is not possible in this state; the error says what is.
    pub fn ordered(self, task: &str, order: Order) -> Result<Self, Refused> {
        let next = self.after(order);
        next.ok_or_else(|| Refused { task: task.into(), state: self, order })
    }

    /// Orders that are possible in this state.
    pub fn possible(self) -> impl Iterator<Item = Order> {
        Order::ALL.into_iter().filter(move |order| self.after(*order).is_some())
    }

    /// Where news lead. `None`: they come late and change nothing.
    #[must_use]
    pub fn reported(self, news: News) -> Option<Self> {
        let next = match news {
            News::Prechecking => Self::Prechecking,
            News::PrecheckFailed => Self::PrecheckFailed,
            News::Initializing => Self::Initializing,
            News::Behind => Self::CatchingUp,
            News::Close => Self::Synchronizing,
            News::Retrying => Self::Retrying,
            News::Parked => Self::Parked,
            News::GaveUp => Self::Failed,
            News::Completed => Self::Completed,
            News::Releasing => Self::Releasing,
            News::ReleaseFailed => Self::ReleaseFailed,
            News::Released => Self::Released,
        };
        let is_in_time = if next.leaves() { self.leaves() } else { self.runs() };
        is_in_time.then_some(next)
    }

    fn after(self, order: Order) -> Option<Self> {
        // What is half removed can only be removed wholly.
        if matches!(self, Self::Releasing | Self::ReleaseFailed) {
            return (order == Order::Release).then_some(Self::Releasing);
        }
        let stopped = !self.runs() && self != Self::Released;
        match order {
            // The names of a released task are free again.
            Order::Apply if matches!(self, Self::Released | Self::NotConfigured) => {
                Some(Self::NotConfigured)
            }
            Order::Apply if matches!(self, Self::Prechecking) => Some(Self::Prechecking),
            Order::Apply if self.runs() => Some(Self::Modifying),
            // Looked at by the precheck of the next start.
            Order::Apply => Some(self),
            Order::Start => stopped.then_some(Self::Prechecking),
            Order::Suspend if self.runs() || self == Self::Parked || self == Self::Failed => {
                Some(Self::Suspended)
            }
            Order::Suspend => None,
            Order::Resume => {
                let held = matches!(self, Self::Suspended | Self::Parked | Self::Failed);
                held.then_some(Self::Prechecking)
            }
            Order::Restart if self == Self::NotConfigured => None,
            Order::Restart => (self != Self::Released).then_some(Self::Prechecking),
            // It is read beside the stream, so there must be one.
            Order::Snapshot => {
                let streams = matches!(self, Self::Synchronizing | Self::CatchingUp);
                streams.then_some(self)
            }
            // Only what stands still may lose what it has: a running task has nothing to be cured of.
            Order::Reseed => {
                matches!(self, Self::Suspended | Self::PrecheckFailed | Self::Parked | Self::Failed)
                    .then_some(Self::Prechecking)
            }
            Order::Release => (self != Self::Released).then_some(Self::Releasing),
        }
    }
}

impl Order {
    pub const ALL: [Self; 8] = [
        Self::Apply,
        Self::Start,
        Self::Suspend,
        Self::Resume,
        Self::Restart,
        Self::Snapshot,
        Self::Reseed,
        Self::Release,
    ];

    fn participle(self) -> &'static str {
        match self {
            Self::Apply => "applied",
            Self::Start => "started",
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Restart => "restarted",
            Self::Snapshot => "asked for a snapshot",
            Self::Reseed => "reseeded",
            Self::Release => "released",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apply => "apply",
            Self::Start => "start",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Restart => "restart",
            Self::Snapshot => "snapshot",
            Self::Reseed => "reseed",
            Self::Release => "release",
        })
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConfigured => "not configured",
            Self::Prechecking => "prechecking",
            Self::PrecheckFailed => "precheck failed",
            Self::Initializing => "initializing",
            Self::Synchronizing => "synchronizing",
            Self::CatchingUp => "catching up",
            Self::Retrying => "retrying",
            Self::Suspended => "suspended",
            Self::Modifying => "modifying",
            Self::Parked => "parked",
            Self::Failed => "failed",
            Self::Completed => "completed",
            Self::Releasing => "releasing",
            Self::ReleaseFailed => "release failed",
            Self::Released => "released",
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, state, order } = self;
        let possible: Vec<_> = state.possible().map(|it| it.to_string()).collect();
        let (participle, possible) = (order.participle(), possible.join(", "));
        write!(f, "task `{task}` is in state \"{state}\" and cannot be {participle}; ")?;
        write!(f, "possible now: {possible}")
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests;
