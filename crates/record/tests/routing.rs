//! Which partition and lane a change goes to, and in how many pieces.

mod scene;

use record::lane::lane;
use record::partition::{java_hash, murmur2, of_java, of_murmur2};
use record::plan::{PlanError, TablePlan, TaskPlan};
use record::route::Part;
use scene::{Did, Null, Unchanged, Value, batch, column, orders, plan, transaction, v};
use std::sync::Arc;
use wal::Table;
use wal::table::ReplicaIdentity::{Default, Full, Index};
use wal::types::{Type, oid};

const PARTITIONS: i32 = 6;

/// Partition and part of each piece.
fn pieces(table: &Table, sink: &str, object: &str, changes: &[Did<'_>]) -> Vec<(i32, Part)> {
    let (_, plan) = plan(table, sink, object, PARTITIONS).expect("a plan");
    let batch = batch(table, transaction(), changes);
    let pieces = scene::pieces(&plan, &batch);
    for piece in &pieces {
        assert_eq!(piece.lane, lane(plan.topic(), piece.partition, 8));
    }
    pieces.into_iter().map(|piece| (piece.partition, piece.part)).collect()
}

fn partitions(table: &Table, sink: &str, object: &str, changes: &[Did<'_>]) -> Vec<i32> {
    pieces(table, sink, object, changes).into_iter().map(|(partition, _)| partition).collect()
}

fn by_murmur2(key: &str) -> i32 {
    of_murmur2(murmur2(key.as_bytes()), PARTITIONS)
}

fn order(id: &str) -> [Value<'_>; 4] {
    [v(id), v("x"), v("1.00"), Null]
}

/// `shop.lines(order_id, line, sku)`, key of two columns.
fn lines(identity: wal::table::ReplicaIdentity) -> Table {
    let columns = vec![
        column("order_id", Type::builtin(oid::INT8, "int8"), -1),
        column("line", Type::builtin(oid::INT4, "int4"), -1),
        column("sku", Type::builtin(oid::TEXT, "text"), -1),
    ];
    scene::table("lines", columns, 2, identity)
}

#[test]
fn partition_0_takes_everything() {
    for hash in ["murmur2", "java"] {
        let sink = format!("partitioning: partition-0, hash: {hash}");
        let (first, second) = (order("1001"), order("2001"));
        let changes = [Did::Insert(&first), Did::UpdateRow(&first, &second), Did::Read(&first)];
        // A key change is two pieces here, too.
        assert_eq!(partitions(&orders(Full), &sink, "", &changes), [0, 0, 0, 0]);
    }
}

#[test]
fn a_table_has_one_partition_by_the_names_of_database_and_table() {
    let (first, second) = (order("1001"), order("2001"));
    let changes = [Did::Insert(&first), Did::Insert(&second)];
    let sink = "partitioning: table, hash: java";
    let expected = of_java(java_hash("appdborders"), PARTITIONS);
    assert_eq!(partitions(&orders(Full), sink, "", &changes), [expected; 2]);
    let sink = "partitioning: table, hash: murmur2";
    assert_eq!(partitions(&orders(Full), sink, "", &changes), [by_murmur2("appdborders"); 2]);
}

#[test]
fn a_row_s_partition_is_the_hash_of_its_key() {
    let (first, second) = (order("1001"), order("2001"));
    let changes = [Did::Read(&first), Did::Insert(&second), Did::DeleteRow(&first)];
    // The vendor's: canal's key mode over the texts 1001 and 2001.
    assert_eq!(partitions(&orders(Full), "hash: java", "", &changes), [2, 3, 2]);
    let (first, second) = (by_murmur2(r#"{"id":1001}"#), by_murmur2(r#"{"id":2001}"#));
    assert_eq!(partitions(&orders(Full), "", "", &changes), [first, second, first]);
    let schemas = "format_options: {schemas: true}";
    assert_eq!(partitions(&orders(Full), schemas, "", &changes), [first, second, first]);
}

#[test]
fn columns_of_a_key_are_joined() {
    let row = [v("7"), v("12"), v("x")];
    let changes = [Did::Insert(&row)];
    let expected = of_java(java_hash("7") ^ java_hash("12"), PARTITIONS);
    assert_eq!(partitions(&lines(Full), "hash: java", "", &changes), [expected]);
    let expected = by_murmur2(r#"{"order_id":7,"line":12}"#);
    assert_eq!(partitions(&lines(Full), "", "", &changes), [expected]);
}

#[test]
fn a_table_without_a_key_goes_to_partition_0() {
    let mut table = lines(Full);
    table.key.clear();
    let row = [v("7"), v("12"), v("x")];
    for hash in ["hash: java", "hash: murmur2"] {
        assert_eq!(pieces(&table, hash, "", &[Did::Insert(&row)]), [(0, Part::Whole)]);
    }
}

#[test]
fn chosen_columns_take_the_place_of_the_key() {
    let row = [v("7"), v("12"), v("x")];
    let changes = [Did::Insert(&row), Did::DeleteRow(&row)];
    let object = "partition_key: [sku, order_id]";
    let expected = by_murmur2(r#"{"sku":"x","order_id":7}"#);
    assert_eq!(partitions(&lines(Full), "", object, &changes), [expected; 2]);
    // Under another policy they have no effect.
    assert_eq!(partitions(&lines(Full), "partitioning: partition-0", object, &changes), [0, 0]);
}

#[test]
fn a_key_change_is_a_deletion_and_a_creation_each_in_its_partition() {
    let (before, after) = (order("1001"), order("2001"));
    let key = [v("1001"), Null, Null, Null];
    for (identity, did) in
        [(Full, Did::UpdateRow(&before, &after)), (Default, Did::UpdateKey(&key, &after))]
    {
        assert_eq!(
            pieces(&orders(identity), "hash: java", "", &[did]),
            [(2, Part::KeyChangeDelete), (3, Part::KeyChangeCreate)]
        );
    }
}

#[test]
fn an_unchanged_key_is_one_piece() {
    let (before, mut after) = (order("1001"), order("1001"));
    after[1] = v("y");
    let key = [v("1001"), Null, Null, Null];
    let unsent = [Unchanged, v("y"), v("1.00"), Null];
    for (identity, did) in [
        (Full, Did::UpdateRow(&before, &after)),
        (Full, Did::UpdateRow(&before, &unsent)),
        (Default, Did::UpdateKey(&key, &after)),
        (Default, Did::UpdateKey(&key, &unsent)),
        (Default, Did::Update(&after)),
    ] {
        assert_eq!(pieces(&orders(identity), "hash: java", "", &[did]), [(2, Part::Whole)]);
    }
}

#[test]
fn two_texts_of_one_key_are_no_key_change() {
    let columns = vec![
        column("id", Type::builtin(oid::NUMERIC, "numeric"), -1),
        column("note", Type::builtin(oid::TEXT, "text"), -1),
    ];
    let table = scene::table("prices", columns, 1, Full);
    let (before, after) = ([v("1.0"), Null], [v("1.000"), v("x")]);
    let expected = by_murmur2(r#"{"id":{"scale":0,"value":"AQ=="}}"#);
    let changes = [Did::UpdateRow(&before, &after)];
    assert_eq!(pieces(&table, "", "", &changes), [(expected, Part::Whole)]);
    // Java's hash is over the texts: the row moves, and must leave its old partition.
    let of = |text: &str| of_java(java_hash(text), 5);
    assert_ne!(of("1.0"), of("1.000"));
    let (_, plan) = plan(&table, "hash: java", "", 5).expect("a plan");
    let pieces = scene::pieces(&plan, &batch(&table, transaction(), &changes));
    let found: Vec<_> = pieces.iter().map(|piece| (piece.partition, piece.part)).collect();
    assert_eq!(found, [(of("1.0"), Part::KeyChangeDelete), (of("1.000"), Part::KeyChangeCreate)]);
}

#[test]
fn a_row_that_changes_partition_under_the_same_key_leaves_the_old_one() {
    let before = [v("7"), v("12"), v("x")];
    let object = "partition_key: [sku]";
    let of = |sku: &str| by_murmur2(&format!("{{\"sku\":\"{sku}\"}}"));
    let other = ["a", "b", "c", "d"].into_iter().find(|sku| of(sku) != of("x")).expect("one");
    let same = (0..).map(|n| format!("s{n}")).find(|sku| of(sku) == of("x")).expect("one");
    let (moved, stayed) = ([v("7"), v("12"), v(other)], [v("7"), v("12"), v(&same)]);
    assert_eq!(
        pieces(&lines(Full), "", object, &[Did::UpdateRow(&before, &moved)]),
        [(of("x"), Part::KeyChangeDelete), (of(other), Part::KeyChangeCreate)]
    );
    let stayed = [Did::UpdateRow(&before, &stayed)];
    assert_eq!(pieces(&lines(Full), "", object, &stayed), [(of("x"), Part::Whole)]);
}

#[test]
fn under_using_index_the_key_is_the_index_s() {
    let mut table = lines(Index);
    // The index covers `sku` only; `key` is the primary key.
    for (index, column) in table.columns.iter_mut().enumerate() {
        column.in_identity = index == 2;
    }
    let (_, plan) = plan(&table, "", "", PARTITIONS).expect("a plan");
    assert_eq!(plan.key(), [2]);
    let (old, new) = ([Null, Null, v("x")], [v("7"), v("12"), v("y")]);
    let of = |sku: &str| by_murmur2(&format!("{{\"sku\":\"{sku}\"}}"));
    assert_eq!(
        pieces(&table, "", "", &[Did::UpdateKey(&old, &new), Did::DeleteKey(&old)]),
        [
            (of("x"), Part::KeyChangeDelete),
            (of("y"), Part::KeyChangeCreate),
            (of("x"), Part::Whole),
        ]
    );
    // One that covers the primary key leaves it the key.
    for column in &mut table.columns {
        column.in_identity = true;
    }
    let (_, plan) = scene::plan(&table, "", "", PARTITIONS).expect("a plan");
    assert_eq!(plan.key(), [0, 1]);
}

#[test]
fn a_partition_key_that_deletes_would_not_know_is_refused() {
    let refusal = |table: &Table, object: &str| {
        plan(table, "", object, PARTITIONS).map(|_| ()).expect_err("refused")
    };
    let error = refusal(&lines(Default), "partition_key: [sku]");
    assert!(matches!(error, PlanError::PartitionKeyNotInIdentity { .. }), "{error}");
    assert!(error.to_string().contains("REPLICA IDENTITY FULL"), "{error}");
    let error = refusal(&lines(Full), "partition_key: [skew]");
    assert!(matches!(error, PlanError::PartitionKeyMissing { object: 0, .. }), "{error}");
    let inserts = "partition_key: [sku], operations: [insert]";
    assert!(plan(&lines(Default), "", inserts, PARTITIONS).is_ok());
}

#[test]
fn a_truncate_goes_to_every_partition() {
    let table = orders(Full);
    let (task, plan) = plan(&table, "", "", 3).expect("a plan");
    let batch = batch(&table, transaction(), &[Did::Truncate]);
    let sent = scene::encode(&task, &plan, &batch).expect("encodes");
    let found: Vec<_> = sent
        .iter()
        .map(|record| (record.partition, record.header("distributary.seq").unwrap_or_default()))
        .collect();
    assert_eq!(found, [(0, "0.0"), (1, "0.1"), (2, "0.2")]);
    let off = "format_options: {truncate: false}";
    assert_eq!(pieces(&table, off, "", &[Did::Truncate]), []);
}

#[test]
fn only_the_operations_asked_for_are_written() {
    let (first, second) = (order("1001"), order("2001"));
    let changes = [
        Did::Insert(&first),
        Did::UpdateRow(&first, &second),
        Did::DeleteRow(&second),
        Did::Truncate,
        Did::Read(&first),
    ];
    let ops = |operations: &str| {
        let table = orders(Full);
        let object = format!("operations: [{operations}]");
        let (task, plan) = plan(&table, "", &object, 1).expect("a plan");
        let batch = batch(&table, transaction(), &changes);
        let sent = scene::encode(&task, &plan, &batch).expect("encodes");
        let op = |record: &scene::Sent| match record.value {
            Some(_) => record.json()["op"].as_str().unwrap_or_default().to_owned(),
            None => "-".to_owned(),
        };
        sent.iter().map(op).collect::<String>()
    };
    // Rows of the snapshot are chosen by `sync`.
    assert_eq!(ops("insert"), "cr");
    assert_eq!(ops("update"), "d-cr");
    assert_eq!(ops("delete"), "d-r");
    assert_eq!(ops("truncate"), "tr");
    assert_eq!(ops("insert, update, delete, truncate, ddl"), "cd-cd-tr");
    assert_eq!(ops("ddl"), "r");
}

#[test]
fn topics_follow_the_object_then_the_task() {
    let topic = |sink: &str, object: &str| {
        let (_, plan) = plan(&orders(Full), sink, object, 1).expect("a plan");
        plan.topic().to_owned()
    };
    assert_eq!(topic("", ""), "shop.orders");
    assert_eq!(topic("topic: \"{task}-{table}\"", ""), "shop-orders");
    assert_eq!(topic("topic: \"{task}-{table}\"", "topic: \"{database}\""), "appdb");
}

#[test]
fn what_cannot_be_planned_is_refused() {
    let task = TaskPlan::new(&scene::task("", ""), "appdb").expect("a plan");
    let refusal = |object: usize, partitions: i32, lanes: u8| {
        let table = Arc::new(orders(Full));
        TablePlan::new(table, &task, object, partitions, lanes).map(|_| ()).expect_err("refused")
    };
    assert!(matches!(refusal(1, 1, 1), PlanError::ObjectMissing { object: 1 }));
    assert!(matches!(refusal(0, 0, 1), PlanError::Partitions { partitions: 0, .. }));
    assert!(matches!(refusal(0, 1, 0), PlanError::Lanes { lanes: 0 }));
    assert!(matches!(refusal(0, 1, 65), PlanError::Lanes { lanes: 65 }));
}

#[test]
fn an_update_that_enters_or_leaves_the_filter_is_a_creation_or_a_deletion() {
    let (low, high) = ([v("1"), v("x"), v("1.00"), Null], [v("1"), Unchanged, v("200"), Null]);
    let (more, moved) = ([v("1"), v("x"), v("300"), Null], [v("2"), v("x"), v("300"), Null]);
    let changes = [
        Did::Insert(&low),
        Did::Read(&low),
        Did::Read(&more),
        Did::UpdateRow(&low, &low),
        Did::UpdateRow(&low, &high),
        Did::UpdateRow(&more, &more),
        Did::UpdateRow(&more, &moved),
        Did::UpdateRow(&more, &low),
        Did::DeleteRow(&low),
        Did::DeleteRow(&more),
    ];
    let (one, two) = (by_murmur2(r#"{"id":1}"#), by_murmur2(r#"{"id":2}"#));
    let expected = [
        (one, Part::Whole),
        (one, Part::Enters),
        (one, Part::Whole),
        (one, Part::KeyChangeDelete),
        (two, Part::KeyChangeCreate),
        (one, Part::Leaves),
        (one, Part::Whole),
    ];
    let table = orders(Full);
    assert_eq!(pieces(&table, "", "where: \"total > 100\"", &changes), expected);
    let inserts = "where: \"total > 100\", operations: [insert]";
    assert_eq!(pieces(&table, "", inserts, &changes), [(one, Part::Whole)]);

    let (task, plan) = plan(&table, "", "where: \"total > 100\"", 1).expect("a plan");
    let changes = [Did::UpdateRow(&low, &high), Did::UpdateRow(&more, &low)];
    let sent =
        scene::encode(&task, &plan, &batch(&table, transaction(), &changes)).expect("encodes");
    let ops: Vec<_> =
        sent.iter().map(|it| it.value.as_ref().map(|_| it.json()["op"].clone())).collect();
    assert_eq!(ops, [Some("c".into()), Some("d".into()), None]);
    assert_eq!(sent[0].json()["after"]["note"], "x");
}

#[test]
fn a_filter_asks_only_for_what_old_rows_have() {
    let refused = |identity, object: &str| plan(&orders(identity), "", object, 1).map(drop);
    let object = "where: \"total > 100\"";
    let missing = PlanError::FilterNotInIdentity {
        schema: "shop".into(),
        table: "orders".into(),
        column: "total".into(),
    };
    assert_eq!(refused(Default, object), Err(missing));
    assert_eq!(refused(Default, "where: \"id > 100\""), Ok(()));
    assert_eq!(refused(Default, "where: \"total > 100\", operations: [insert]"), Ok(()));
    assert_eq!(refused(Full, object), Ok(()));
    let unknown = refused(Full, "where: \"gone > 100\"").expect_err("refused").to_string();
    assert!(unknown.starts_with("shop.orders: objects[0].where: shop.orders has no column `gone`"));
    let broken = refused(Full, "where: \"total >\"").expect_err("refused").to_string();
    assert!(broken.starts_with("objects[0].where: something is missing at the end"), "{broken}");
}

#[test]
fn what_a_filter_cannot_judge_ends_the_lane() {
    let table = orders(Full);
    let (task, plan) = plan(&table, "", "where: \"total > 100\"", 1).expect("a plan");
    let wrong = [v("1"), v("x"), v("much"), Null];
    let batch = batch(&table, transaction(), &[Did::Insert(&wrong)]);
    let error = scene::encode(&task, &plan, &batch).expect_err("refused").to_string();
    assert!(error.starts_with("shop.orders: `where` of its object asks for a value"), "{error}");
}
