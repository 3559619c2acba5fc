//! Masked columns: nothing of the value leaves, in any format, image, key or dead letter.

mod scene;

use config::SqlAscii;
use proptest::prelude::*;
use record::encode::{Cause, Encoder, Letter};
use record::plan::{PlanError, TablePlan, TaskPlan};
use record::rewrite::{MaskKey, rewrite};
use record::schema::Ids;
use scene::{Did, Null, Unchanged, Value, batch, column, orders, pieces, table, transaction, v};
use std::convert::Infallible;
use std::sync::Arc;
use wal::table::ReplicaIdentity;
use wal::types::{Type, oid};
use wal::{ChangeBatch, Datum, Table};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
/// By another library (Python, `hmac`), of `s3cret` under [`KEY`].
const MASKED: &str = "83930f25e67c425079c76c9e44879712553a17572d1d3ec1f221506fb778a425";

const FORMATS: &[&str] = &[
    "debezium-json",
    "debezium-json, format_options: {schemas: true}",
    "debezium-avro, registry: {url: 'http://r'}",
    "protobuf, registry: {url: 'http://r'}",
    "dts-avro",
    "canal-json",
    "maxwell-json",
    "shareplex-json",
];

fn customers() -> Table {
    let columns = vec![
        column("id", Type::builtin(oid::INT8, "int8"), -1),
        column("email", Type::builtin(oid::VARCHAR, "varchar"), 24),
        column("born", Type::builtin(oid::DATE, "date"), -1),
    ];
    let mut table = table("customers", columns, 2, ReplicaIdentity::Full);
    table.columns[2].default = Some("1970-01-01".into());
    table
}

/// A spec whose one object masks these columns.
fn masking(sink: &str, columns: &[&str]) -> config::Task {
    let mut task = scene::task(sink, "");
    let mask = columns.iter().map(|&column| (column.to_owned(), config::Mask::HmacSha256));
    let columns = config::Columns { mask: mask.collect(), ..config::Columns::default() };
    task.objects[0].columns = Some(columns);
    task
}

fn planned(
    table: &Table,
    sink: &str,
    mask: &[&str],
    partitions: i32,
) -> (TaskPlan, Arc<TablePlan>) {
    let task = TaskPlan::new(&masking(sink, mask), "appdb").expect("a plan");
    let task = task.with_mask_key(MaskKey::new(KEY).ok()).expect("a key");
    let plan = TablePlan::new(Arc::new(table.clone()), &task, 0, partitions, 8).expect("a plan");
    if let Some(schemas) = plan.schemas() {
        schemas.taken_first(Ids { key: Some(1), value: 2 });
    }
    (task, Arc::new(plan))
}

fn masked(table: &Table, plan: &Arc<TablePlan>, changes: &[Did<'_>]) -> ChangeBatch {
    let mut batch = batch(table, transaction(), changes);
    rewrite(&mut batch, &[Some(Arc::clone(plan))]);
    batch
}

/// Everything that is written of the changes, with a dead letter for each piece.
fn written(task: &TaskPlan, plan: &TablePlan, batch: &ChangeBatch) -> Vec<u8> {
    let mut encoder = Encoder::new(task);
    let mut all = Vec::new();
    let mut take = |record: record::Record<'_>| {
        all.extend_from_slice(record.key.unwrap_or_default());
        all.extend_from_slice(record.value.unwrap_or_default());
        for (name, value) in record.headers {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(value);
        }
        Ok::<(), Infallible>(())
    };
    let letter = Letter { topic: "dead", partition: 0, cause: Cause::Oversize, reason: "large" };
    for piece in pieces(plan, batch) {
        encoder.encode(plan, batch, &piece, scene::NOW_US, &mut take).expect("encodes");
        encoder.letter(plan, batch, &piece, &letter, &mut take).expect("a letter");
    }
    all
}

