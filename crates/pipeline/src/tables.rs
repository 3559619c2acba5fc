//! Tables that come and go while a task runs: what a look at the catalog means. Pure.
//!
//! A table that event triggers have taken in is in the publication before anybody sees it; all others are
//! taken in when they are seen, and copied.

use crate::capture::{Capture, Relation};
use std::collections::HashSet;

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

#[cfg(test)]
mod tests {
    use super::*;

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
