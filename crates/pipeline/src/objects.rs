//! What a task would capture, table by table. Writes nothing anywhere.

use crate::capture::{Reading, as_captured, capture};
use crate::failure::Failure;
use kafka::topics::Admin;
use postgres::Session;
use record::plan::{TablePlan, TaskPlan};
use record::selection::Selection;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use wal::Table;
use wal::table::ReplicaIdentity;

/// One captured table.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ObjectRow {
    pub schema: String,
    pub table: String,
    /// The server's estimate.
    pub rows_estimated: u64,
    /// Columns of the record key; empty: the key is null.
    pub key: Vec<String>,
    pub topic: String,
    /// Of the topic where it exists, else as the spec asks.
    pub partitions: i32,
    /// Lanes that own these partitions.
    pub lanes: Vec<u8>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// The captured tables, in the order of their names.
///
/// # Errors
/// When the database or Kafka cannot be asked, or a table cannot be planned as the spec asks.
pub async fn objects(task: &config::Task, folder: &Path) -> Result<Vec<ObjectRow>, Failure> {
    let selection = Selection::new(task).map_err(|error| Failure::fatal(error.to_string()))?;
    let plan = TaskPlan::new(task, &task.source.database)?;
    let settings = postgres::settings::Settings::new(task, folder)?;
    let session = Session::connect(&settings).await?;
    let candidates = session.candidates().await?;
    let captured = capture(&candidates, &selection, session.server().version, &task.source);
    let oids: Vec<u32> = captured.read.iter().map(|reading| reading.relation.oid).collect();
    let found = session.tables(&oids).await?.into_iter().map(Arc::new);
    let tables: Vec<_> = captured.read.into_iter().zip(found).collect();
    let partitions = partitions(task, folder, &selection, &plan, &tables).await?;
    let mut rows = Vec::with_capacity(tables.len());
    for (reading, table) in tables {
        let Some(object) = selection.selected(&table.schema, &table.name) else { continue };
        let topic = plan.topic(object, &table.schema, &table.name)?;
        let existing = partitions.get(&*topic).copied().flatten();
        let count = existing.or(task.objects[object].partitions).unwrap_or(task.sink.partitions);
        let captured = as_captured(Table::clone(&table), task.source.replica_identity);
        let planned = TablePlan::new(captured.into(), &plan, object, count, task.lanes.0)?;
        rows.push(row(&reading, &table, &planned, existing.is_some()));
    }
    rows.sort_by(|a, b| (&a.schema, &a.table).cmp(&(&b.schema, &b.table)));
    Ok(rows)
}

/// Partition counts of the topics that exist.
async fn partitions(
    task: &config::Task,
    folder: &Path,
    selection: &Selection,
    plan: &TaskPlan,
    tables: &[(Reading, Arc<Table>)],
) -> Result<BTreeMap<String, Option<i32>>, Failure> {
    let mut topics = BTreeSet::new();
    for (_, table) in tables {
        if let Some(object) = selection.selected(&table.schema, &table.name) {
            topics.insert(plan.topic(object, &table.schema, &table.name)?.into_string());
        }
    }
    let settings = kafka::settings::Settings::new(task, folder)?;
    let topics: Vec<String> = topics.into_iter().collect();
    let asked =
        tokio::task::spawn_blocking(move || Admin::new(&settings)?.partitions(&topics)).await?;
    Ok(asked?)
}

fn row(reading: &Reading, table: &Table, plan: &TablePlan, topic_exists: bool) -> ObjectRow {
    let key = plan.key().iter().map(|&index| plan.view().columns[index].name.to_string()).collect();
    let mut notes = Vec::new();
    if plan.key().is_empty() {
        notes.push("no key: records have a null key".to_owned());
    }
    if table.identity != ReplicaIdentity::Full {
        notes.push("replica identity is not FULL".to_owned());
    }
    if *reading.relation.name != *table.name || *reading.relation.schema != *table.schema {
        notes.push(format!("read from {}.{}", reading.relation.schema, reading.relation.name));
    }
    if !topic_exists {
        notes.push("topic does not exist yet".to_owned());
    }
    let lanes: BTreeSet<u8> = (0..plan.partitions()).map(|it| plan.lane(it)).collect();
    ObjectRow {
        schema: table.schema.to_string(),
        table: table.name.to_string(),
        rows_estimated: reading.rows,
        key,
        topic: plan.topic().to_owned(),
        partitions: plan.partitions(),
        lanes: lanes.into_iter().collect(),
        notes,
    }
}