fn contains(all: &[u8], text: &str) -> bool {
    all.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn nothing_of_a_masked_value_is_written_in_any_format() {
    let old = [v("7"), v("s3cret"), v("1999-12-31")];
    let new = [v("7"), v("0ther"), v("1999-12-31")];
    let changes = [
        Did::Read(&old),
        Did::Insert(&old),
        Did::UpdateRow(&old, &old),
        Did::UpdateRow(&old, &new),
        Did::UpdateKey(&[v("7"), v("s3cret"), Null], &new),
        Did::DeleteRow(&old),
        Did::DeleteKey(&[v("7"), v("s3cret"), Null]),
    ];
    for format in FORMATS {
        let table = customers();
        let sink = format!("format: {format}");
        let (task, plan) = planned(&table, &sink, &["email", "born"], 8);
        let mut all = written(&task, &plan, &masked(&table, &plan, &changes));
        for draft in plan.schemas().iter().flat_map(|it| it.key.iter().chain([&it.value])) {
            all.extend_from_slice(draft.after(&[]).text.as_bytes());
        }
        for secret in ["s3cret", "0ther", "1999-12-31", "1970-01-01"] {
            assert!(!contains(&all, secret), "{format}: `{secret}` is written");
        }
        assert!(contains(&all, MASKED), "{format}: the mask is not written");
    }
}

#[test]
fn a_masked_column_is_a_text_and_null_stays_null() {
    let table = customers();
    let (task, plan) = planned(&table, "", &["born"], 1);
    let born = &plan.table().columns[2];
    assert_eq!((&*born.type_.name, born.type_modifier, &born.default), ("text", -1, &None));
    let batch = masked(&table, &plan, &[Did::Insert(&[v("7"), v("e"), Null])]);
    let sent = scene::encode(&task, &plan, &batch).expect("encodes");
    assert_eq!(sent[0].json()["after"]["born"], serde_json::Value::Null);
    assert_eq!(batch.tables[0].columns[2].type_.oid, oid::TEXT);
}

#[test]
fn what_was_not_sent_is_filled_with_its_mask() {
    let table = customers();
    let (task, plan) = planned(&table, "", &["email"], 1);
    let old = [v("7"), v("s3cret"), Null];
    let new = [v("7"), Unchanged, v("2000-01-01")];
    let batch = masked(&table, &plan, &[Did::UpdateRow(&old, &new)]);
    let sent = scene::encode(&task, &plan, &batch).expect("encodes");
    assert_eq!(sent[0].json()["after"]["email"], MASKED);
    assert_eq!(sent[0].json()["before"]["email"], MASKED);
}

#[test]
fn a_mask_of_no_column_and_one_without_a_key_are_refused() {
    let task = TaskPlan::new(&masking("", &["emial"]), "appdb").expect("a plan");
    let error = TablePlan::new(Arc::new(customers()), &task, 0, 1, 8).expect_err("refused");
    assert!(matches!(error, PlanError::MaskMissing { .. }), "{error}");
    let error = task.with_mask_key(None).expect_err("refused");
    assert_eq!(error, PlanError::MaskKeyMissing);
}

#[test]
fn rows_of_other_tables_and_messages_stay_as_they_are() {
    let table = orders(ReplicaIdentity::Full);
    let (_, plain) = scene::plan(&table, "", "", 1).expect("a plan");
    let row = [v("7"), v("n"), v("1.00"), v("2024-01-01 00:00:00+00")];
    let before = batch(&table, transaction(), &[Did::Insert(&row), Did::DeleteRow(&row)]);
    let mut after = before.clone();
    rewrite(&mut after, &[Some(Arc::new(plain))]);
    assert_eq!((after.changes, after.bytes), (before.changes, before.bytes));
}

proptest! {
    /// The same value has the same mask, partition and lane in every image and after every restart.
    #[test]
    fn a_masked_key_is_stable(id in "[0-9]{1,6}", email in "\\PC{1,20}", note in "[a-z]{0,5}") {
        let columns = vec![
            column("id", Type::builtin(oid::INT8, "int8"), -1),
            column("email", Type::builtin(oid::TEXT, "text"), -1),
            column("note", Type::builtin(oid::TEXT, "text"), -1),
        ];
        let table = table("people", columns, 2, ReplicaIdentity::Full);
        let (_, plan) = planned(&table, "", &["email"], 64);
        let row = [v(&id), v(&email), v(&note)];
        let changed = [v(&id), v(&email), v("changed")];
        let read = masked(&table, &plan, &[Did::Read(&row)]);
        let stream = masked(&table, &plan, &[
            Did::Insert(&row), Did::UpdateRow(&row, &changed), Did::DeleteRow(&changed),
        ]);
        let places: Vec<_> = pieces(&plan, &read).into_iter().chain(pieces(&plan, &stream))
            .map(|piece| (piece.partition, piece.lane)).collect();
        prop_assert_eq!(places.len(), 4, "a key change was seen where there is none");
        prop_assert!(places.iter().all(|place| *place == places[0]));
    }

    #[test]
    fn rewriting_keeps_rows_readable(
        rows in prop::collection::vec((any::<Option<Vec<u8>>>(), any::<bool>()), 1..20),
    ) {
        let columns = vec![
            column("id", Type::builtin(oid::INT8, "int8"), -1),
            column("text", Type::builtin(oid::TEXT, "text"), -1),
        ];
        let table = table("t", columns, 1, ReplicaIdentity::Full);
        let task = TaskPlan::new(&{
            let mut task = scene::task("", "");
            task.source.sql_ascii = "replace".into();
            task
        }, "appdb").expect("a plan");
        prop_assert!(SqlAscii::parse("replace").is_some());
        let plan = Arc::new(TablePlan::new(Arc::new(table.clone()), &task, 0, 1, 8).expect("a plan"));
        let values: Vec<[Value<'_>; 2]> = rows.iter().map(|(text, unchanged)| match text {
            None => [v("1"), Null],
            Some(_) if *unchanged => [v("1"), Unchanged],
            Some(text) => [v("1"), Value::Bytes(text)],
        }).collect();
        let changes: Vec<_> = values.iter().map(|row| Did::Insert(row)).collect();
        let before = batch(&table, transaction(), &changes);
        let mut after = before.clone();
        rewrite(&mut after, &[Some(plan)]);
        for (was, is) in before.changes.iter().zip(&after.changes) {
            let (was, is) = (before.tuple(was.new.expect("new")), after.tuple(is.new.expect("new")));
            prop_assert_eq!(was.len(), is.len());
            for (was, is) in was.iter().zip(is) {
                match (was, is) {
                    (Datum::Text(was), Datum::Text(is)) => {
                        let was = String::from_utf8_lossy(was);
                        prop_assert_eq!(was.as_bytes(), is);
                    }
                    (was, is) => prop_assert_eq!(was, is),
                }
            }
        }
    }
}

