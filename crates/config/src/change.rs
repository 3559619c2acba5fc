//! How a changed setting takes force in a task that runs (delivery-protocol.md, sections 2 and 8). Pure.

use crate::shape::Shape;
use crate::{Object, Task};
use std::collections::BTreeMap;

/// What a changed setting takes, from the least to the most.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Means {
    /// No record depends on it: it holds at once.
    AtOnce,
    /// Each lane commits and opens its producer anew, one after the other. The others go on.
    Lanes,
    /// In force from one position of the stream on, which the meta lane holds before. Nothing pauses.
    Mark,
    /// Every lane commits and is closed at one position, and the next revision begins there.
    Seal,
    /// The task is opened again.
    Restart,
    /// Not in place.
    Never,
}

/// Settings by their first keys. What is not named here takes a restart.
const MEANS: &[(&str, Means)] = &[
    // Its name; what it says has its own lines.
    ("source.connection", Means::AtOnce),
    ("sink.connection", Means::AtOnce),
    ("labels", Means::AtOnce),
    ("throttle", Means::AtOnce),
    ("retry", Means::AtOnce),
    ("alerts", Means::AtOnce),
    ("placement.producers", Means::AtOnce),
    ("placement.snapshot", Means::AtOnce),
    ("sink.compression", Means::Lanes),
    ("sink.acks", Means::Lanes),
    ("sink.commit_interval", Means::Lanes),
    ("sink.properties.batch.num.messages", Means::Lanes),
    ("sink.properties.batch.size", Means::Lanes),
    ("sink.properties.compression.level", Means::Lanes),
    ("sink.properties.linger.ms", Means::Lanes),
    ("sink.topic", Means::Mark),
    ("objects", Means::Mark),
    ("lanes", Means::Seal),
    ("source.streams", Means::Never),
    ("source.partition_names", Means::Seal),
    ("source.sql_ascii", Means::Seal),
    ("source.ddl", Means::Seal),
    ("sink.topic_prefix", Means::Seal),
    ("sink.ddl_topic", Means::Seal),
    ("sink.format", Means::Seal),
    ("sink.format_options", Means::Seal),
    ("sink.partitioning", Means::Seal),
    ("sink.hash", Means::Seal),
    ("sink.unrepresentable", Means::Seal),
    ("sink.headers", Means::Seal),
    ("compat.dts_ddl", Means::Seal),
];

/// Properties of the client that concern nothing but how a lane's producer writes.
const PRODUCER_PROPERTIES: [&str; 4] =
    ["batch.num.messages", "batch.size", "compression.level", "linger.ms"];

/// What a change of the setting at `path` takes, as far as the path alone says.
#[must_use]
pub fn means(path: &str) -> Means {
    let is_within = |key: &str| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    MEANS.iter().find(|(key, _)| is_within(key)).map_or(Means::Restart, |(_, means)| *means)
}

impl Shape {
    /// What it takes that `self` becomes `next`; `None`: they are the same.
    #[must_use]
    pub fn means_to(&self, next: &Self) -> Option<Means> {
        let most = self.differences(next).into_iter().map(means).max()?;
        let is_moved = !keeps_partitions(&self.objects, &next.objects);
        Some(if is_moved { most.max(Means::Seal) } else { most })
    }
}

/// Whether rows of tables that both select find their partitions as before, and by the same transform. Objects that
/// follow all others select only what was not selected, and change nothing for the rest.
fn keeps_partitions(before: &[Object], after: &[Object]) -> bool {
    let says = |it: &Object| {
        it.partitions.is_some() || !it.partition_key.is_empty() || it.transform.is_some()
    };
    if !before.iter().chain(after).any(says) {
        return true;
    }
    let same = |(one, other): (&Object, &Object)| {
        one.table == other.table
            && one.exclude == other.exclude
            && one.partitions == other.partitions
            && one.partition_key == other.partition_key
            && one.transform == other.transform
    };
    before.iter().zip(after).all(same)
}

impl Task {
    /// What it takes that a task of this spec goes on by `next`; `None`: they are the same.
    #[must_use]
    pub fn means_to(&self, next: &Self) -> Option<Means> {
        if self == next {
            return None;
        }
        if self.task != next.task {
            return Some(Means::Never);
        }
        let shape = self.shape().means_to(&next.shape());
        let rest = match self.shaped(&next.shape()).heeding(next) {
            rest if rest == *next => Means::AtOnce,
            rest if rest.producing_as(next) == *next => Means::Lanes,
            _ => Means::Restart,
        };
        Some(shape.map_or(rest, |shape| shape.max(rest)))
    }

    /// This spec, which goes by what no record depends on as `other` does: what takes [`Means::AtOnce`] is as there.
    #[must_use]
    pub fn heeding(&self, other: &Self) -> Self {
        let mut task = self.clone().named_as(other);
        task.labels.clone_from(&other.labels);
        (task.throttle, task.retry) = (other.throttle, other.retry);
        task.alerts.clone_from(&other.alerts);
        task.placement.producers.clone_from(&other.placement.producers);
        task.placement.snapshot.clone_from(&other.placement.snapshot);
        task
    }

    /// This spec, whose lanes write as those of `other` do: what takes [`Means::Lanes`] is as there.
    #[must_use]
    pub fn producing_as(&self, other: &Self) -> Self {
        let mut task = self.clone();
        let (own, other) = (&mut task.sink, &other.sink);
        (own.compression, own.acks) = (other.compression, other.acks);
        own.commit_interval = other.commit_interval;
        produce_as(&mut own.properties, &other.properties);
        task
    }
}

