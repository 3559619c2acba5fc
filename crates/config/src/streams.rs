//! A task of several streams (`source.streams`): what each of them is to the server and to Kafka, and what does not go
//! together with them. Pure.
//!
//! A stream is in all respects a task of its own, with slot, publication, checkpoints and transactional ids named after
//! [`Task::life`]. The first one has the names that a task of one stream has.

use crate::check::problem;
use crate::pattern::TablePattern;
use crate::task::Object;
use crate::units::Bytes;
use crate::{DdlCapture, Format, Problem, ReadFrom, Switch, Task};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// More streams than a task can have.
pub const STREAMS_MAX: u8 = 16;

/// The task that a life of this name belongs to.
#[must_use]
pub fn task_of_life(life: &str) -> &str {
    let rest = life.trim_start_matches(|first: char| first.is_ascii_digit());
    if rest.len() == life.len() { life } else { rest.strip_prefix('_').unwrap_or(life) }
}

/// What names a stream of a task.
fn life_of(task: &str, stream: u8) -> Cow<'_, str> {
    match stream {
        0 | 1 => Cow::Borrowed(task),
        number => Cow::Owned(format!("{number}_{task}")),
    }
}

impl Task {
    /// What names slot, publication, internal topics and transactional ids: `shop` of the first stream, `2_shop` of the
    /// second. No task can have such a name: it begins with a letter.
    #[must_use]
    pub fn life(&self) -> Cow<'_, str> {
        life_of(&self.task, self.stream)
    }

    /// Names of slots and publications; helper objects have the first one.
    #[must_use]
    pub fn slots(&self) -> Vec<String> {
        (1..=self.source.streams).map(|number| self.slot_of(number)).collect()
    }

    /// Name of the slot and publication of one stream, also of one that the task does not have now.
    #[must_use]
    pub fn slot_of(&self, number: u8) -> String {
        format!("{}{}", self.source.slot_prefix, life_of(&self.task, number))
    }

    /// One stream, which runs as a task of its own. Limits of the whole task are divided, and the first stream tells of
    /// DDL for all of them.
    #[must_use]
    pub fn as_stream(&self, number: u8) -> Self {
        let mut task = self.clone();
        task.stream = number;
        let streams = u64::from(self.source.streams.max(1));
        let share = |limit: u64| limit.div_ceil(streams);
        let shared = |limit: Bytes| Bytes(share(limit.0));
        task.source.spool_bytes_max = shared(self.source.spool_bytes_max);
        let snapshot = &mut task.throttle.snapshot;
        (snapshot.qps, snapshot.rows) = (share(snapshot.qps), share(snapshot.rows));
        snapshot.bytes = shared(snapshot.bytes);
        let incremental = &mut task.throttle.incremental;
        (incremental.rows, incremental.bytes) =
            (share(incremental.rows), shared(incremental.bytes));
        task.snapshot.parallel =
            (self.snapshot.parallel / u16::from(self.source.streams.max(1))).max(1);
        if 1 < number {
            task.source.ddl = DdlCapture::Off;
        }
        task
    }

    /// What several streams cannot keep, or would tell wrong.
    pub(crate) fn check_streams(&self, found: &mut Vec<Problem>) {
        let (source, sink) = (&self.source, &self.sink);
        if !(1..=STREAMS_MAX).contains(&source.streams) {
            found.push(problem("source.streams", format!("must be from 1 to {STREAMS_MAX}")));
        }
        if source.streams < 2 {
            return;
        }
        if source.connection.is_none() && 63 < self.slot_of(source.streams).len() {
            let text =
                "with the task's name and the number of the stream must be at most 63 characters";
            found.push(problem("source.slot_prefix", text));
        }
        for (path, switch, what) in [
            ("sink.transaction_topic", sink.transaction_topic, "no stream sees whole transactions"),
            (
                "sink.watermark_topic",
                sink.watermark_topic,
                "no stream knows how far the others are",
            ),
            ("sink.heartbeat_topic", sink.heartbeat_topic, "no stream speaks for the others"),
        ] {
            if switch == Switch::On {
                let text = format!(
                    "does not go with several `source.streams`: {what}; leave one of them out"
                );
                found.push(problem(path, text));
            }
        }
        if source.read_from == ReadFrom::Standby {
            let text = "does not go with several `source.streams`: surplus slots are looked for on the primary only; \
                        leave one of them out";
            found.push(problem("source.read_from", text));
        }
        self.check_topics(found);
        if source.ddl == DdlCapture::Off || !self.sync.incremental {
            return;
        }
        // Each partition has one owner (delivery-protocol.md, I7), and the first stream writes all DDL.
        match sink.ddl_topic.as_deref() {
            Some(topic) if names(topic, "{schema}") || names(topic, "{table}") => {
                let text =
                    "must be one topic with several `source.streams`, without {schema} and {table}";
                found.push(problem("sink.ddl_topic", text));
            }
            None if sink.format == Format::DtsAvro => {
                let text = "is required for dts-avro with several `source.streams`: the first of them writes all DDL, and \
                            cannot write to the topics of the others; name one, or set `source.ddl: off`";
                found.push(problem("sink.ddl_topic", text));
            }
            Some(_) | None => {}
        }
    }

    /// Tables of different streams must not meet in one topic: each partition has one owner (delivery-protocol.md, I7).
    fn check_topics(&self, found: &mut Vec<Problem>) {
        let mut fixed = BTreeSet::new();
        for (index, object) in self.objects.iter().enumerate().filter(|(_, it)| !it.exclude) {
            let topic = object.topic.as_deref().unwrap_or(&self.sink.topic);
            if names(topic, "{schema}") && names(topic, "{table}") {
                continue;
            }
            if !is_one_table(object) || !fixed.insert(topic) {
                let text = format!(
                    "topic `{topic}` would be written by several `source.streams`; let it have {{schema}} and {{table}}, \
                     or name one table for it"
                );
                found.push(problem(&format!("objects[{index}].topic"), text));
            }
        }
    }
}

