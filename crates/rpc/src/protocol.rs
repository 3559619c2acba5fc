//! Which protocol two nodes speak. A release speaks its own and that of the release before it, so
//! that a cluster can be renewed node by node.

use crate::{Code, Error};

/// The oldest protocol that this release speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol that this release speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// The protocols that a release speaks, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Protocols {
    pub min: u32,
    pub max: u32,
}

impl Protocols {
    pub const OURS: Self = Self { min: PROTOCOL_MIN, max: PROTOCOL_MAX };

    /// The newest that both speak.
    ///
    /// # Errors
    /// When there is none; names both ranges.
    pub fn negotiate(self, theirs: Self) -> Result<u32, Error> {
        let both = self.max.min(theirs.max);
        if theirs.min <= theirs.max && self.min.max(theirs.min) <= both {
            return Ok(both);
        }
        let older = if theirs.max < self.min { "the other node" } else { "this node" };
        Err(Error::new(
            Code::Protocol,
            format!(
                "this node speaks protocols {} to {}, the other {} to {}: they have none in common",
                self.min, self.max, theirs.min, theirs.max
            ),
            format!("renew {older}, one release after the other"),
        ))
    }
}

/// What this release speaks with one that speaks `theirs`.
///
/// # Errors
/// When they have no protocol in common; names both ranges.
pub fn negotiate(theirs: Protocols) -> Result<u32, Error> {
    Protocols::OURS.negotiate(theirs)
}

/// Whether this release speaks a protocol that two others have agreed on.
///
/// # Errors
/// When it does not.
pub fn speaks(protocol: u32) -> Result<u32, Error> {
    negotiate(Protocols { min: protocol, max: protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(min: u32, max: u32) -> Protocols {
        Protocols { min, max }
    }

    #[test]
    fn neighbours_speak_the_newest_that_both_know() {
        assert_eq!(range(3, 4).negotiate(range(4, 5)).ok(), Some(4));
        assert_eq!(range(3, 4).negotiate(range(2, 3)).ok(), Some(3));
        assert_eq!(range(3, 4).negotiate(range(3, 4)).ok(), Some(4));
    }

    #[test]
    fn strangers_are_told_both_ranges_and_who_must_be_renewed() {
        let newer = range(3, 4).negotiate(range(5, 6)).expect_err("refused").to_string();
        assert!(newer.contains("protocols 3 to 4, the other 5 to 6"), "{newer}");
        assert!(newer.contains("renew this node"), "{newer}");
        let older = range(3, 4).negotiate(range(1, 2)).expect_err("refused").to_string();
        assert!(older.contains("renew the other node"), "{older}");
        assert!(range(3, 4).negotiate(range(9, 1)).is_err());
    }
}