/// Gives properties of the client the values of `other` where these concern how a lane's producer writes.
pub fn produce_as(own: &mut BTreeMap<String, String>, other: &BTreeMap<String, String>) {
    for name in PRODUCER_PROPERTIES {
        match other.get(name) {
            Some(value) => own.insert(name.into(), value.clone()),
            None => own.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hash, Lanes, Operation};

    fn object(table: &str) -> Object {
        Object { table: table.into(), ..Object::default() }
    }

    fn keyed(table: &str) -> Object {
        Object { partition_key: vec!["region".into()], ..object(table) }
    }

    fn task(objects: Vec<Object>) -> Task {
        Task { task: "shop".into(), objects, ..Task::default() }
    }

    #[track_caller]
    fn takes(before: Vec<Object>, after: Vec<Object>, expected: Option<Means>) {
        assert_eq!(task(before).means_to(&task(after)), expected);
    }

    #[test]
    fn what_rows_become_changes_by_a_mark() {
        let changed = [
            Object { topic: Some("t".into()), ..object("a.b") },
            Object { condition: Some("id < 7".into()), ..object("a.b") },
            Object { operations: Some(vec![Operation::Insert]), ..object("a.b") },
            Object { columns: Some(crate::Columns::default()), ..object("a.b") },
            Object { name_case: crate::NameCase::Upper, ..object("a.b") },
        ];
        for changed in changed {
            takes(vec![object("a.b")], vec![changed], Some(Means::Mark));
        }
        takes(vec![object("a.b")], vec![object("a.b")], None);
        let mut next = task(vec![object("a.b")]);
        next.sink.topic = "x.{table}".into();
        assert_eq!(task(vec![object("a.b")]).means_to(&next), Some(Means::Mark));
    }

    #[test]
    fn how_lanes_write_changes_lane_by_lane() {
        let before = task(vec![object("a.b")]);
        let mut next = before.clone();
        next.sink.compression = crate::Compression::Zstd;
        next.sink.acks = crate::Acks::One;
        next.sink.properties.insert("linger.ms".into(), "9".into());
        assert_eq!(before.means_to(&next), Some(Means::Lanes));
        assert_eq!(next.means_to(&before), Some(Means::Lanes));
        assert_eq!(before.producing_as(&next), next);
        for name in PRODUCER_PROPERTIES {
            assert_eq!(means(&format!("sink.properties.{name}")), Means::Lanes);
        }
        next.throttle.incremental.rows = 7;
        assert_eq!(before.means_to(&next), Some(Means::Lanes));
        next.objects[0].topic = Some("t".into());
        assert_eq!(before.means_to(&next), Some(Means::Mark));
        next.sink.properties.insert("socket.nagle.disable".into(), "true".into());
        assert_eq!(before.means_to(&next), Some(Means::Restart));
    }

    #[test]
    fn objects_come_and_go_by_a_mark() {
        takes(vec![object("a.b")], vec![object("a.b"), object("c.d")], Some(Means::Mark));
        takes(vec![object("a.b"), object("c.d")], vec![object("c.d")], Some(Means::Mark));
        // What comes after all others takes no row from them.
        takes(vec![keyed("a.b")], vec![keyed("a.b"), keyed("c.d")], Some(Means::Mark));
    }

    #[test]
    fn another_partition_map_takes_a_seal() {
        takes(vec![object("a.b")], vec![keyed("a.b")], Some(Means::Seal));
        takes(vec![object("a.*")], vec![keyed("a.b"), object("a.*")], Some(Means::Seal));
        takes(vec![keyed("a.*")], vec![object("a.b"), keyed("a.*")], Some(Means::Seal));
        let counted = Object { partitions: Some(12), ..object("a.b") };
        takes(vec![object("a.b")], vec![counted], Some(Means::Seal));
        let (before, mut next) = (task(vec![]), task(vec![]));
        next.sink.hash = Hash::Java;
        assert_eq!(before.means_to(&next), Some(Means::Seal));
        next.sink.topic = "x.{table}".into();
        assert_eq!(before.means_to(&next), Some(Means::Seal), "the most that one of them takes");
        let lanes = Task { lanes: Lanes(3), ..before.clone() };
        assert_eq!(before.means_to(&lanes), Some(Means::Seal));
    }

    #[test]
    fn what_no_record_depends_on_holds_at_once() {
        let before = task(vec![]);
        let mut next = before.clone();
        next.labels.insert("env".into(), "test".into());
        next.throttle.incremental.rows = 7;
        next.throttle.snapshot.paused = true;
        next.retry.other = crate::units::Span(std::time::Duration::from_secs(60));
        next.alerts = Some(crate::Alerts::default());
        assert_eq!(before.means_to(&next), Some(Means::AtOnce));
        assert_eq!(before.heeding(&next), next);
        next.source.hosts = vec!["other:1".into()];
        assert_eq!(before.means_to(&next), Some(Means::Restart));
        let next = Task { task: "other".into(), ..before.clone() };
        assert_eq!(before.means_to(&next), Some(Means::Never));
    }

    /// A setting that decides what records look like is in the shape, and nothing else is: else it would change
    /// without a position.
    #[test]
    fn every_part_of_a_shape_has_its_means() {
        let before = Shape::default();
        let other = serde_json::json!({
            "lanes": 3, "partition_names": "child", "sql_ascii": "base64", "topic": "t",
            "topic_prefix": "p", "ddl_topic": "d", "ddl": "off", "format": "canal-json",
            "format_options": {"tombstones": false}, "partitioning": "table", "hash": "java",
            "unrepresentable": "null", "headers": false, "dts_ddl": true, "objects": [{"table": "a.b"}],
        });
        let other: Shape = serde_json::from_value(other).expect("a shape");
        for path in before.differences(&other) {
            assert!(matches!(means(path), Means::Mark | Means::Seal), "{path}");
        }
    }
}
