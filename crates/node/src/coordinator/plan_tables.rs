//! What a changed spec does to tables, by their names. Pure.

use record::plan::TaskPlan;
use record::selection::Selection;
use rpc::v1::plan_table::Change;
use rpc::v1::{Plan, PlanTable, SeenTable, TablesSeen};

/// Tables that a plan names.
const NAMED_MAX: usize = 100;

/// Where records of a task's tables go.
struct Map {
    selection: Selection,
    plan: TaskPlan,
}

impl Map {
    fn new(task: &config::Task) -> Result<Self, String> {
        let selection = Selection::new(task).map_err(|error| error.to_string())?;
        let plan = TaskPlan::new(task, &task.source.database).map_err(|error| error.to_string())?;
        Ok(Self { selection, plan })
    }

    /// The topic of a table; `None`: it is not captured.
    fn topic(&self, table: &SeenTable) -> Result<Option<String>, String> {
        let Some(object) = self.selection.selected(&table.schema, &table.table) else {
            return Ok(None);
        };
        let topic = self.plan.topic(object, &table.schema, &table.table);
        topic.map(|topic| Some(topic.into())).map_err(|error| error.to_string())
    }
}

/// Tells in the plan of tables that are captured otherwise afterwards. `seen`: those of the database; `None`: nobody has
/// looked.
pub(super) fn tell(
    plan: &mut Plan,
    before: &config::Task,
    after: &config::Task,
    seen: Option<&TablesSeen>,
) {
    if before.objects == after.objects && before.sink.topic == after.sink.topic {
        return;
    }
    let Some(seen) = seen else {
        let text = "which tables it concerns cannot be told now: nobody has looked at the database \
                    since this coordinator leads";
        plan.tables_note = text.into();
        return;
    };
    match changed(before, after, &seen.tables) {
        Ok(mut tables) => {
            plan.tables_count = tables.len() as u64;
            tables.truncate(NAMED_MAX);
            plan.tables = tables;
            if seen.cut {
                plan.tables_note = format!("of the first {} tables only", seen.tables.len());
            }
        }
        Err(error) => plan.tables_note = format!("which tables it concerns: {error}"),
    }
}

fn changed(
    before: &config::Task,
    after: &config::Task,
    seen: &[SeenTable],
) -> Result<Vec<PlanTable>, String> {
    let maps = [Map::new(before)?, Map::new(after)?];
    let mut found = Vec::new();
    for table in seen {
        let [topic_before, topic_after] = [maps[0].topic(table)?, maps[1].topic(table)?];
        let change = match (&topic_before, &topic_after) {
            (None, Some(_)) if after.sync.snapshot && table.has_key => Change::Copied,
            (None, Some(_)) => Change::Streamed,
            (Some(_), None) => Change::Removed,
            (Some(one), Some(other)) if one != other => Change::Moved,
            (None, None) | (Some(_), Some(_)) => continue,
        };
        found.push(PlanTable {
            schema: table.schema.clone(),
            table: table.table.clone(),
            change: change.into(),
            topic_before: topic_before.unwrap_or_default(),
            topic_after: topic_after.unwrap_or_default(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Object;

    fn task(objects: &[(&str, bool)]) -> config::Task {
        let object = |&(table, exclude): &(&str, bool)| Object {
            table: table.into(),
            exclude,
            ..Object::default()
        };
        let objects = objects.iter().map(object).collect();
        config::Task { task: "shop".into(), objects, ..config::Task::default() }
    }

    fn seen(names: &[&str]) -> TablesSeen {
        let table = |name: &&str| SeenTable {
            schema: "public".into(),
            table: (*name).into(),
            has_key: !name.starts_with("log"),
        };
        let tables = names.iter().map(table).collect();
        TablesSeen { tables, ..TablesSeen::default() }
    }

    fn told(before: &config::Task, after: &config::Task, seen: Option<&TablesSeen>) -> Plan {
        let mut plan = Plan::default();
        tell(&mut plan, before, after, seen);
        plan
    }

    #[test]
    fn tables_that_come_go_or_move_are_named() {
        let database = seen(&["carts", "items", "log", "orders", "secret"]);
        let before =
            task(&[("public.orders", false), ("public.items", false), ("public.carts", false)]);
        let mut after =
            task(&[("public.orders", false), ("public.secret", true), ("public.*", false)]);
        after.objects[0].topic = Some("{table}".into());
        after
            .objects
            .insert(0, Object { table: "public.carts".into(), exclude: true, ..Object::default() });
        let plan = told(&before, &after, Some(&database));
        let line = |it: &PlanTable| {
            let change = it.change().as_str_name().trim_start_matches("CHANGE_").to_lowercase();
            format!("{} {change} {} > {}", it.table, it.topic_before, it.topic_after)
        };
        assert_eq!(
            plan.tables.iter().map(line).collect::<Vec<_>>(),
            [
                "carts removed public.carts > ",
                "log streamed  > public.log",
                "orders moved public.orders > orders",
            ]
        );
        assert_eq!((plan.tables_count, &*plan.tables_note), (3, ""));
        let plan = told(&after, &before, Some(&database));
        assert_eq!(plan.tables[0].change(), Change::Copied);
        let without =
            config::Task { sync: config::Sync { snapshot: false, ..before.sync }, ..before };
        let plan = told(&after, &without, Some(&database));
        assert_eq!(plan.tables[0].change(), Change::Streamed);
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let (before, after) = (task(&[("a.b", false)]), task(&[("public.*", false)]));
        assert!(told(&before, &after, None).tables_note.contains("nobody has looked"));
        assert_eq!(told(&before, &before, None), Plan::default());
        let names: Vec<String> = (0..250).map(|it| format!("t{it}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let many = TablesSeen { cut: true, ..seen(&names) };
        let plan = told(&before, &after, Some(&many));
        assert_eq!((plan.tables.len(), plan.tables_count), (NAMED_MAX, 250));
        assert_eq!(plan.tables_note, "of the first 250 tables only");
    }
}
