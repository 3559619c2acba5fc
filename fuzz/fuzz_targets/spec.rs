//! Any text as a task's spec, a node's configuration, and as filter and transform of a table.
#![no_main]

use config::{Object, Role, Task};
use libfuzzer_sys::fuzz_target;
use record::plan::TaskPlan;

fn plan(spec: &Task) {
    let _ = TaskPlan::new(spec, "appdb");
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(spec) = Task::parse(text) {
        plan(&spec);
    }
    for role in [Role::Worker, Role::Coordinator] {
        let _ = config::Node::parse(text, role);
    }
    let object = Object { table: "public.orders".into(), ..Object::default() };
    let filtered = Object { condition: Some(text.into()), ..object.clone() };
    let transformed = Object { transform: Some(text.into()), ..object };
    for object in [filtered, transformed] {
        plan(&Task { task: "t".into(), objects: vec![object], ..Task::default() });
    }
});
