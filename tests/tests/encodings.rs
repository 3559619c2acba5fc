//! Databases in other encodings than UTF-8: converted by the server, or by the task where the server cannot;
//! no text stops the stream. And masked columns, from the snapshot to the printed tail.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use tests::deadline::await_true;
use tests::process::Distributary;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::sql::{ROLE, Sql, quoted};
use tests::task::Spec;

const SOON: Duration = Duration::from_secs(60);

/// A database in an encoding, in place of the scene's own; a table with a row is in it.
fn scene(label: &str, encoding: &str) -> Scene {
    let scene = Scene::new(label, "postgres-15");
    let mut sql = Sql::superuser(&scene.postgres, "postgres");
    let database = quoted(&scene.name);
    sql.run(&format!("DROP DATABASE {database}"));
    sql.run(&format!(
        "CREATE DATABASE {database} OWNER {ROLE} ENCODING '{encoding}' TEMPLATE template0 \
         LC_COLLATE 'C' LC_CTYPE 'C'"
    ));
    scene.sql().run("CREATE TABLE note (id int PRIMARY KEY, body text, list text[])");
    scene
}

/// The last `body` of each row, as the topics have it; dead letters apart.
fn bodies(scene: &Scene) -> (BTreeMap<i64, Value>, BTreeMap<String, Value>) {
    let (mut written, mut set_aside) = (BTreeMap::new(), BTreeMap::new());
    for record in scene.topics().records {
        let event = record.json();
        let after = &event["after"];
        if record.header("distributary.dead-letter").is_some() {
            set_aside
                .insert(after["id"].as_str().expect("a text").to_owned(), after["body"].clone());
        } else {
            written.insert(after["id"].as_i64().expect("an id"), after["body"].clone());
        }
    }
    (written, set_aside)
}

/// Bytes of a text that is written as they are.
fn raw(hex: &str) -> String {
    format!(
        "convert_from('\\x{hex}', (SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database())::name)"
    )
}

#[test]
fn the_server_converts_what_it_knows() {
    for (encoding, text) in [("LATIN1", "größe"), ("EUC_JP", "日本語"), ("EUC_CN", "中文")] {
        let scene = scene("known", encoding);
        let mut sql = scene.sql();
        sql.run(&format!("INSERT INTO note VALUES (1, '{text}', ARRAY['{text}'])"));
        scene.catch_up(&scene.spec());
        sql.run(&format!("INSERT INTO note VALUES (2, '{text}', NULL)"));
        sql.run(&format!("UPDATE note SET body = '{text}!' WHERE id = 1"));
        scene.catch_up(&scene.spec());
        let (written, _) = bodies(&scene);
        let expected = BTreeMap::from([(1, format!("{text}!").into()), (2, text.into())]);
        assert_eq!(written, expected, "{encoding}");
    }
}

#[test]
fn a_text_that_the_server_cannot_convert_parks_and_a_setting_takes_it_through() {
    // A place in EUC_CN's table where no character stands.
    let scene = scene("unknown", "EUC_CN");
    let mut sql = scene.sql();
    scene.catch_up(&scene.spec());
    sql.run(&format!("INSERT INTO note VALUES (1, {}, NULL)", raw("61fefe")));
    sql.run("INSERT INTO note VALUES (2, '中文', NULL)");
    let ended = scene.run(&scene.spec(), &["--until-caught-up"]).wait(CATCH_UP_MAX);
    ended.expect(1);
    for word in ["as UTF-8", "source.sql_ascii"] {
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    }
    let spec = scene.spec().source("sql_ascii: EUC_CN").sink("unrepresentable: dead-letter");
    scene.catch_up(&spec);
    let (written, set_aside) = bodies(&scene);
    assert_eq!(written.get(&2), Some(&"中文".into()));
    // GBK has a private character there, or none: the row is in one place or the other.
    assert_eq!(written.len() + set_aside.len(), 2, "{written:?} {set_aside:?}");
}

/// Writes texts of a database without an encoding under a policy, some before the snapshot.
fn without_encoding(label: &str, policy: &str) -> (BTreeMap<i64, Value>, BTreeMap<String, Value>) {
    without_encoding_or(label, policy, "dead-letter")
}

