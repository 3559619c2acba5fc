//! Which protocol two nodes speak. A release speaks its own and that of the release before it, so
//! that a cluster can be renewed node by node.
//!
//! | Protocol | What came with it |
//! |---|---|
//! | 1 | lanes, stages, reports |
//! | 2 | a front is handed over ([`HAND_OVER`]); places of records in their transactions ([`PLACES`]) |
//! | 3 | rows planned by a spec that was changed while the task runs ([`MARKS`]); a lane learns its tables' unique indexes ([`UNIQUE_INDEXES`]) |
//! | 4 | tables are read on several nodes ([`CHUNKS`]) |

use crate::{Code, Error};

/// The oldest protocol that this release speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol that this release speaks.
pub const PROTOCOL_MAX: u32 = 4;
/// From this protocol on a node hands its front over when it is asked to.
pub const HAND_OVER: u32 = 2;
/// From this protocol on a lane is told where a record stands in its transaction.
pub const PLACES: u32 = 2;
/// From this protocol on a lane takes rows of revisions that came into force by a mark in the stream.
pub const MARKS: u32 = 3;
/// From this protocol on a lane is told of the unique indexes of its tables.
pub const UNIQUE_INDEXES: u32 = 3;
/// From this protocol on a node reads chunks of tables for others.
pub const CHUNKS: u32 = 4;

/// The protocols that a release speaks, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Protocols {
    pub min: u32,
    pub max: u32,
}

impl Protocols {
    pub const OURS: Self = Self { min: PROTOCOL_MIN, max: PROTOCOL_MAX };

    /// Ours, not above `newest`.
    ///
    /// # Errors
    /// When nothing is left; names what there is.
    pub fn up_to(newest: Option<u32>) -> Result<Self, Error> {
        let max = newest.unwrap_or(PROTOCOL_MAX);
        if (PROTOCOL_MIN..=PROTOCOL_MAX).contains(&max) {
            return Ok(Self { min: PROTOCOL_MIN, max });
        }
        Err(Error::new(
            Code::Protocol,
            format!(
                "`protocol_max` is {max}; this release speaks {PROTOCOL_MIN} to {PROTOCOL_MAX}"
            ),
            "correct it in the node's spec, or leave it out",
        ))
    }

    /// What to offer after `refused` was refused to a node that may be of an older release, if a call that needs at least
    /// `least` can go on with it.
    #[must_use]
    pub fn older(self, refused: u32, least: u32) -> Option<u32> {
        refused.checked_sub(1).filter(|older| self.min.max(least) <= *older)
    }

    /// Whether these contain a protocol that a caller has chosen.
    ///
    /// # Errors
    /// When they do not.
    pub fn speaks(self, protocol: u32) -> Result<u32, Error> {
        self.negotiate(Self { min: protocol, max: protocol })
    }

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
    Protocols::OURS.speaks(protocol)
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
    fn a_caller_offers_less_until_nothing_is_left_that_would_do() {
        assert_eq!(range(2, 4).older(4, 1), Some(3));
        assert_eq!(range(2, 4).older(3, 1), Some(2));
        assert_eq!(range(2, 4).older(2, 1), None, "it speaks no older one");
        assert_eq!(range(2, 4).older(4, 4), None, "it would not be enough");
        assert_eq!(range(0, 4).older(0, 0), None);
    }

    #[test]
    fn a_node_can_be_held_back_within_what_it_speaks() {
        assert_eq!(Protocols::up_to(None).ok(), Some(Protocols::OURS));
        let held = Protocols::up_to(Some(PROTOCOL_MIN)).expect("it speaks it");
        assert_eq!(held, range(PROTOCOL_MIN, PROTOCOL_MIN));
        assert!(held.speaks(PROTOCOL_MAX).is_err());
        assert_eq!(held.negotiate(Protocols::OURS).ok(), Some(PROTOCOL_MIN));
        let above = Protocols::up_to(Some(PROTOCOL_MAX + 1)).expect_err("refused").to_string();
        assert!(above.contains("`protocol_max` is"), "{above}");
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
