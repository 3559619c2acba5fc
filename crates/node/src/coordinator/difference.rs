//! What a changed spec does to a task, setting by setting. Pure.

use rpc::v1::PlanItem;
use rpc::v1::plan_item::Effect;
use serde_json::Value;
use std::collections::BTreeSet;

/// Settings by their first keys. What is not named here takes a restart.
const EFFECTS: &[(&str, Effect)] = &[
    ("labels", Effect::AtOnce),
    ("alerts", Effect::AtOnce),
    ("placement.producers", Effect::AtOnce),
    ("lanes", Effect::Seal),
    ("objects", Effect::Seal),
    ("source.partition_names", Effect::Seal),
    ("source.sql_ascii", Effect::Seal),
    ("sink.topic", Effect::Seal),
    ("sink.topic_prefix", Effect::Seal),
    ("sink.format", Effect::Seal),
    ("sink.format_options", Effect::Seal),
    ("sink.partitioning", Effect::Seal),
    ("sink.hash", Effect::Seal),
    ("sink.unrepresentable", Effect::Seal),
    ("sink.headers", Effect::Seal),
];

/// What a person should know before agreeing.
const NOTES: &[(&str, &str)] = &[
    (
        "source.slot_prefix",
        "the slot of the old name stays on the server and holds back WAL; release the task first",
    ),
    ("source.database", "the front refuses to go on with another database"),
    ("sink.brokers", "on another Kafka cluster the task finds no positions and begins anew"),
    ("sink.state_prefix", "under another name the task finds no positions and begins anew"),
    ("sink.partitions", "topics that exist keep the partitions they have"),
    ("sink.replication_factor", "topics that exist keep the copies they have"),
    ("sink.topic_config", "topics that exist keep their settings"),
    (
        "mask_key",
        "under another key the same values become other masks, and rows with masked keys move",
    ),
    ("objects", "records may go to other topics or partitions from one position of the stream on"),
];

/// One item for each setting that is not as before; for a new task, that is not the default.
pub(super) fn difference(before: Option<&config::Task>, after: &config::Task) -> Vec<PlanItem> {
    let json = |task: &config::Task| serde_json::to_value(task).unwrap_or_default();
    let default = config::Task::default();
    let mut items = Vec::new();
    compare("", Some(&json(before.unwrap_or(&default))), Some(&json(after)), &mut items);
    if before.is_none() {
        for item in &mut items {
            item.before.clear();
            item.note.clear();
            item.effect = Effect::AtOnce.into();
        }
    }
    items
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, items: &mut Vec<PlanItem>) {
    let known = |it: Option<&Value>| it.filter(|it| !it.is_null()).cloned();
    let (before, after) = (known(before), known(after));
    if before == after {
        return;
    }
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (&before, &after) {
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&inner, before.get(key), after.get(key), items);
        }
        return;
    }
    if let (Some(Value::Array(before)), Some(Value::Array(after))) = (&before, &after)
        && before.iter().chain(after).all(Value::is_object)
    {
        for index in 0..before.len().max(after.len()) {
            let inner = format!("{path}[{index}]");
            compare(&inner, before.get(index), after.get(index), items);
        }
        return;
    }
    let text = |it: Option<Value>| it.map(|it| it.to_string()).unwrap_or_default();
    items.push(PlanItem {
        path: path.to_owned(),
        before: text(before),
        after: text(after),
        effect: found(EFFECTS, path).unwrap_or(Effect::Restart).into(),
        note: found(NOTES, path).unwrap_or_default().to_owned(),
    });
}

fn found<T: Copy>(table: &[(&str, T)], path: &str) -> Option<T> {
    let is_within = |key: &str| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    table.iter().find(|(key, _)| is_within(key)).map(|(_, it)| *it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Lanes, Object, Task};

    fn object(table: &str) -> Object {
        Object { table: table.into(), ..Object::default() }
    }

    fn shown(before: Option<&Task>, after: &Task) -> Vec<String> {
        let items = difference(before, after);
        let shown = |it: &PlanItem| {
            format!("{}: {} -> {} {}", it.path, it.before, it.after, it.effect().as_str_name())
        };
        items.iter().map(shown).collect()
    }

    #[test]
    fn each_setting_has_its_line() {
        let before = Task { objects: vec![object("a.b")], ..Task::default() };
        assert!(difference(Some(&before), &before).is_empty());
        let mut after = before.clone();
        after.lanes = Lanes(4);
        after.sink.topic_prefix = Some("eu".into());
        after.sink.brokers = vec!["k:1".into()];
        after.placement.producers = [("pool".to_owned(), "fast".to_owned())].into();
        after.objects[0].topic = Some("t".into());
        after.objects.push(object("c.d"));
        let shown = shown(Some(&before), &after);
        let (last, rest) = shown.split_last().expect("some");
        assert_eq!(
            rest,
            [
                "lanes: 8 -> 4 EFFECT_SEAL",
                r#"objects[0].topic:  -> "t" EFFECT_SEAL"#,
                shown[2].as_str(),
                r#"placement.producers.pool:  -> "fast" EFFECT_AT_ONCE"#,
                r#"sink.brokers: [] -> ["k:1"] EFFECT_RESTART"#,
            ]
        );
        assert_eq!(last, r#"sink.topic_prefix:  -> "eu" EFFECT_SEAL"#);
        assert!(shown[2].starts_with(r#"objects[1]:  -> {"table":"c.d""#), "{}", shown[2]);
    }

    #[test]
    fn a_new_task_shows_what_is_not_the_default() {
        let after = Task { task: "shop".into(), lanes: Lanes(2), ..Task::default() };
        let expected = ["lanes:  -> 2 EFFECT_AT_ONCE", r#"task:  -> "shop" EFFECT_AT_ONCE"#];
        assert_eq!(shown(None, &after), expected);
    }

    #[test]
    fn secrets_stand_there_as_references() {
        let task = |password: &str| {
            let text = format!(
                "version: 1\ntask: shop\nsource: {{hosts: [\"d:1\"], database: d, user: u, password: \
                 \"{password}\"}}\nsink: {{brokers: [\"k:1\"]}}\nobjects: [{{table: a.b}}]\n"
            );
            Task::parse(&text).expect("a spec")
        };
        let shown = shown(Some(&task("${env:A}")), &task("${env:B}"));
        assert_eq!(shown, [r#"source.password: "${env:A}" -> "${env:B}" EFFECT_RESTART"#]);
    }
}
