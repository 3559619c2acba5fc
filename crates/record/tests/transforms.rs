//! `objects[].transform`: which rows are kept, what columns are set to, and what is refused.

mod scene;

use record::encode::EncodeError;
use scene::{
    Did, Null, Sent, Unchanged, Value, batch, column, encode, orders, plan, transaction, v,
};
use serde_json::json;
use std::convert::Infallible;
use wal::Table;
use wal::table::ReplicaIdentity::{Default, Full};
use wal::types::{Type, oid};

const FIRST: [Value<'static>; 4] = [v_("1"), v_("first"), v_("49.90"), Null];
const SECOND: [Value<'static>; 4] = [v_("1"), v_("second"), v_("150.00"), Null];
const PLAIN: &str = "format_options: {tombstones: false, decimal: string}";

const fn v_(text: &str) -> Value<'_> {
    Value::Text(text)
}

fn object(transform: &str) -> String {
    format!("columns: {{add: {{label: \"''\"}}}}, transform: \"{transform}\"")
}

fn outcome(
    table: &Table,
    transform: &str,
    changes: &[Did<'_>],
) -> Result<Vec<Sent>, EncodeError<Infallible>> {
    let (task, plan) = plan(table, PLAIN, &object(transform), 1).expect("a plan");
    encode(&task, &plan, &batch(table, transaction(), changes))
}

#[track_caller]
fn sent(transform: &str, changes: &[Did<'_>]) -> Vec<serde_json::Value> {
    let sent = outcome(&orders(Full), transform, changes).expect("encodes");
    sent.iter().map(Sent::json).collect()
}

/// What an inserted row's columns are set to.
#[track_caller]
fn set(column: &str, expression: &str) -> serde_json::Value {
    let sent = sent(&format!("{{'{column}': {expression}}}"), &[Did::Insert(&FIRST)]);
    sent[0]["after"][column].clone()
}

#[track_caller]
fn refused(transform: &str) -> String {
    let error = plan(&orders(Full), PLAIN, &object(transform), 1).map(drop);
    error.expect_err(transform).to_string()
}

#[track_caller]
fn failure(transform: &str, row: &[Value<'_>]) -> String {
    let failed = outcome(&orders(Full), transform, &[Did::Insert(row)]);
    let error = failed.expect_err(transform);
    assert!(error.is_of_value(), "{error}");
    error.to_string()
}

#[test]
fn rows_are_dropped_kept_and_set() {
    let drop_large = "double(row.total) > 100.0 ? drop : keep";
    assert_eq!(sent(drop_large, &[Did::Insert(&FIRST), Did::Read(&SECOND)]).len(), 1);
    assert_eq!(sent("op == 'delete' ? drop : keep", &[Did::DeleteRow(&FIRST)]).len(), 0);
    assert_eq!(sent("keep", &[Did::Truncate]).len(), 1);
    assert_eq!(sent("drop", &[Did::Truncate]).len(), 1, "a truncate is of no row");
    assert_eq!(set("note", "row.note.upperAscii() + '!'"), "FIRST!");
    assert_eq!(set("label", "op + ' ' + table + ' ' + string(row.id)"), "insert orders 1");
    assert_eq!(set("total", "row.id * 7"), "7.00");
    assert_eq!(set("total", "'12.5'"), "12.50");
    assert_eq!(set("total", "-double(row.total) / 3.0"), "-16.63");
    assert_eq!(set("note", "null"), json!(null));
    assert_eq!(set("note", "row.at == null ? 'never' : row.at"), "never");
    assert_eq!(set("note", "row['note'].replace('rs', '-').substring(1, 4)"), "i-t");
    assert_eq!(set("note", "row.note.matches('^f.*t$') ? 'yes' : 'no'"), "yes");
    assert_eq!(set("note", "row.note in ['a', 'first'] ? 'yes' : 'no'"), "yes");
    assert_eq!(set("note", "commit_time + ' ' + lsn"), "2024-03-05 02:20:30.5+00 0/1A2B400");
    assert_eq!(set("note", "string(row.note.indexOf('st') + size(row.note))"), "8");
}

#[test]
fn values_are_given_and_written_as_their_types_have_them() {
    let columns = vec![
        column("id", Type::builtin(oid::INT8, "int8"), -1),
        column("small", Type::builtin(oid::INT2, "int2"), -1),
        column("real", Type::builtin(oid::FLOAT4, "float4"), -1),
        column("double", Type::builtin(oid::FLOAT8, "float8"), -1),
        column("yes", Type::builtin(oid::BOOL, "bool"), -1),
    ];
    let table = scene::table("kinds", columns, 1, Full);
    let set = |transform: &str| {
        let (task, plan) =
            plan(&table, PLAIN, &format!("transform: \"{transform}\""), 1).expect("a plan");
        let row = [v("1"), v("-7"), v("0.5"), v("1e+300"), v("t")];
        let sent = encode(&task, &plan, &batch(&table, transaction(), &[Did::Insert(&row)]));
        sent.map(|sent| sent[0].json()["after"].clone())
    };
    let row = set(
        "{'small': -row.small, 'real': row.real / 4.0, 'double': row.double * 10.0, 'yes': !row.yes}",
    );
    let row = row.expect("encodes");
    assert_eq!(
        (&row["small"], &row["real"], &row["yes"]),
        (&json!(7), &json!(0.125), &json!(false))
    );
    assert_eq!(row["double"].as_f64(), Some(1e301));
    assert_eq!(
        set("{'double': row.small, 'real': null}").expect("encodes")["double"].as_f64(),
        Some(-7.0)
    );
    let error = set("{'small': row.small * 10000}").expect_err("too large").to_string();
    assert!(error.contains("no value of its type, int2"), "{error}");
}

#[test]
fn steps_see_what_earlier_ones_have_set() {
    let steps = "[{'note': 'a'}, {'note': row.note + 'b', 'label': row.note}, \
                 row.note == 'ab' ? keep : drop]";
    let sent = sent(steps, &[Did::Insert(&FIRST)]);
    assert_eq!(
        (&sent[0]["after"]["note"], &sent[0]["after"]["label"]),
        (&"ab".into(), &"a".into())
    );
}

#[test]
fn before_and_after_stay_states_of_one_row() {
    let updated = [Did::UpdateRow(&FIRST, &SECOND)];
    let upper = sent("{'note': row.note.upperAscii()}", &updated);
    assert_eq!(
        (&upper[0]["before"]["note"], &upper[0]["after"]["note"]),
        (&"FIRST".into(), &"SECOND".into())
    );
    let small = "double(row.total) > 100.0 ? drop : keep";
    let leaves = sent(small, &updated);
    assert_eq!((&leaves[0]["op"], &leaves[0]["after"]), (&"d".into(), &json!(null)));
    let enters = sent(small, &[Did::UpdateRow(&SECOND, &FIRST)]);
    assert_eq!((&enters[0]["op"], &enters[0]["before"]), (&"c".into(), &json!(null)));
    assert_eq!(sent(small, &[Did::UpdateRow(&SECOND, &SECOND), Did::DeleteRow(&SECOND)]).len(), 0);
    let idle = "op == 'update' && before.note == after.note ? drop : keep";
    assert_eq!(sent(idle, &[Did::UpdateRow(&FIRST, &FIRST), updated[0]]).len(), 1);
}

#[test]
fn a_value_that_was_not_sent_comes_from_the_row_as_it_was_before_the_transform() {
    let new = [v("1"), Unchanged, v("150.00"), Null];
    // Only the old row is set: the new one must not take that for its own.
    let transform = "double(row.total) < 100.0 ? {'note': 'small'} : keep";
    let sent = sent(transform, &[Did::UpdateRow(&FIRST, &new)]);
    assert_eq!(
        (&sent[0]["before"]["note"], &sent[0]["after"]["note"]),
        (&"small".into(), &"first".into())
    );
}

#[test]
fn of_a_key_alone_only_what_decides_is_evaluated() {
    let table = orders(Default);
    let transform = "[row.id == 2 ? drop : keep, {'note': row.note.upperAscii()}]";
    let (one, two) = ([v("1"), Null, Null, Null], [v("2"), Null, Null, Null]);
    let changes = [Did::DeleteKey(&one), Did::DeleteKey(&two), Did::Update(&FIRST)];
    let sent = outcome(&table, transform, &changes).expect("encodes");
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1].json()["after"]["note"], "FIRST");
    let by_note = object("row.note == 'x' ? drop : keep");
    let error =
        plan(&table, PLAIN, &by_note, 1).map(drop).expect_err("cannot be judged").to_string();
    assert!(error.contains("REPLICA IDENTITY FULL"), "{error}");
    plan(&table, PLAIN, &format!("operations: [insert], {by_note}"), 1).expect("inserts have all");
}

#[test]
fn what_cannot_be_carried_out_is_refused_before_the_first_row() {
    for (transform, expected) in [
        ("row.id > ", "no CEL expression"),
        ("row.id > 3", "must come to `keep`, `drop`"),
        ("row.id == 3 ? drop : row", "must come to `keep`, `drop`"),
        ("row.gone == 3 ? drop : keep", "no column `gone` (they have: id, note, total, at, label)"),
        ("id > 3 ? drop : keep", "columns are written `row.id`"),
        ("{'gone': 1}", "no column `gone`"),
        ("{'id': 1}", "part of the message key"),
        ("{'note': 1}", "is of type text and takes no int"),
        ("{'note': 'a', 'note': 'b'}", "set twice"),
        ("row.total > 3 ? drop : keep", "compares a string and a int"),
        ("{'note': row.note + row.id}", "convert one with"),
        ("{'note': now()}", "`now` is no function"),
        ("{'note': row.id.upperAscii()}", "`int.upperAscii()` does not exist"),
        ("[1, 2].all(x, x > 1) ? drop : keep", "no function of transforms"),
        ("row.note in [row.note] ? drop : keep", "a list of constants"),
        ("row.note.matches(row.note) ? drop : keep", "constant text"),
        ("row.note.matches('(') ? drop : keep", "`matches`: "),
        ("row.note < null ? drop : keep", "neither less nor greater"),
        ("row.note ? drop : keep", "a condition is a bool"),
    ] {
        let error = refused(transform);
        assert!(error.contains(expected), "{transform}: {error}");
    }
    let long = format!("{{'label': {}'x'}}", "'x' + ".repeat(200));
    assert!(refused(&long).contains("at most 256"), "{}", refused(&long));
    let large = format!("{{'label': '{}'}}", "x".repeat(9000));
    assert!(refused(&large).contains("at most 8192"), "{}", refused(&large));
    let deep = format!("{{'label': {}'x'{}}}", "(".repeat(200), ")".repeat(200));
    assert!(refused(&deep).contains("no CEL expression"), "{}", refused(&deep));
    let key = "partition_key: [note], transform: \"{'note': 'x'}\"";
    let error = plan(&orders(Full), PLAIN, key, 4).map(drop).expect_err("refused").to_string();
    assert!(error.contains("partition key"), "{error}");
    let counted = plan(&orders(Full), "transaction_topic: on", &object("drop"), 1).map(drop);
    let error = counted.expect_err("refused").to_string();
    assert!(error.contains("sink.transaction_topic"), "{error}");
    plan(&orders(Full), "transaction_topic: on", &object("{'note': 'x'}"), 1).expect("drops none");
}

#[test]
fn a_row_that_fails_says_why_and_shows_no_value() {
    let secret = [v("1"), v("secret"), v("49.90"), Null];
    let nothing = [v("1"), Null, v("49.90"), Null];
    for (transform, row, expected) in [
        ("{'total': row.id / (row.id - 1)}", &secret, "division by zero"),
        ("{'total': row.id * 9223372036854775807 + 1}", &secret, "beyond 64 bits"),
        ("{'note': row.note + 'x'}", &nothing, "null perhaps"),
        ("{'total': int(row.note)}", &secret, "`int` cannot be applied"),
        ("{'total': '1.234'}", &secret, "no value of its type, numeric"),
        ("{'total': 12345678901}", &secret, "no value of its type, numeric"),
        ("{'total': row.note}", &secret, "no value of its type, numeric"),
        ("{'note': row.note.substring(99)}", &secret, "`substring` cannot be applied"),
    ] {
        let error = failure(transform, row);
        assert!(error.contains(expected) && error.contains("dead-letter"), "{transform}: {error}");
        assert!(!error.contains("secret"), "{transform}: {error}");
    }
}

#[test]
fn what_one_row_may_cost_is_limited() {
    let large = "x".repeat(600_000);
    let row = [v("1"), v(&large), v("49.90"), Null];
    let once = outcome(&orders(Full), "{'label': row.note}", &[Did::Insert(&row)]);
    assert_eq!(once.expect("fits")[0].json()["after"]["label"], large.as_str());
    assert!(failure("{'label': row.note + row.note}", &row).contains("more than 1048576 bytes"));
    let grown = failure("{'label': row.note.replace('x', 'xxxx')}", &row);
    assert!(grown.contains("`replace` cannot be applied"), "{grown}");
}
