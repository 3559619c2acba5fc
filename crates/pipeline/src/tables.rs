//! Tables that come and go while a task runs: what a look at the catalog means. Pure.
//!
//! A table that event triggers have taken in is in the publication before anybody sees it; all others are
//! taken in when they are seen, and copied.

use crate::capture::{Capture, Relation};
use postgres::publication::Publication;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// OIDs of relations.
pub type Oids = HashSet<u32>;

/// What is to be done after a look.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// Selected, and not published yet.
    pub added: Vec<Relation>,
    /// Published before, there and selected still, and not published any more: somebody took it out, and
    /// its changes since then are lost.
    pub taken_out: Option<Relation>,
}

/// Compares a look with what was published at the one before (`known`). The publication is looked at twice,
/// `before` and `after` the catalog: what is dropped, attached or detached in between is in one of them.
#[must_use]
pub fn compare(known: &Oids, before: &Oids, capture: &Capture, after: &Oids) -> Findings {
    let mut findings = Findings::default();
    for relation in &capture.publish {
        let oid = relation.oid;
        if before.contains(&oid) || after.contains(&oid) {
            continue;
        }
        if known.contains(&oid) {
            findings.taken_out.get_or_insert_with(|| relation.clone());
        } else {
            findings.added.push(relation.clone());
        }
    }
    findings
}

/// A publication as the task has left it: what somebody else does to it is known by that, also where it looks as before again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Left {
    version: String,
    owner: u32,
    /// By OID of the table.
    additions: BTreeMap<u32, u32>,
    /// Row filters, by the addition that they came with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    filters: BTreeMap<u32, String>,
    /// Tables whose row filters the task is about to change.
    #[serde(default, skip_serializing_if = "Oids::is_empty")]
    changing: Oids,
    /// They are too many for a record: what is said of tables is left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// What somebody else has done in between.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Between {
    /// Taken out and added again: OID of the table.
    Readded(u32),
    /// Its settings were altered, and altered back.
    Altered,
}

impl Left {
    #[must_use]
    pub fn of(publication: &Publication) -> Self {
        let Publication { version, owner, additions, .. } = publication.clone();
        Self { version, owner, additions, ..Self::default() }
    }

    /// Of its settings alone.
    #[must_use]
    pub fn without_tables(self) -> Self {
        let Self { version, owner, changing, .. } = self;
        Self { version, owner, changing, cut: true, ..Self::default() }
    }

    /// With the row filters that are known of tables which were not added anew since `before`, and those that have been
    /// `set`, by OID of the table.
    #[must_use]
    pub fn with_filters(mut self, before: &Self, set: &BTreeMap<u32, String>) -> Self {
        for (oid, addition) in &self.additions {
            let filter = set.get(oid).or_else(|| before.filters.get(addition));
            self.filters.extend(filter.map(|filter| (*addition, filter.clone())));
        }
        self
    }

    /// What a crash is to find while the row filters of these tables are changed: that it was nobody else.
    #[must_use]
    pub fn changing(mut self, oids: impl IntoIterator<Item = u32>) -> Self {
        self.changing.extend(oids);
        self.additions.retain(|oid, _| !self.changing.contains(oid));
        self
    }

    /// Whether a row filter that a table has in the publication, `now`, is of the task's own making. Of too many tables
    /// for a record it is not known which were added by others.
    #[must_use]
    pub fn has_filtered(&self, oid: u32, now: &Publication) -> bool {
        let addition = now.additions.get(&oid);
        let is_ours = addition.is_some() && self.additions.get(&oid) == addition;
        is_ours || self.changing.contains(&oid) || self.cut
    }

    /// The row filter that the task has given a table; `None`: it is not known.
    #[must_use]
    pub fn filter(&self, oid: u32) -> Option<&str> {
        self.filters.get(self.additions.get(&oid)?).map(String::as_str)
    }

