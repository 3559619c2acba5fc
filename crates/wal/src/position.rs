//! Identity and order of a change inside one timeline of one server.

use crate::Lsn;
use std::fmt;
use std::str::FromStr;

/// Identity and order of a change: `(commit LSN, ordinal in the transaction)`.
///
/// The change's own LSN will not do: rows of one COPY share one, and changes of one key can come in
/// commit order with falling LSNs (design.md, server facts 4 and 21).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// `final_lsn` of pgoutput's Begin: the LSN of the commit record.
    pub commit_lsn: Lsn,
    /// Counts every change message of the transaction from 0, before any filter.
    pub ordinal: u64,
}

impl Position {
    /// Before every change.
    pub const ZERO: Self = Self { commit_lsn: Lsn::ZERO, ordinal: 0 };

    /// After every change that commits before `lsn`, before every other.
    #[must_use]
    pub fn just_before(lsn: Lsn) -> Self {
        Self { commit_lsn: Lsn(lsn.0.saturating_sub(1)), ordinal: u64::MAX }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.commit_lsn, self.ordinal)
    }
}

/// The text is not an LSN, a colon and a number.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a position of the form 0/16B3748:0")]
pub struct InvalidPosition(pub String);

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        text.split_once(':')
            .and_then(|(lsn, ordinal)| {
                Some(Self { commit_lsn: lsn.parse().ok()?, ordinal: ordinal.parse().ok()? })
            })
            .ok_or_else(|| InvalidPosition(text.to_owned()))
    }
}
