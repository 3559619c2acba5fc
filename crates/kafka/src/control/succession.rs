//! Whether heartbeats follow each other as those of one log do: terms grow, each lies before the records
//! that carry it, and has one owner. Pure.
//!
//! A topic that was made anew while a reader was away goes on at any offset; its leaders do not fit.

use super::{Heartbeat, LEADER_KEY};

/// The leaders that a reader has seen.
#[derive(Debug, Default)]
pub(super) struct Succession {
    newest: Option<Heartbeat>,
}

/// Why a log is not the one that was read before.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Broken {
    #[error("a leader of term {next} at offset {offset} follows one of term {previous}")]
    Term { previous: i64, next: i64, offset: i64 },
    #[error("two leaders have term {term}, `{previous}` and `{next}`")]
    Owner { term: i64, previous: String, next: String },
    #[error("a leader has term {term} at offset {offset}, before it began")]
    Future { term: i64, offset: i64 },
}

impl Succession {
    /// Takes a record in. What is no heartbeat, or one of a later release, says nothing.
    pub(super) fn admit(&mut self, offset: i64, key: &str, value: &[u8]) -> Result<(), Broken> {
        if key != LEADER_KEY {
            return Ok(());
        }
        let Ok(next) = serde_json::from_slice::<Heartbeat>(value) else { return Ok(()) };
        if offset <= next.term {
            return Err(Broken::Future { term: next.term, offset });
        }
        if let Some(newest) = &self.newest {
            if next.term < newest.term {
                return Err(Broken::Term { previous: newest.term, next: next.term, offset });
            }
            if next.term == newest.term && next.owner != newest.owner {
                let (previous, next) = (newest.owner.clone(), next.owner);
                return Err(Broken::Owner { term: newest.term, previous, next });
            }
        }
        self.newest = Some(next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(succession: &mut Succession, offset: i64, term: i64, owner: &str) -> String {
        let [node, address] = ["c1", "c1:7420"].map(str::to_owned);
        let owner = owner.into();
        let beat = Heartbeat { v: 1, term, node, address, beat: 1, owner, resigned: false };
        let json = serde_json::to_vec(&beat).expect("JSON");
        match succession.admit(offset, LEADER_KEY, &json) {
            Ok(()) => "fits".into(),
            Err(broken) => broken.to_string(),
        }
    }

    #[test]
    fn terms_grow_and_each_has_one_owner() {
        let mut seen = Succession::default();
        assert_eq!(admit(&mut seen, 5, 4, "a"), "fits");
        assert_eq!(admit(&mut seen, 9, 4, "a"), "fits");
        assert_eq!(
            admit(&mut seen, 11, 4, "b"),
            "two leaders have term 4, `a` and `b`",
            "the topic was made anew, and the first leader's term is again the same"
        );
        assert_eq!(admit(&mut seen, 20, 12, "b"), "fits");
        assert_eq!(
            admit(&mut seen, 21, 4, "a"),
            "a leader of term 4 at offset 21 follows one of term 12"
        );
        assert_eq!(
            admit(&mut seen, 30, 30, "c"),
            "a leader has term 30 at offset 30, before it began"
        );
    }

    #[test]
    fn what_is_no_heartbeat_says_nothing() {
        let mut seen = Succession::default();
        for (key, value) in [("task/shop", "{"), (LEADER_KEY, "{"), (LEADER_KEY, "")] {
            assert_eq!(seen.admit(1, key, value.as_bytes()), Ok(()));
        }
    }
}