fn names(topic: &str, placeholder: &str) -> bool {
    topic.contains(placeholder)
}

fn is_one_table(object: &Object) -> bool {
    TablePattern::parse(&object.table).is_ok_and(|it| it.exact().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(source: &str, sink: &str, objects: &str) -> Vec<String> {
        let text = format!(
            "version: 1\ntask: shop\nsource: {{hosts: [h], database: d, user: u, {source}}}\n\
             sink: {{brokers: [b], {sink}}}\nobjects: [{objects}]\n"
        );
        match Task::parse(&text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.into_iter().map(|it| it.path).collect(),
        }
    }

    const ALL: &str = "{table: '*.*'}";

    #[test]
    fn what_streams_cannot_keep_is_refused() {
        let several = |sink: &str| problems("streams: 3", sink, ALL);
        assert_eq!(several(""), [""; 0]);
        assert_eq!(problems("streams: 0", "", ALL), ["source.streams"]);
        assert_eq!(problems("streams: 17", "", ALL), ["source.streams"]);
        for topic in ["transaction_topic", "watermark_topic", "heartbeat_topic"] {
            assert_eq!(several(&format!("{topic}: on")), [format!("sink.{topic}")]);
            assert_eq!(problems("streams: 1", &format!("{topic}: on"), ALL), [""; 0]);
        }
        assert_eq!(several("ddl_topic: '{schema}.ddl'"), ["sink.ddl_topic"]);
        let dts = "format: dts-avro, registry: {url: 'http://r'}";
        assert_eq!(several(dts), ["sink.ddl_topic"]);
        assert_eq!(problems("streams: 3, ddl: off", dts, ALL), [""; 0]);
        assert_eq!(problems("streams: 2, read_from: standby", "", ALL), ["source.read_from"]);
        let long = format!("slot_prefix: {}_", "p".repeat(57));
        assert_eq!(problems(&long, "", ALL), [""; 0]);
        assert_eq!(problems(&format!("{long}, streams: 2"), "", ALL), ["source.slot_prefix"]);
    }

    #[test]
    fn tables_of_several_streams_do_not_meet_in_a_topic() {
        let objects = |objects| problems("streams: 2", "", objects);
        assert_eq!(objects("{table: 'a.*', topic: all}"), ["objects[0].topic"]);
        assert_eq!(objects("{table: 'a.*', topic: '{table}'}"), ["objects[0].topic"]);
        assert_eq!(objects("{table: a.b, topic: one}"), [""; 0]);
        assert_eq!(
            objects("{table: a.b, topic: one}, {table: a.c, topic: one}"),
            ["objects[1].topic"]
        );
        assert_eq!(objects("{table: 'a.*', exclude: true}, {table: '*.*'}"), [""; 0]);
    }

    #[test]
    fn a_stream_is_named_as_no_task_can_be() {
        let task = Task { task: "shop".into(), ..Task::default() };
        assert_eq!(task.as_stream(1).life(), "shop");
        assert_eq!(task.as_stream(12).life(), "12_shop");
        assert_eq!(task.slot_of(2), "distributary_2_shop");
        assert_eq!(task.slots(), ["distributary_shop"]);
        for (life, name) in [("shop", "shop"), ("2_shop", "shop"), ("a2_b", "a2_b"), ("2", "2")] {
            assert_eq!(task_of_life(life), name);
        }
    }

    proptest! {
        #[test]
        fn limits_are_divided_and_none_becomes_unlimited(limit in 1_u64..1_000_000, streams in 1_u8..=16) {
            let mut task = Task::default();
            task.source.streams = streams;
            task.throttle.incremental.rows = limit;
            let of = |number| task.as_stream(number).throttle.incremental.rows;
            let sum: u64 = (1..=streams).map(of).sum();
            prop_assert!((limit..limit + u64::from(streams)).contains(&sum));
            task.throttle.incremental.rows = 0;
            prop_assert_eq!(task.as_stream(1).throttle.incremental.rows, 0);
        }
    }
}