#[test]
fn what_is_masked_cannot_be_judged_and_may_be_renamed() {
    let plan = |condition: &str, rename: &[(&str, &str)]| {
        let mut task = masking("format: debezium-json", &["email"]);
        task.objects[0].condition = Some(condition.to_owned());
        let columns = task.objects[0].columns.as_mut().expect("columns");
        columns.rename.extend(rename.iter().map(|&(from, to)| (from.to_owned(), to.to_owned())));
        let task = TaskPlan::new(&task, "appdb").expect("a plan");
        let task = task.with_mask_key(MaskKey::new(KEY).ok()).expect("a key");
        let plan = TablePlan::new(Arc::new(customers()), &task, 0, 1, 8);
        plan.map(|plan| (task, Arc::new(plan)))
    };
    let refused = plan("email = 'ann@example.com'", &[]).expect_err("masked before it is judged");
    assert!(matches!(refused, PlanError::FilterOnMasked { .. }), "{refused}");
    let (task, plan) = plan("id > 1", &[("email", "mail")]).expect("a plan");
    assert_eq!(&*plan.view().columns[1].name, "mail");
    let changes: &[Did<'_>] = &[Did::Insert(&[v("2"), v("ann@example.com"), Null])];
    let batch = masked(&customers(), &plan, changes);
    let all = written(&task, &plan, &batch);
    assert!(contains(&all, "\"mail\"") && !contains(&all, "ann@example.com"));
}
