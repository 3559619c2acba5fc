//! What a failure means for the one who must go on. Every error type maps to one class, exhaustively.

/// What to do after a failure.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum FailureClass {
    /// A connection was lost or refused: try again for `retry.connection` (P65).
    Connection,
    /// Anything else that may pass: try again for `retry.other` (P66).
    Transient,
    /// Another process has taken over: find out whether only this stage, or the whole task, is lost.
    Fenced,
    /// This input will never pass: the declared policy decides, else park.
    Poison,
    /// A person must decide: park, and say why.
    Fatal,
}

impl FailureClass {
    pub const ALL: [Self; 5] =
        [Self::Connection, Self::Transient, Self::Fenced, Self::Poison, Self::Fatal];

    /// The word for logs and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Transient => "transient",
            Self::Fenced => "fenced",
            Self::Poison => "poison",
            Self::Fatal => "fatal",
        }
    }
}
