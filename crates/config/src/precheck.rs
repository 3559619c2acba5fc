//! Items of the precheck, whoever looks at them.

use serde::Serialize;

/// How an item came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Pass,
    /// May be ignored with `--ignore`.
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
    /// What was found.
    pub seen: String,
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

    /// An item that may be ignored.
    #[must_use]
    pub fn warning(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Warning, seen, remedy)
    }

    /// An item that keeps the task from starting.
    #[must_use]
    pub fn fail(name: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Fail, seen, remedy)
    }

    fn new(name: &str, state: State, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (name, seen, remedy) = (name.into(), seen.into(), remedy.into());
        Self { name, state, seen, remedy, may_pass: false }
    }
}
