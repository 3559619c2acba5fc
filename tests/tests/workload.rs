//! The workload and the catalog on real servers, without the product: what the other suites stand
//! on.

use std::time::Duration;
use tests::catalog::{contents, shapes};
use tests::form::Form;
use tests::scene::Scene;
use tests::seed::seed;
use tests::sql::Sql;
use tests::workload::{self, LARGE_ROWS, Pace, Workload};

fn runs_on(server: &str) {
    let scene = Scene::new("workload", server);
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let before = contents(&mut sql);
    assert!(before.iter().all(|it| it.rows.is_empty() == (it.shape.table == "empty")));
    let workload = Workload::start(
        &scene,
        seed("workload", 7),
        Pace { pause: Duration::ZERO, ..Pace::default() },
    );
    workload.await_committed(400);
    workload::large_transaction(&mut sql);
    workload.stop();
    let after = contents(&mut sql);
    assert_eq!(before.len(), after.len());
    let changed = before.iter().zip(&after).filter(|(before, after)| before.rows != after.rows);
    assert_eq!(changed.count(), before.len() - 1, "the workload reaches all tables but one");
    let bulk = after.iter().find(|it| it.shape.table == "bulk").expect("the table is there");
    assert!(LARGE_ROWS as usize / 2 < bulk.rows.len());
}

#[test]
fn the_workload_runs_on_11() {
    runs_on("postgres-11");
}

#[test]
fn the_workload_runs_on_15() {
    runs_on("postgres-15");
}

#[test]
fn the_workload_runs_on_18() {
    runs_on("postgres-18");
}

/// The canonical text of one value.
#[track_caller]
fn canonical(sql: &mut Sql, type_: &str, value: &str) -> Option<String> {
    sql.run(&format!(
        "DROP TABLE IF EXISTS one; CREATE TABLE one (v {type_}); INSERT INTO one VALUES ({value})"
    ));
    contents(sql).remove(0).rows.remove(0).remove(0)
}

#[test]
fn values_have_the_text_that_the_format_documents() {
    for server in ["postgres-11", "postgres-18"] {
        let scene = Scene::new("forms", server);
        let mut sql = scene.sql();
        for (type_, value, text) in [
            ("bool", "true", "t"),
            ("date", "'2024-03-05'", "19787"),
            ("date", "'infinity'", "infinity"),
            ("time(3)", "'10:20:30.123'", "37230123"),
            ("time", "'10:20:30.123456'", "37230123456"),
            ("timetz", "'10:20:30.123456+08'", "02:20:30.123456"),
            ("timestamp(3)", "'2024-03-05 10:20:30.123'", "1709634030123"),
            ("timestamp", "'2024-03-05 10:20:30.123456'", "1709634030123456"),
            ("timestamp", "'1969-12-31 23:59:59.999999'", "-1"),
            ("timestamptz", "'2024-03-05 10:20:30.123456+08'", "1709605230123456"),
            ("timestamptz", "'-infinity'", "-infinity"),
            ("interval", "'1 year 2 mons 3 days 04:05:06.789'", "37091106789000"),
            ("interval", "'-00:00:00.000001'", "-1"),
            ("money", "'$1,234.50'", "1234.50"),
            ("numeric", "'123.4500'", "123.45"),
            ("numeric(12,2)", "49.9", "49.90"),
            ("bit(13)", "B'0000000010101'", "10101"),
            ("char(5)", "'ab'", "ab   "),
            ("inet", "'10.0.0.1'", "10.0.0.1"),
            ("point", "'(1,2)'", "1.0,2.0"),
            ("int[]", "'{1,2,NULL}'", "[3][Some(\"1\"), Some(\"2\"), None]"),
            ("int[]", "'{}'", "[][]"),
            ("date[]", "'{2024-03-05}'", "[1][Some(\"19787\")]"),
            (
                "text[]",
                "'{{a,b},{c,d}}'",
                "[2, 2][Some(\"a\"), Some(\"b\"), Some(\"c\"), Some(\"d\")]",
            ),
        ] {
            assert_eq!(canonical(&mut sql, type_, value).as_deref(), Some(text), "{type_} {value}");
        }
        assert_eq!(canonical(&mut sql, "int[]", "NULL"), None);
        sql.run("CREATE TYPE pair AS (a int, b int)");
        assert_eq!(canonical(&mut sql, "pair", "ROW(NULL, NULL)").as_deref(), Some("(,)"));
        assert_eq!(canonical(&mut sql, "pair", "NULL"), None);
    }
}

#[test]
fn shapes_are_those_of_roots_with_keys_in_their_order() {
    let scene = Scene::new("shapes", "postgres-15");
    let mut sql = scene.sql();
    workload::create(&mut sql);
    let shapes = shapes(&mut sql);
    let find = |table: &str| shapes.iter().find(|shape| shape.table == table);
    assert!(find("regions_rest").is_none());
    assert_eq!(find("stock").unwrap().key, [2, 1]);
    assert_eq!(find("events").unwrap().key, [0usize; 0]);
    let cents =
        &find("kinds").unwrap().columns.iter().find(|it| it.name == "a_cents").unwrap().form;
    assert_eq!(*cents, Form::Decimal { scale: 2 });
}
