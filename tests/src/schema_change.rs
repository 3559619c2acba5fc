//! A DDL statement as formats with a schema registry write it: the schema-change record of Debezium's family.

use crate::scene::Scene;
use crate::task::Spec;
use serde_json::Value;

/// Adds the column `added` to the table `shop.orders`, then a row of id 77 that has it, has both delivered, and
/// checks the record of the statement. `read`: a framed key or value as JSON.
///
/// # Panics
/// When it is not the record that it must be.
pub fn check(scene: &Scene, spec: &Spec, read: impl Fn(&[u8]) -> Value) {
    let text = "ALTER TABLE shop.orders ADD COLUMN added int";
    // Who makes event triggers must be a superuser.
    let spec = spec.clone().user("postgres", None).sink("topic_prefix: p");
    scene.catch_up(&spec);
    let mut sql = scene.superuser();
    sql.run(text);
    sql.run("INSERT INTO shop.orders (id, added) VALUES (77, 7)");
    scene.catch_up(&spec);
    let topics = scene.topics();
    let topic = format!("{}.ddl", scene.name);
    let found: Vec<_> = topics.of(&topic).collect();
    let [record] = found.as_slice() else { panic!("one statement, not {}", found.len()) };
    let key = read(record.key.as_deref().expect("a key"));
    assert_eq!(key["databaseName"], scene.name.as_str());
    let value = read(record.value.as_deref().expect("a value"));
    assert_eq!(value["ddl"], text);
    assert_eq!(value["source"]["table"], "orders");
    let change = &value["tableChanges"][0];
    assert_eq!((&change["type"], &change["id"]), (&"ALTER".into(), &"\"shop\".\"orders\"".into()));
    let columns = change["table"]["columns"].as_array().expect("columns");
    let last = columns.last().expect("a column");
    assert_eq!((&last["name"], &last["typeName"]), (&"added".into(), &"int4".into()));
}
