//! What is to be copied because somebody asked for it (`task snapshot`). Pure.
//!
//! Orders have numbers that grow, and are listed until they are carried out. A table that one asks for becomes a
//! plan in the meta lane, which is kept once it is done, until the plans of a newer order are there: so an order
//! is never begun twice, also where it is listed still, or the list is an old one.

use super::copy::Record;
use crate::capture::Reading;
use config::pattern::TablePattern;
use std::collections::BTreeMap;

/// One table is to be read again while the task streams.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CopyOrder {
    /// Grows with each order of the task, from 1.
    pub number: u64,
    /// Id of the snapshot, in the header of each row.
    pub snapshot: String,
    /// `schema.table`, quoted as in SQL.
    pub table: String,
    /// The rows, in the subset of SQL that specs know; empty: all.
    pub condition: String,
}

/// Plans of the meta lane, by name, as far as they can be read: who goes on with them says what cannot.
pub fn records<'a>(
    plans: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> impl Iterator<Item = (&'a str, Record)> {
    let read = |(name, json): (&'a String, &String)| {
        Some((name.as_str(), serde_json::from_str(json).ok()?))
    };
    plans.into_iter().filter_map(read)
}

/// Whether anything is left to copy.
#[must_use]
pub fn is_left(plans: &BTreeMap<String, String>) -> bool {
    // What cannot be read is for a person.
    records(plans).count() < plans.len() || records(plans).any(|(_, record)| !record.done)
}

/// Orders that were not begun, in their order.
#[must_use]
pub fn due(plans: &BTreeMap<String, String>, listed: &[CopyOrder]) -> Vec<CopyOrder> {
    let begun = records(plans).filter_map(|(_, record)| record.asked).max().unwrap_or_default();
    let mut due: Vec<_> = listed.iter().filter(|it| begun < it.number).cloned().collect();
    due.sort_by_key(|it| it.number);
    due
}

/// Plans that are done, of orders before the one of this number that are listed no more: nothing rests on them, and
/// whoever lists orders knows of it.
#[must_use]
pub fn outlived(
    plans: &BTreeMap<String, String>,
    listed: &[CopyOrder],
    number: u64,
) -> Vec<String> {
    let is_listed = |number| listed.iter().any(|it| it.number == number);
    let is_old = |record: &Record| {
        record.done && record.asked.is_some_and(|it| it < number && !is_listed(it))
    };
    records(plans).filter(|(_, it)| is_old(it)).map(|(name, _)| name.to_owned()).collect()
}

/// The relations that an order means: the table, or the leaves of its tree where they are captured under names of
/// their own. Empty: it is not captured. `root`: that of the tree that a relation is in, schema and name.
#[must_use]
pub fn meant<'a>(
    order: &CopyOrder,
    readings: Vec<Reading>,
    root: impl Fn(u32) -> Option<(&'a str, &'a str)>,
) -> Vec<Reading> {
    let Ok(pattern) = TablePattern::parse(&order.table) else { return Vec::new() };
    let is_meant = |it: &Reading| {
        let of_tree = || root(it.relation.oid).is_some_and(|it| pattern.matches(it.0, it.1));
        pattern.matches(&it.relation.schema, &it.relation.name) || of_tree()
    };
    readings.into_iter().filter(is_meant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Relation;

    fn order(number: u64, table: &str) -> CopyOrder {
        let snapshot = format!("d{number}");
        CopyOrder { number, snapshot, table: table.into(), condition: String::new() }
    }

    fn plans(of: &[(&str, Option<u64>, bool)]) -> BTreeMap<String, String> {
        let plan = |&(name, asked, done): &(&str, Option<u64>, bool)| {
            let record = Record { asked, done, ..Record::waiting("public", "t", true) };
            (name.to_owned(), serde_json::to_string(&record).expect("JSON"))
        };
        of.iter().map(plan).collect()
    }

    #[test]
    fn an_order_is_begun_once_however_long_it_is_listed() {
        let listed = [order(3, "public.t"), order(2, "public.t")];
        let numbers =
            |plans: &_| due(plans, &listed).iter().map(|it| it.number).collect::<Vec<_>>();
        assert_eq!(numbers(&plans(&[("1-1/9", None, false)])), [2, 3]);
        assert_eq!(numbers(&plans(&[("d2/9", Some(2), true)])), [3]);
        assert_eq!(numbers(&plans(&[("d3/9", Some(3), true)])), [0; 0]);
    }

    #[test]
    fn the_newest_order_stays_and_older_ones_go_once_they_are_done() {
        let all = plans(&[
            ("1-1/9", None, true),
            ("d1/9", Some(1), true),
            ("d2/9", Some(2), false),
            ("d3/9", Some(3), true),
        ]);
        assert_eq!(outlived(&all, &[], 4), ["d1/9", "d3/9"]);
        assert_eq!(outlived(&all, &[order(3, "public.t")], 4), ["d1/9"]);
        assert_eq!(outlived(&all, &[], 3), ["d1/9"]);
        assert!(is_left(&all) && !is_left(&plans(&[("d1/9", Some(1), true)])));
        assert!(is_left(&BTreeMap::from([("d4/9".into(), "?".into())])), "a person must look");
    }

    #[test]
    fn a_table_is_meant_by_its_own_name_or_that_of_its_tree() {
        let reading = |oid, name: &str| Reading {
            relation: Relation { oid, schema: "public".into(), name: name.into() },
            only: true,
            rows: 1,
        };
        let found = |table: &str| {
            let readings = vec![reading(1, "t"), reading(2, "p_1")];
            let meant =
                meant(&order(1, table), readings, |oid| (oid == 2).then_some(("public", "p")));
            meant.iter().map(|it| it.relation.oid).collect::<Vec<_>>()
        };
        assert_eq!([found("public.t"), found("public.p"), found("public.p_1")], [[1], [2], [2]]);
        assert_eq!(found("public.other"), [0; 0]);
    }
}
