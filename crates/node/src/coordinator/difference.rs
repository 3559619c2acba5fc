//! What a changed spec does to a task, setting by setting. Pure.

use config::{Means, Shape};
use rpc::v1::PlanItem;
use rpc::v1::plan_item::Effect;
use serde_json::Value;
use std::collections::BTreeSet;

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
    (
        "objects",
        "from one position of the stream on; tables that it adds are copied beside the stream where they have a key and \
         `sync.snapshot` is on, tables that it removes are not published any more",
    ),
    ("sink.topic", "records go to other topics from one position of the stream on"),
];

/// One item for each setting that is not as before; for a new task, that is not the default.
pub(super) fn difference(before: Option<&config::Task>, after: &config::Task) -> Vec<PlanItem> {
    let json = |task: &config::Task| serde_json::to_value(task).unwrap_or_default();
    let default = config::Task::default();
    let mut items = Vec::new();
    compare("", Some(&json(before.unwrap_or(&default))), Some(&json(after)), &mut items);
    if before.is_some_and(|before| moves_rows(before, after)) {
        let of_objects = items.iter_mut().filter(|it| it.path.starts_with("objects"));
        of_objects.for_each(|it| it.effect = Effect::Seal.into());
    }
    if before.is_none() {
        for item in &mut items {
            item.before.clear();
            item.note.clear();
            item.effect = Effect::AtOnce.into();
        }
    }
    items
}

/// Whether the objects alone take a seal.
fn moves_rows(before: &config::Task, after: &config::Task) -> bool {
    let shape = before.shape();
    let objects = Shape { objects: after.objects.clone(), ..shape.clone() };
    shape.means_to(&objects) == Some(Means::Seal)
}

fn effect(path: &str) -> Effect {
    match config::means(path) {
        Means::AtOnce => Effect::AtOnce,
        Means::Lanes => Effect::Lanes,
        Means::Mark => Effect::Mark,
        Means::Seal => Effect::Seal,
        Means::Restart | Means::Never => Effect::Restart,
    }
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
        effect: effect(path).into(),
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
                r#"objects[0].topic:  -> "t" EFFECT_MARK"#,
                shown[2].as_str(),
                r#"placement.producers.pool:  -> "fast" EFFECT_AT_ONCE"#,
                r#"sink.brokers: [] -> ["k:1"] EFFECT_RESTART"#,
            ]
        );
        assert_eq!(last, r#"sink.topic_prefix:  -> "eu" EFFECT_SEAL"#);
        assert!(shown[2].starts_with(r#"objects[1]:  -> {"table":"c.d""#), "{}", shown[2]);
    }

    #[test]
    fn objects_that_move_rows_take_a_seal() {
        let before = Task { objects: vec![object("a.b")], ..Task::default() };
        let mut after = before.clone();
        after.objects[0].partition_key = vec!["id".into()];
        assert_eq!(
            shown(Some(&before), &after),
            [r#"objects[0].partition_key: [] -> ["id"] EFFECT_SEAL"#]
        );
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