/// As [`without_encoding`]; `otherwise`: what becomes of what is no text.
fn without_encoding_or(
    label: &str,
    policy: &str,
    otherwise: &str,
) -> (BTreeMap<i64, Value>, BTreeMap<String, Value>) {
    let scene = scene(label, "SQL_ASCII");
    let mut sql = scene.sql();
    let spec = scene.spec().source(&format!("sql_ascii: {policy}"));
    let spec = spec.sink(&format!("unrepresentable: \"{otherwise}\""));
    sql.run(&format!("INSERT INTO note VALUES (1, {}, NULL), (2, 'plain', NULL)", raw("61e9")));
    scene.catch_up(&spec);
    sql.run(&format!("INSERT INTO note VALUES (3, {}, NULL)", raw("e962")));
    sql.run(&format!("INSERT INTO note VALUES (4, {}, NULL)", raw("c6fccbdc")));
    sql.run("INSERT INTO note VALUES (5, 'after', NULL), (6, 'base64:x', NULL)");
    sql.run("UPDATE note SET body = 'größe' WHERE id = 2");
    scene.catch_up(&spec);
    bodies(&scene)
}

#[test]
fn texts_without_an_encoding_pass_by_policy() {
    let of = |texts: &[(i64, &str)]| -> BTreeMap<i64, Value> {
        texts.iter().map(|&(id, text)| (id, text.into())).collect()
    };
    let (written, set_aside) = without_encoding("base", "base64");
    assert_eq!(
        written,
        of(&[
            (1, "base64:Yek="),
            (2, "größe"),
            (3, "base64:6WI="),
            (4, "base64:xvzL3A=="),
            (5, "after"),
            (6, "base64:YmFzZTY0Ong="),
        ])
    );
    assert!(set_aside.is_empty(), "{set_aside:?}");
    let (written, set_aside) = without_encoding("latin", "latin1");
    assert_eq!(written[&1], "aé");
    assert_eq!((&written[&3], &written[&4]), (&"éb".into(), &"ÆüËÜ".into()));
    assert!(set_aside.is_empty(), "{set_aside:?}");
    let (written, _) = without_encoding("replaced", "replace");
    assert_eq!(written[&1], "a\u{FFFD}");
    let (written, set_aside) = without_encoding("japan", "EUC_JP");
    assert_eq!(written[&4], "日本");
    assert_eq!(set_aside["1"], serde_json::json!({"base64": "Yek="}));
    assert_eq!(written[&5], "after", "the stream has stopped at a text");
    let (written, set_aside) = without_encoding_or("japan_null", "EUC_JP", "null");
    assert_eq!((&written[&1], &written[&4]), (&Value::Null, &"日本".into()));
    assert_eq!(written[&5], "after", "the stream has stopped at a text");
    assert!(set_aside.is_empty(), "{set_aside:?}");
}

/// The task of masked customers, and the file of its key.
fn masked(scene: &Scene) -> Spec {
    fs::write(scene.folder().join("mask.key"), "a-key-that-nobody-may-see-0123456789\n")
        .expect("written");
    let object =
        "{table: public.customer, columns: {mask: {email: hmac-sha256, born: hmac-sha256}}}";
    scene.spec().line("mask_key: ${file:mask.key}").objects(&[object])
}

