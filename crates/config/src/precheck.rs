//! Items of the precheck, whoever looks at them.

mod catalog;

pub use catalog::{Ignoring, KINDS, Kind, kind};
use serde::Serialize;

/// How an item came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Pass,
    /// Can be ignored or not, see [`Item::ignorable`].
    Warning,
    /// A task does not start.
    Fail,
}

/// One line of the precheck.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Item {
    /// Stable name, e.g. `source.wal-level`; what `--ignore` takes.
    pub name: String,
    pub state: State,
    /// Whether a task may start in spite of it: a warning that is known and accepted.
    pub ignorable: bool,
    /// What was found.
    pub seen: String,
    /// Why it matters; empty where it passed.
    pub why: &'static str,
    /// The statement or setting that mends it; empty where it passed.
    pub remedy: String,
    /// A server did not answer: another look may find it well.
    #[serde(skip)]
    pub may_pass: bool,
}

impl Item {
    /// An item that passed.
    #[must_use]
    pub fn pass(name: &str, seen: impl Into<String>) -> Self {
        Self::new(name, State::Pass, seen, "")
    }

    /// An item that is not as it should be. Whether it may be ignored, the catalog says.
    #[must_use]
    pub fn warning(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Warning, seen, remedy)
    }

    /// An item that keeps the task from starting.
    #[must_use]
    pub fn fail(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Fail, seen, remedy)
    }

    /// Whether it keeps the task from starting.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self.state {
            State::Pass => false,
            State::Warning => !self.ignorable,
            State::Fail => true,
        }
    }

    fn new(name: &str, state: State, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        let kind = kind(name);
        let is_never = kind.is_some_and(|kind| kind.warning == Ignoring::Never);
        let why = kind.filter(|_| state != State::Pass).map_or("", |kind| kind.why);
        let (name, seen, remedy) = (name.into(), seen.into(), remedy.into());
        let ignorable = state == State::Warning && !is_never;
        Self { name, state, ignorable, seen, why, remedy, may_pass: false }
    }
}
