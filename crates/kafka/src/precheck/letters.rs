//! The dead-letter topic.

use super::{WantedTopic, failed};
use crate::settings::Settings;
use crate::topics::{Admin, NewTopic};
use config::precheck::Item;

const NAME: &str = "sink.dead-letter-topic";

/// Whether dead letters have a place: a topic of their own, with a partition for each lane.
#[must_use]
pub fn letters(
    settings: &Settings,
    letters: &NewTopic,
    others: &[WantedTopic],
    may_create: bool,
) -> Item {
    let topic = std::slice::from_ref(&letters.name);
    match Admin::new(settings).and_then(|admin| admin.partitions(topic)) {
        Ok(found) => {
            let found = found.get(&letters.name).copied().flatten();
            item(letters, found, others, may_create)
        }
        Err(error) => failed(NAME, &error),
    }
}

fn item(letters: &NewTopic, found: Option<i32>, others: &[WantedTopic], may_create: bool) -> Item {
    let NewTopic { name, partitions, .. } = letters;
    if others.iter().any(|other| other.name == *name) {
        let seen = format!("`{name}` is the topic of a table, too");
        return Item::fail(NAME, seen, "choose another `sink.dead_letter_topic`");
    }
    let (seen, is_there) = match found {
        Some(found) if *partitions <= found => (format!("`{name}` exists"), true),
        Some(found) => (
            format!("`{name}` has {found} partitions, and each of {partitions} lanes needs one"),
            false,
        ),
        None => (format!("`{name}` does not exist"), false),
    };
    if is_there {
        return Item::pass(NAME, seen);
    }
    if may_create {
        return Item::pass(NAME, format!("{seen}; the task makes it so"));
    }
    let remedy = format!(
        "make it with {partitions} partitions, or set `sync.schema: true` so that the task does"
    );
    Item::fail(NAME, seen, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;
    use std::collections::BTreeMap;

    #[test]
    fn each_lane_needs_a_partition_of_a_topic_of_its_own() {
        let (name, config) = ("dead".to_owned(), BTreeMap::new());
        let letters = NewTopic { name, partitions: 8, replication_factor: -1, config };
        let state = |found, may_create| item(&letters, found, &[], may_create).state;
        assert_eq!((state(Some(8), false), state(Some(9), false)), (State::Pass, State::Pass));
        assert_eq!((state(Some(7), true), state(None, true)), (State::Pass, State::Pass));
        assert_eq!((state(Some(7), false), state(None, false)), (State::Fail, State::Fail));
        let table = WantedTopic { name: "dead".into(), partitions: 8, bytes: 0 };
        assert_eq!(item(&letters, Some(8), &[table], true).state, State::Fail);
    }
}