#[test]
fn masked_values_are_nowhere_and_their_rows_stay_where_they_are() {
    let scene = Scene::new("masked", "postgres-15");
    let mut sql = scene.sql();
    sql.run("CREATE TABLE customer (email text, id int, born date DEFAULT '1970-01-01', note text, PRIMARY KEY (email, id))");
    sql.run("INSERT INTO customer SELECT 'hushhush' || n || '@x', n, '1999-12-31', 'n' FROM generate_series(1, 20) n");
    let spec = masked(&scene);
    scene.catch_up(&spec);
    let mut tail = {
        let path = spec.write(scene.folder());
        let arguments = [std::path::Path::new("tail"), &path];
        Distributary::start(scene.folder(), &arguments)
    };
    let slots = format!("{}_tail_", scene.slot());
    let mut look = scene.superuser();
    await_true("the slot of tail", SOON, || {
        look.value(&format!(
            "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name LIKE '{slots}%'"
        )) == "1"
    });
    sql.run("UPDATE customer SET note = 'changed'; UPDATE customer SET email = 'hushhush-new@x' WHERE id = 3; DELETE FROM customer WHERE id = 4");
    await_true("the deletion in tail", SOON, || {
        tail_text(&mut tail, &scene).contains("\"op\":\"d\"")
    });
    let run = scene.catch_up(&spec);
    let shown = tail_text(&mut tail, &scene);
    let ended = tail.interrupt(SOON);
    let topics = scene.topics();
    let mut places: BTreeMap<Vec<u8>, i32> = BTreeMap::new();
    let mut all = String::new();
    for record in &topics.records {
        for bytes in [&record.key, &record.value].into_iter().flatten() {
            all.push_str(&String::from_utf8_lossy(bytes));
        }
        record.headers.iter().for_each(|(_, value)| all.push_str(&String::from_utf8_lossy(value)));
        let key = record.key.clone().expect("a key");
        let place = *places.entry(key).or_insert(record.partition);
        assert_eq!(place, record.partition, "a row has moved");
    }
    assert_eq!(places.len(), 21);
    let everything = [&all, &shown, &ended.stdout, &ended.stderr, &run.stdout, &run.stderr];
    for secret in ["hushhush", "1999-12-31", "1970-01-01", "a-key-that-nobody-may-see"] {
        assert!(everything.iter().all(|text| !text.contains(secret)), "`{secret}` is shown");
    }
    let first = topics.records.iter().find(|record| record.key_json()["id"] == 1).expect("a row");
    assert_eq!(first.key_json()["email"].as_str().expect("a text").len(), 64);
}

fn tail_text(tail: &mut Distributary, scene: &Scene) -> String {
    assert!(!tail.has_ended(), "tail has ended:\n{}", tail.log());
    let mut texts = String::new();
    for entry in fs::read_dir(scene.folder()).expect("the folder").flatten() {
        if entry.path().extension().is_some_and(|it| it == "out") {
            texts.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    texts
}

#[test]
fn masks_without_a_key_or_a_column_are_refused() {
    let scene = Scene::new("nokey", "postgres-15");
    scene.sql().run("CREATE TABLE customer (id int PRIMARY KEY)");
    let refused = |spec: &Spec, code: i32, word: &str| {
        let ended = scene.run(spec, &["--until-caught-up"]).wait(CATCH_UP_MAX);
        ended.expect(code);
        assert!(ended.stderr.contains(word), "`{word}` is not said:\n{}", ended.stderr);
    };
    refused(&masked(&scene), 3, "columns.mask");
    fs::write(scene.folder().join("mask.key"), "short").expect("written");
    let spec = masked(&scene);
    fs::write(scene.folder().join("mask.key"), "short").expect("written");
    refused(&spec, 3, "5 bytes");
    let object = "{table: public.customer, columns: {mask: {id: hmac-sha256}}}";
    refused(&scene.spec().objects(&[object]), 2, "mask_key");
}

#[test]
fn names_that_would_meet_are_found_before_the_start() {
    let scene = Scene::new("meet", "postgres-15");
    scene.sql().run(
        "CREATE SCHEMA a; CREATE SCHEMA \"a.b\"; CREATE TABLE \"a.b\".c (id int PRIMARY KEY); \
         CREATE TABLE a.\"b.c\" (id int PRIMARY KEY); \
         CREATE TABLE fields (\"a-b\" int PRIMARY KEY, \"a.b\" int)",
    );
    let checked = |mode: &str| {
        let sink = format!("format_options: {{field_name_adjustment: {mode}}}");
        let path = scene.spec().sink(&sink).write(scene.folder());
        let path = path.to_str().expect("a path is text");
        let words = ["check", path, "--output", "json"];
        let ended = Distributary::start(scene.folder(), &words).wait(CATCH_UP_MAX);
        ended.expect(3);
        let verdict: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let items = verdict["items"].as_array().expect("items");
        let item = |name: &str| {
            let found = items.iter().find(|item| item["name"] == name).expect("the item");
            (found["state"].clone(), found["seen"].to_string())
        };
        [item("objects.topics"), item("objects.plan")]
    };
    let [topics, plan] = checked("avro");
    assert!(topics.0 == "fail" && topics.1.contains(".a.b.c"), "{topics:?}");
    assert!(
        plan.0 == "fail" && plan.1.contains("`a.b` and `a-b` would both be called `a_b`"),
        "{plan:?}"
    );
    // What can be read back meets nowhere; topics can be told apart in the objects only.
    let [topics, plan] = checked("escape");
    assert_eq!((topics.0, plan.0), ("fail".into(), "pass".into()));
}