    /// Compares with what is found `now`. What has come or gone since is judged elsewhere, and that the publication has another
    /// owner loses no row.
    #[must_use]
    pub fn between(&self, now: &Self) -> Option<Between> {
        if self.version != now.version && self.owner == now.owner {
            return Some(Between::Altered);
        }
        let is_another = |(oid, addition): &(&u32, &u32)| {
            self.additions.get(*oid).is_some_and(|before| before != *addition)
        };
        now.additions.iter().find(is_another).map(|(oid, _)| Between::Readded(*oid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_as_before_may_have_been_altered() {
        let left = |version: &str, owner, additions: &[(u32, u32)]| Left {
            version: version.into(),
            owner,
            additions: additions.iter().copied().collect(),
            ..Left::default()
        };
        let before = left("1 700", 10, &[(1, 100), (2, 200)]);
        let found = |version: &str, owner, additions: &[(u32, u32)]| {
            before.between(&left(version, owner, additions))
        };
        assert_eq!(found("1 700", 10, &[(1, 100), (2, 200)]), None);
        // One is gone, one has come.
        assert_eq!(found("1 700", 10, &[(2, 200), (3, 300)]), None);
        assert_eq!(found("1 700", 10, &[(1, 100), (2, 201)]), Some(Between::Readded(2)));
        assert_eq!(found("1 701", 10, &[(1, 100), (2, 200)]), Some(Between::Altered));
        assert_eq!(found("1 701", 11, &[(1, 100), (2, 200)]), None);
        assert_eq!(found("2 701", 11, &[(1, 101)]), Some(Between::Readded(1)));
    }

    #[test]
    fn row_filters_are_known_by_the_additions_that_they_came_with() {
        let found = |additions: &[(u32, u32)]| Publication {
            version: "1 700".into(),
            additions: additions.iter().copied().collect(),
            ..Publication::default()
        };
        let set = BTreeMap::from([(1, "a > 1".to_owned())]);
        let (before, after) = (found(&[(1, 100), (2, 200)]), found(&[(1, 101), (2, 200)]));
        let changing = Left::of(&before).changing([1]);
        // A crash finds either, and neither is anybody else's doing.
        for now in [&before, &after] {
            assert_eq!(changing.between(&Left::of(now)), None);
            assert!(changing.has_filtered(1, now) && changing.filter(1).is_none());
        }
        let left = Left::of(&after).with_filters(&changing, &set);
        let left: Left = serde_json::from_str(&serde_json::to_string(&left).unwrap()).unwrap();
        assert_eq!((left.filter(1), left.filter(2)), (Some("a > 1"), None));
        assert!(left.has_filtered(1, &after) && !left.has_filtered(3, &found(&[(3, 300)])));
        // What is noted later keeps it, until somebody adds the table again.
        let later = Left::of(&found(&[(1, 101), (3, 300)])).with_filters(&left, &BTreeMap::new());
        assert_eq!(later.filter(1), Some("a > 1"));
        let again = found(&[(1, 102)]);
        assert_eq!(Left::of(&again).with_filters(&left, &BTreeMap::new()).filter(1), None);
        assert!(!left.has_filtered(1, &again));
        assert!(left.without_tables().has_filtered(1, &again));
    }

    fn relation(oid: u32) -> Relation {
        Relation { oid, schema: "public".into(), name: format!("t{oid}") }
    }

    fn capture(oids: &[u32]) -> Capture {
        Capture { publish: oids.iter().copied().map(relation).collect(), ..Capture::default() }
    }

    #[track_caller]
    fn check(known: &[u32], sets: [&[u32]; 2], selected: &[u32], added: &[u32], out: Option<u32>) {
        let set = |oids: &[u32]| oids.iter().copied().collect::<Oids>();
        let [before, after] = sets.map(set);
        let findings = compare(&set(known), &before, &capture(selected), &after);
        assert_eq!(findings.added, added.iter().copied().map(relation).collect::<Vec<_>>());
        assert_eq!(findings.taken_out, out.map(relation));
    }

    #[test]
    fn what_is_new_is_told_from_what_was_taken_out() {
        check(&[1], [&[1], &[1]], &[1], &[], None);
        check(&[1], [&[1], &[1]], &[1, 2], &[2], None);
        check(&[1, 2], [&[1], &[1]], &[1, 2], &[], Some(2));
        // Dropped and made again: another OID under the name.
        check(&[1], [&[], &[]], &[3], &[3], None);
    }

    #[test]
    fn what_changes_during_the_look_is_left_to_the_next() {
        // Dropped after the catalog was read, or taken in by an event trigger.
        check(&[1], [&[1], &[]], &[1], &[], None);
        check(&[], [&[], &[4]], &[4], &[], None);
    }
}
