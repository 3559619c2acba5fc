//! What of a spec decides which record a change becomes and which lane carries it: the content of a
//! revision (delivery-protocol.md, section 2).

use crate::{
    DdlCapture, Format, FormatOptions, Hash, Lanes, Object, PartitionNames, Partitioning, Task,
    Unrepresentable,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Two specs of the same shape make the same records of the same WAL. Holds no secret and nothing
/// about how servers are reached.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Shape {
    pub lanes: Lanes,
    #[serde(skip_serializing_if = "crate::task::is_one")]
    pub streams: u8,
    pub partition_names: PartitionNames,
    /// Of `source`.
    pub sql_ascii: String,
    pub topic: String,
    pub topic_prefix: Option<String>,
    // What came after the first release is written only where it is not the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ddl_topic: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub ddl: DdlCapture,
    pub format: Format,
    pub format_options: FormatOptions,
    pub partitioning: Partitioning,
    pub hash: Hash,
    pub unrepresentable: Unrepresentable,
    pub headers: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub dts_ddl: bool,
    pub objects: Vec<Object>,
}

impl Default for Shape {
    fn default() -> Self {
        Task::default().shape()
    }
}

impl Task {
    /// The shape of this spec.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let sink = &self.sink;
        Shape {
            lanes: self.lanes,
            streams: self.source.streams,
            partition_names: self.source.partition_names,
            sql_ascii: self.source.sql_ascii.clone(),
            topic: sink.topic.clone(),
            topic_prefix: sink.topic_prefix.clone(),
            ddl_topic: sink.ddl_topic.clone(),
            ddl: self.source.ddl,
            format: sink.format,
            format_options: sink.format_options.clone(),
            partitioning: sink.partitioning,
            hash: sink.hash,
            unrepresentable: sink.unrepresentable,
            headers: sink.headers,
            dts_ddl: self.compat.dts_ddl,
            objects: self.objects.clone(),
        }
    }

    /// This spec, with another shape.
    #[must_use]
    pub fn shaped(&self, shape: &Shape) -> Self {
        let mut task = self.clone();
        let shape = shape.clone();
        task.lanes = shape.lanes;
        task.source.streams = shape.streams;
        task.source.partition_names = shape.partition_names;
        task.source.sql_ascii = shape.sql_ascii;
        task.sink.topic = shape.topic;
        task.sink.topic_prefix = shape.topic_prefix;
        task.sink.ddl_topic = shape.ddl_topic;
        task.source.ddl = shape.ddl;
        task.sink.format = shape.format;
        task.sink.format_options = shape.format_options;
        task.sink.partitioning = shape.partitioning;
        task.sink.hash = shape.hash;
        task.sink.unrepresentable = shape.unrepresentable;
        task.sink.headers = shape.headers;
        task.compat.dts_ddl = shape.dts_ddl;
        task.objects = shape.objects;
        task
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Shape {
    /// Keys of the spec in which two shapes differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("lanes", self.lanes == other.lanes),
            ("source.streams", self.streams == other.streams),
            ("source.partition_names", self.partition_names == other.partition_names),
            ("source.sql_ascii", self.sql_ascii == other.sql_ascii),
            ("sink.topic", self.topic == other.topic),
            ("sink.topic_prefix", self.topic_prefix == other.topic_prefix),
            ("sink.ddl_topic", self.ddl_topic == other.ddl_topic),
            ("source.ddl", self.ddl == other.ddl),
            ("sink.format", self.format == other.format),
            ("sink.format_options", self.format_options == other.format_options),
            ("sink.partitioning", self.partitioning == other.partitioning),
            ("sink.hash", self.hash == other.hash),
            ("sink.unrepresentable", self.unrepresentable == other.unrepresentable),
            ("sink.headers", self.headers == other.headers),
            ("compat.dts_ddl", self.dts_ddl == other.dts_ddl),
            ("objects", self.objects == other.objects),
        ];
        pairs.into_iter().filter_map(|(key, same)| (!same).then_some(key)).collect()
    }

    /// Why a task of this shape cannot go on by the other: its readers would find two formats in one topic.
    ///
    /// # Errors
    /// What is wrong, and what to do instead.
    pub fn keeps_formats_apart(&self, next: &Self) -> Result<(), String> {
        if self.format == next.format {
            return Ok(());
        }
        let before: BTreeSet<&str> = self.topics().collect();
        let Some(both) = next.topics().find(|it| before.contains(it)) else { return Ok(()) };
        Err(format!(
            "`sink.format` changes from {} to {}, and topics by `{both}` would hold both: give the tables other topics \
             with it (`sink.topic`, `topic` of objects), or run another task beside this one and release it later",
            self.format.word(),
            next.format.word()
        ))
    }

    /// Patterns of the topics of tables.
    fn topics(&self) -> impl Iterator<Item = &str> {
        let captured = self.objects.iter().filter(|it| !it.exclude);
        captured.map(|it| it.topic.as_deref().unwrap_or(&self.topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task::parse(
            "version: 1\ntask: shop\nlanes: 3\nsource: {hosts: [h:1], database: d, user: u, password: \
             hunter2}\nsink: {brokers: [k:1], hash: java}\nobjects: [{table: public.*}]",
        )
        .expect("a spec")
    }

    #[test]
    fn a_shape_survives_being_written_down() {
        let shape = task().shape();
        let json = serde_json::to_string(&shape).expect("JSON");
        assert_eq!(serde_json::from_str::<Shape>(&json).expect("a shape"), shape);
        assert!(!json.contains("hunter2"), "a secret: {json}");
    }

    #[test]
    fn a_spec_takes_on_any_shape_and_keeps_the_rest() {
        let other = Shape { lanes: Lanes(9), headers: false, ..task().shape() };
        let shaped = task().shaped(&other);
        assert_eq!(shaped.shape(), other);
        assert_eq!(shaped.source.hosts, task().source.hosts);
        assert_eq!(shaped.shaped(&task().shape()), task());
    }

    #[test]
    fn no_topic_gets_a_second_format() {
        let shape = task().shape();
        let other = Shape { format: Format::CanalJson, ..shape.clone() };
        let refused = shape.keeps_formats_apart(&other).expect_err("the same topics");
        assert!(refused.starts_with("`sink.format` changes from debezium-json to canal-json"));
        assert!(refused.contains(&shape.topic), "{refused}");
        let moved = Shape { topic: "canal.{table}".into(), ..other.clone() };
        assert_eq!(shape.keeps_formats_apart(&moved), Ok(()));
        let mut part = moved;
        part.objects
            .insert(0, crate::Object { topic: Some(shape.topic.clone()), ..Default::default() });
        assert!(shape.keeps_formats_apart(&part).is_err(), "one object keeps its topics");
        assert_eq!(other.keeps_formats_apart(&Shape { headers: false, ..other.clone() }), Ok(()));
    }

    #[test]
    fn differences_are_named_as_in_the_spec() {
        let shape = task().shape();
        let other = Shape { lanes: Lanes(9), hash: Hash::Murmur2, ..shape.clone() };
        assert_eq!(shape.differences(&other), ["lanes", "sink.hash"]);
        assert_eq!(shape.differences(&shape), [""; 0]);
    }

    #[test]
    fn what_an_older_release_did_not_write_has_its_default() {
        let shape: Shape = serde_json::from_str(r#"{"lanes":3}"#).expect("a shape");
        assert_eq!(shape, Shape { lanes: Lanes(3), ..Shape::default() });
    }
}
