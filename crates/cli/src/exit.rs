//! Exit codes, the same for every command.

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    Done,
    Failed,
    /// Wrong usage or spec. clap ends with the same code.
    Wrong,
    /// The precheck was not passed.
    Precheck,
}

impl From<Exit> for i32 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Wrong => 2,
            Exit::Precheck => 3,
        }
    }
}
