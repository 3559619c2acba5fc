//! What people tell a cluster and what they see of it, with coordinators on loopback that answer as they
//! were told.

mod fakes;

use expect_test::expect;
use fakes::{ADMIN, APPLIED, Running, VIEWER, command, distributary, stderr, stdout, task, tokens};
use rpc::v1::plan_item::Effect;
use rpc::v1::plan_table::Change;
use rpc::v1::{Connection, Plan, PlanItem, PlanTable};
use rpc::{Code, Error};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use tempfile::TempDir;

const SPEC: &str = "version: 1
# a comment that nobody needs: hunter2
task: shop
source:
  hosts: [db1:5432]
  database: shop
  user: distributary
  password: ${env:DISTRIBUTARY_SECRET_SHOP}
sink:
  brokers: [k1:9092]
  partitions: 8
objects:
  - table: public.*
";

/// Nobody listens on port 1.
const NOBODY: &str = "127.0.0.1:1";

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("permitted");
        path.to_str().expect("text").to_owned()
    }
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[track_caller]
fn ends(output: &Output, code: i32, parts: &[&str]) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}{}", stdout(output));
    for part in parts {
        assert!(said.contains(part), "`{part}` in:\n{said}");
    }
}

#[test]
fn tasks_are_a_table() {
    let cluster = Running::start(None);
    let listed = cluster.run(&["task", "list"]);
    ends(&listed, 0, &[]);
    expect![[r#"
        TASK  STATE          FOR  PHASE        LATENCY     RATE  RETRIES   WAL HELD  FRONT  LANES ON
        shop  synchronizing  -    incremental     35ms  1,234/s        2  12.00 MiB  w1     w1: 0; w2: 1

        1 task
    "#]].assert_eq(&stdout(&listed));
}

#[test]
fn a_task_is_shown_with_its_lanes_and_where_they_go() {
    let cluster = Running::start(None);
    let shown = cluster.run(&["task", "status", "shop"]);
    ends(&shown, 0, &[]);
    expect![[r#"
        task       shop
        labels     environment=production
        revision   3
        wanted     running
        state      synchronizing
        phase      incremental
        watermark  0/16B3748
        WAL held   12.00 MiB
        latency    35ms
        records    2,400, 1,234/s
        retries    2
        front      w1
        snapshot   1 of 3 tables are read, 30,000/s

        TABLE          SNAPSHOT  STATE         ROWS   OF ABOUT       BYTES      RATE  LEFT  DONE
        public.orders  1-77      reading  1,500,000  3,000,000  143.05 MiB  30,000/s   50s  █████░░░░░  50%
        public.items   1-77      waiting          0          -         0 B       0/s     -  -

        LANE  NODE      STATE    POSITION     RECORDS
           0  w1        running  0/16B3748:4    1,200
           1  w2 -> w3  running  -              1,200
    "#]]
    .assert_eq(&stdout(&shown));
}

#[test]
fn the_states_of_a_task_are_listed_with_their_causes() {
    let cluster = Running::start(None);
    let shown = stdout(&cluster.run(&["task", "history", "shop"]));
    // How long the present one lasts depends on the day, and with it how wide its column is.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: Vec<_> = shown.lines().take(4).map(words).collect();
    assert_eq!(
        shown,
        [
            "SINCE (UTC) STATE FOR BY CAUSE",
            "2023-11-14 22:13:20 not-configured 5s bob -",
            "2023-11-14 22:13:25 prechecking 1s bob -",
            "2023-11-14 22:13:26 retrying 3m 0s - connection refused",
        ]
    );
    let unknown = cluster.run(&["task", "history", "shpo"]);
    ends(&unknown, 1, &["error: there is no task `shpo`\n"]);
}

#[test]
fn programs_read_the_same() {
    let cluster = Running::start(None);
    let shown = json(&cluster.run(&["task", "status", "shop", "-o", "json"]));
    assert_eq!((&shown["state"], &shown["revision"]), (&"synchronizing".into(), &3.into()));
    assert_eq!(shown["watermark_lsn"], "0/16B3748");
    assert_eq!((&shown["cause"], &shown["latency_ms"]), (&Value::Null, &35.into()));
    assert_eq!(shown["lanes"][0]["position"], "0/16B3748:4");
    let moving = &shown["lanes"][1];
    assert_eq!((&moving["node"], &moving["placed"]), (&"w2".into(), &"w3".into()));
    let listed = json(&cluster.run(&["task", "list", "-o", "json"]));
    let mut short = shown.clone();
    let history = short.as_object_mut().and_then(|it| it.remove("history")).expect("a history");
    assert_eq!(listed, Value::Array(vec![short]));
    assert_eq!(json(&cluster.run(&["task", "history", "shop", "-o", "json"])), history);
    assert_eq!(history[2]["cause"], "connection refused");
    assert_eq!(history[2]["until_unix_ms"], history[3]["since_unix_ms"]);
    assert_eq!((&history[3]["until_unix_ms"], &history[3]["by"]), (&Value::Null, &Value::Null));
    let nodes = json(&cluster.run(&["cluster", "status", "-o", "json"]));
    assert_eq!((&nodes["leader"], &nodes["term"]), (&"c1".into(), &12.into()));
    assert_eq!(nodes["nodes"][1]["lanes"], 2);
    let yaml = stdout(&cluster.run(&["cluster", "status", "-o", "yaml"]));
    assert!(yaml.starts_with("leader: c1\nterm: 12\nnodes:\n"), "{yaml}");
}

#[test]
fn the_cluster_is_a_table_of_nodes_and_one_of_tasks() {
    let cluster = Running::start(None);
    let shown = cluster.run(&["cluster", "status"]);
    ends(&shown, 0, &[]);
    let port = cluster.address.rsplit_once(':').expect("a port").1;
    expect![[r#"
        c1 leads, term 12

        NODE  ROLE         STATE   FOR  FRONTS  LANES  READS  ADDRESS          VERSION  LABELS
        c1    coordinator  leader  -         -      -      -  127.0.0.1:00000  0.1.0    -
        w1    worker       alive   -         1      2      0  w1:7420          0.1.0    -

        TASK  STATE          FOR  PHASE        LATENCY     RATE  RETRIES   WAL HELD  FRONT  LANES ON
        shop  synchronizing  -    incremental     35ms  1,234/s        2  12.00 MiB  w1     w1: 0; w2: 1

        1 task
    "#]].assert_eq(&stdout(&shown).replace(port, &"0".repeat(port.len())));
}

#[test]
fn a_follower_sends_writers_to_the_leader() {
    let (follower, leader) = (Running::start(None), Running::start(None));
    let refusal = Error::not_leader(Some(leader.address.clone()));
    follower.script(|it| it.refuse = Some(refusal));
    let started = follower.run(&["task", "start", "shop"]);
    ends(&started, 0, &[]);
    assert_eq!(stdout(&started), "task `shop` is started\n  the slot holds 12 MiB of WAL\n");
    assert_eq!(follower.said().len(), 1);
    assert_eq!(leader.said(), ["StartTask by local: StartTaskRequest { task: \"shop\" }"]);
}

#[test]
fn an_order_waits_for_a_leader_and_a_question_does_not() {
    let cluster = Running::start(None);
    cluster.script(|it| it.refuse = Some(Error::not_leader(None)));
    let refused = cluster.run(&["--leader-wait", "0", "task", "start", "shop"]);
    ends(&refused, 1, &["this coordinator does not lead", "remedy: try again in some seconds"]);
    ends(&cluster.run(&["task", "list"]), 0, &[]);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| cluster.run(&["task", "start", "shop"]));
        while cluster.said().len() < 3 {
            std::thread::yield_now();
        }
        cluster.script(|it| it.refuse = None);
        ends(&started.join().expect("no panic"), 0, &["waiting for one"]);
    });
}

#[test]
fn what_only_the_leader_knows_is_asked_of_the_leader() {
    let (follower, leader) = (Running::start(None), Running::start(None));
    follower.script(|it| it.cluster.nodes[0].address.clone_from(&leader.address));
    ends(&follower.run(&["task", "list"]), 0, &[]);
    assert_eq!((follower.said().len(), leader.said().len()), (0, 1));
}

#[test]
fn two_that_take_each_other_for_the_leader_end_it() {
    let (one, other) = (Running::start(None), Running::start(None));
    one.script(|it| it.refuse = Some(Error::not_leader(Some(other.address.clone()))));
    other.script(|it| it.refuse = Some(Error::not_leader(Some(one.address.clone()))));
    let started = one.run(&["--leader-wait", "0", "task", "start", "shop"]);
    ends(&started, 1, &["does not lead", &one.address, &other.address, "remedy: try again"]);
    assert_eq!((one.said().len(), other.said().len()), (1, 1));
}

#[test]
fn the_next_coordinator_is_asked_where_one_is_not_there() {
    let cluster = Running::start(None);
    let both = format!("{NOBODY},{}", cluster.address);
    for options in [
        &["--coordinator", &both][..],
        &["--coordinator", NOBODY, "--coordinator", &cluster.address],
    ] {
        ends(&distributary(&[options, &["task", "suspend", "shop"]].concat()), 0, &[]);
    }
    let from_environment =
        command(&["task", "suspend", "shop"]).env("DISTRIBUTARY_COORDINATOR", both).output();
    ends(&from_environment.expect("it runs"), 0, &[]);
    assert_eq!(cluster.said().len(), 3);
}

#[test]
fn where_nobody_answers_each_is_named() {
    let one = distributary(&["--coordinator", NOBODY, "task", "list"]);
    ends(&one, 1, &["error: 127.0.0.1:1 cannot be reached: ", "remedy: check that the node runs"]);
    let two = distributary(&["--coordinator", "127.0.0.1:1,localhost:1", "task", "start", "shop"]);
    ends(
        &two,
        1,
        &["no coordinator could answer:\n  127.0.0.1:1 cannot be reached: ", "\n  localhost:1 "],
    );
}

#[test]
fn another_machine_is_not_reached_without_tls() {
    let asked = distributary(&["--coordinator", "db9.example:7420", "task", "list"]);
    ends(&asked, 2, &["is not reached without TLS", "--ca"]);
}

#[test]
fn a_refusal_has_its_cause_its_remedy_and_its_code() {
    let cluster = Running::start(None);
    ends(
        &cluster.run(&["task", "status", "shpo"]),
        1,
        &["error: there is no task `shpo`\n", "remedy: `distributary cluster status` shows"],
    );
    let cases = [
        (Code::State, 1, "task `shop` is running"),
        (Code::Argument, 2, "no such table"),
        (Code::Busy, 1, "too much at once"),
        (Code::Unsupported, 1, "not in this release"),
    ];
    for (code, exit, cause) in cases {
        cluster.script(|it| it.refuse = Some(Error::new(code, cause, "a remedy")));
        let refused = cluster.run(&["task", "snapshot", "shop", "--table", "public.orders"]);
        ends(&refused, exit, &[&format!("error: {cause}\nremedy: a remedy\n")]);
        assert!(refused.stdout.is_empty());
        let refused = cluster.run(&["task", "reseed", "shop", "-o", "json"]);
        let told: Value = serde_json::from_slice(&refused.stderr).expect("one line");
        assert_eq!((&told["message"], &told["remedy"]), (&cause.into(), &"a remedy".into()));
    }
}

#[test]
fn a_change_whose_answer_is_lost_is_not_tried_twice() {
    let (one, other) = (Running::start(None), Running::start(None));
    let lost = Error::new(Code::Unreachable, "Kafka does not answer", "wait");
    one.script(|it| it.refuse = Some(lost));
    let both = format!("{},{}", one.address, other.address);
    let refused = distributary(&["--coordinator", &both, "task", "restart", "shop"]);
    ends(&refused, 1, &["Kafka does not answer", "it may still have been done"]);
    assert_eq!((one.said().len(), other.said().len()), (1, 0));
}

#[test]
fn a_token_is_shown_and_its_role_counts() {
    let (cluster, files) = (Running::start(Some(tokens())), Files::new());
    ends(&cluster.run(&["task", "list"]), 1, &["needs a token", "--token-file"]);
    let (admin, viewer) = (files.write("admin", &format!("{ADMIN}\n")), files.write("v", VIEWER));
    ends(&cluster.run(&["--token-file", &admin, "task", "start", "shop"]), 0, &[]);
    let refused = cluster.run(&["--token-file", &viewer, "task", "start", "shop"]);
    ends(&refused, 1, &["viewer `ann`", "use a token of a operator"]);
    let listed = command(&["--coordinator", &cluster.address, "task", "list"])
        .env("DISTRIBUTARY_TOKEN_FILE", &viewer)
        .output();
    ends(&listed.expect("it runs"), 0, &[]);
    let said = cluster.said();
    assert!(said[0].starts_with("StartTask by bob") && said[1].starts_with("ListTasks by ann"));
}

#[test]
fn files_that_cannot_be_used_are_wrong_usage() {
    let files = Files::new();
    let empty = files.write("empty", "\n");
    let open = files.write("open", ADMIN);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("permitted");
    for (options, said) in [
        (&["--token-file", &empty][..], "holds no token"),
        (&["--token-file", &open], "chmod 600"),
        (&["--token-file", "no-such"], "`no-such` cannot be read"),
        (&["--ca", &empty], "it holds no certificate"),
        (&["--cert", &empty], "--cert was given without --key"),
        (&["--cert", &empty, "--key", &empty], "without --ca"),
        (&["--coordinator", ","], "no coordinator is named"),
    ] {
        ends(&distributary(&[options, &["cluster", "status"]].concat()), 2, &[said]);
    }
}

fn plan() -> Plan {
    let item = |path: &str, before: &str, after: &str, effect: Effect, note: &str| PlanItem {
        path: path.into(),
        before: before.into(),
        after: after.into(),
        effect: effect.into(),
        note: note.into(),
    };
    Plan {
        task: "shop".into(),
        creates: false,
        unchanged: false,
        items: vec![
            item("sink.partitions", "4", "8", Effect::Seal, "only topics that are created"),
            item("sink.compression", "", "\"zstd\"", Effect::AtOnce, ""),
        ],
        ..Plan::default()
    }
}

#[test]
fn tables_that_a_change_concerns_are_named() {
    let (cluster, files) = (Running::start(None), Files::new());
    let spec = files.write("shop.yaml", SPEC);
    let table = |table: &str, change: Change, before: &str, after: &str| PlanTable {
        schema: "public".into(),
        table: table.into(),
        change: change.into(),
        topic_before: before.into(),
        topic_after: after.into(),
    };
    let tables = vec![
        table("orders", Change::Copied, "", "shop.orders"),
        table("log", Change::Streamed, "", "shop.log"),
        table("old", Change::Removed, "old", ""),
        table("items", Change::Moved, "items", "shop.items"),
    ];
    let note = "of the first 10000 tables only".into();
    cluster.script(|it| it.plan = Plan { tables, tables_count: 9, tables_note: note, ..plan() });
    let shown = cluster.run(&["task", "apply", &spec, "--dry-run"]);
    ends(&shown, 0, &[]);
    expect![[r#"
        task `shop` changes in 2 settings

        SETTING           BEFORE  AFTER  TAKES    NOTE
        sink.partitions   4       8      seal     only topics that are created
        sink.compression  -       zstd   at-once

        TABLE          IS                                          TOPIC BEFORE  TOPIC AFTER
        public.orders  added, and copied while the stream goes on  -             shop.orders
        public.log     added, without the rows that it holds       -             shop.log
        public.old     removed                                     old           -
        public.items   sent to another topic                       items         shop.items
        and 5 more

        tables: of the first 10000 tables only

        dry run: nothing was changed
    "#]]
    .assert_eq(&stdout(&shown));
    let shown = cluster.run(&["task", "apply", &spec, "--dry-run", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&stdout(&shown)).expect("JSON");
    assert_eq!(shown["plan"]["tables"][2]["change"], "removed");
    assert!(shown["plan"]["tables"][2]["topic_after"].is_null(), "{shown}");
}

#[test]
fn a_change_is_shown_before_it_is_made() {
    let (cluster, files) = (Running::start(None), Files::new());
    let spec = files.write("shop.yaml", SPEC);
    cluster.script(|it| it.plan = plan());
    let applied = cluster.run(&["task", "apply", &spec]);
    ends(&applied, 0, &[]);
    expect![[r#"
        task `shop` changes in 2 settings

        SETTING           BEFORE  AFTER  TAKES    NOTE
        sink.partitions   4       8      seal     only topics that are created
        sink.compression  -       zstd   at-once

        applied as revision 4 of `shop`
    "#]]
    .assert_eq(&stdout(&applied));
    let said = cluster.said();
    assert_eq!(said.len(), 2);
    assert!(said[0].contains("dry_run: true") && said[1].contains("dry_run: false"), "{said:?}");
    let applied = json(&cluster.run(&["task", "apply", &spec, "-o", "json"]));
    assert_eq!((&applied["revision"], &applied["plan"]["creates"]), (&4.into(), &false.into()));
}

#[test]
fn a_dry_run_changes_nothing_and_can_be_read_by_programs() {
    let (cluster, files) = (Running::start(None), Files::new());
    let spec = files.write("shop.yaml", SPEC);
    cluster.script(|it| it.plan = plan());
    let shown = cluster.run(&["task", "apply", &spec, "--dry-run", "-o", "yaml"]);
    ends(&shown, 0, &[]);
    expect![[r#"
        dry_run: true
        revision: null
        plan:
          task: shop
          creates: false
          unchanged: false
          items:
          - path: sink.partitions
            before: 4
            after: 8
            effect: seal
            note: only topics that are created
          - path: sink.compression
            before: null
            after: zstd
            effect: at-once
            note: ""
          tables: []
          tables_count: 0
          tables_note: ""
        request:
          yaml: |
            version: 1
            task: shop
            source:
              hosts:
              - db1:5432
              database: shop
              user: distributary
              password: ${env:DISTRIBUTARY_SECRET_SHOP}
            sink:
              brokers:
              - k1:9092
              partitions: 8
            objects:
            - table: public.*
    "#]]
    .assert_eq(&stdout(&shown));
    assert!(cluster.said().iter().all(|line| line.contains("dry_run: true")));
    assert!(cluster.said().iter().all(|line| !line.contains("hunter2")));
    let text = stdout(&cluster.run(&["task", "apply", &spec, "--dry-run"]));
    assert!(text.ends_with("dry run: nothing was changed\n"), "{text}");
}

#[test]
fn where_nothing_changes_nothing_is_applied() {
    let (cluster, files) = (Running::start(None), Files::new());
    let spec = files.write("shop.yaml", SPEC);
    let unchanged = Plan { task: "shop".into(), unchanged: true, ..Plan::default() };
    cluster.script(|it| it.plan = unchanged);
    let applied = cluster.run(&["task", "apply", &spec]);
    ends(&applied, 0, &[]);
    assert_eq!(stdout(&applied), "task `shop`: nothing changes\n");
    assert_eq!(cluster.said().len(), 1);
}

#[test]
fn secrets_do_not_leave_this_machine() {
    let (cluster, files) = (Running::start(None), Files::new());
    let literal = SPEC.replace("${env:DISTRIBUTARY_SECRET_SHOP}", "hunter2");
    let literal = files.write("literal.yaml", &literal);
    let foreign = files.write("foreign.yaml", &SPEC.replace("DISTRIBUTARY_SECRET_SHOP", "SHOP"));
    let refused = cluster.run(&["task", "apply", &literal]);
    ends(&refused, 2, &["line 8: `source.password`: a literal secret", "DISTRIBUTARY_SECRET_"]);
    assert!(!stderr(&refused).contains("hunter2"));
    let refused = cluster.run(&["task", "apply", &foreign, "--dry-run"]);
    ends(&refused, 2, &["line 8: `source.password`: workers read no variable `SHOP`"]);
    let sink = files.write("sink.yaml", "brokers: [k1:9092]\nsecurity: {password: hunter2}\n");
    let refused = cluster.run(&["connection", "set", "kafka-a", "--sink", &sink]);
    ends(&refused, 2, &["line 2: `security.password`: a literal secret"]);
    assert_eq!(cluster.said(), [""; 0]);
}

#[test]
fn what_the_cluster_finds_wrong_with_a_spec_has_the_lines_of_the_file() {
    let (cluster, files) = (Running::start(None), Files::new());
    let spec = files.write("shop.yaml", SPEC);
    let problem = |path: &str| config::Problem { line: 1, path: path.into(), text: "no".into() };
    let problems = vec![problem("sink.partitions"), problem("task")];
    cluster.script(|it| it.refuse = Some(Error::spec(config::Problems(problems))));
    let refused = cluster.run(&["task", "apply", &spec]);
    ends(&refused, 2, &["2 problems", "line 11: `sink.partitions`: no", "line 3: `task`: no"]);
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";

/// A spec whose sink has these files.
fn secured(files: &str) -> String {
    let sink = format!("  brokers: [k1:9092]\n  security: {{protocol: SSL, {files}}}");
    SPEC.replace("  brokers: [k1:9092]", &sink)
}

#[test]
fn certificates_are_sent_with_the_spec_and_keys_are_not() {
    let (cluster, files) = (Running::start(None), Files::new());
    files.write("ca.pem", &format!("Subject: CN=a\n{CERTIFICATE}"));
    let spec = files.write("shop.yaml", &secured("ca: ca.pem, cert: ca.pem, key: shop.key"));
    let applied = cluster.run(&["task", "apply", &spec]);
    ends(&applied, 0, &["private keys are not sent", "sink.security.key (shop.key)"]);
    assert!(!stderr(&applied).contains("security.ca"));
    let sent = json(&cluster.run(&["task", "apply", &spec, "--dry-run", "-o", "json"]));
    let sent =
        config::Task::parse(sent["request"]["yaml"].as_str().expect("text")).expect("a spec");
    let security = sent.sink.security;
    assert_eq!([security.ca.as_deref(), security.cert.as_deref()], [Some(CERTIFICATE); 2]);
    assert_eq!(security.key.as_deref(), Some("shop.key"));
    let sink = files.write("sink.yaml", "security: {protocol: SSL, ca: ca.pem}\n");
    ends(&cluster.run(&["connection", "set", "kafka-a", "--sink", &sink]), 0, &[]);
    let said = cluster.said();
    assert!(said.last().expect("asked").contains("BEGIN CERTIFICATE"), "{said:?}");
}

#[test]
fn what_is_no_certificate_is_not_sent() {
    let (cluster, files) = (Running::start(None), Files::new());
    files.write("shop.key", &format!("{CERTIFICATE}{KEY}"));
    files.write("large.pem", &CERTIFICATE.repeat(1500));
    for (setting, said) in [
        ("ca: no-such.pem", "line 11: `sink.security.ca`: "),
        ("ca: no-such.pem", "cannot be read: No such file"),
        ("ca: no-such.pem", "relative to the spec"),
        ("ca: shop.key", "holds a private key"),
        ("ca: shop.yaml", "holds no certificate"),
        ("ca: large.pem", "more than 64 KiB"),
        (&format!("ca: {KEY:?}"), "holds a private key"),
        (&format!("cert: c.pem, key: {KEY:?}"), "holds a key itself"),
    ] {
        let spec = files.write("shop.yaml", &secured(setting));
        let refused = cluster.run(&["task", "apply", &spec]);
        ends(&refused, 2, &[said]);
        assert!(!stderr(&refused).contains("hunter2"));
    }
    let sink = files.write("sink.yaml", &format!("security: {{ca: {KEY:?}}}\n"));
    let refused = cluster.run(&["connection", "set", "kafka-a", "--sink", &sink]);
    ends(&refused, 2, &["line 1: `security.ca`: holds a private key"]);
    assert!(!stderr(&refused).contains("hunter2"));
    assert_eq!(cluster.said(), [""; 0]);
}

#[test]
fn the_spec_in_force_is_printed() {
    let cluster = Running::start(None);
    for form in [&[][..], &["-o", "yaml"]] {
        let shown = cluster.run(&[&["task", "show", "shop"], form].concat());
        ends(&shown, 0, &[]);
        assert_eq!(stdout(&shown), APPLIED);
    }
    let shown = json(&cluster.run(&["task", "show", "shop", "-o", "json"]));
    assert_eq!(shown["source"]["password"], "${env:DISTRIBUTARY_SECRET_SHOP}");
    assert_eq!(shown["sink"], serde_json::json!({"brokers": ["k1:9092"]}));
    ends(&cluster.run(&["task", "show", "shpo"]), 1, &["there is no task `shpo`"]);
}

#[test]
fn a_coordinator_that_has_just_begun_is_asked_again() {
    let cluster = Running::start(None);
    cluster.script(|it| it.starting = 2);
    ends(&cluster.run(&["task", "list"]), 0, &["has not read the control topic yet; waiting"]);
    assert_eq!(cluster.said().len(), 1, "answered once");
    cluster.script(|it| it.starting = usize::MAX);
    let refused = cluster.run(&["--leader-wait", "0", "task", "status", "shop"]);
    ends(&refused, 1, &["has just begun and has not read the control topic yet", "try again"]);
}

#[test]
fn waiting_ends_with_what_became_of_the_task() {
    let cluster = Running::start(None);
    for (state, code) in
        [("synchronizing", 0), ("initializing", 0), ("precheck-failed", 3), ("parked", 1)]
    {
        let mut last = task(state);
        last.report.as_mut().expect("a report").cause = "the slot is lost".into();
        cluster.script(|it| it.watched = vec![task("prechecking"), last]);
        let started = cluster.run(&["task", "start", "shop", "--wait"]);
        ends(&started, code, &["shop: prechecking\n", &format!("shop: {state}")]);
        assert_eq!(stderr(&started).contains("the slot is lost"), code != 0);
    }
}

#[test]
fn watching_shows_each_change_once() {
    let cluster = Running::start(None);
    let mut released = task("released");
    released.wanted = "released".into();
    let watched = vec![task("initializing"), task("initializing"), released];
    cluster.script(|it| it.watched = watched);
    let shown = cluster.run(&["task", "status", "shop", "--watch", "-o", "json"]);
    ends(&shown, 0, &[]);
    let lines: Vec<Value> =
        stdout(&shown).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let states: Vec<_> = lines.iter().map(|line| line["state"].as_str()).collect();
    assert_eq!(states, [Some("initializing"), Some("released")]);
}

#[test]
fn orders_carry_what_was_said() {
    let cluster = Running::start(None);
    for words in [
        &["task", "resume", "shop"][..],
        &["task", "release", "shop"],
        &["task", "reseed", "shop", "--accept-gap"],
        &["task", "snapshot", "shop", "--table", "public.orders", "--where", "id > 7"],
        &["cluster", "drain", "w1"],
        &["cluster", "uncordon", "w1"],
        &["cluster", "move-lane", "shop", "1", "w3"],
        &["cluster", "move-lane", "shop", "1"],
        &["connection", "remove", "kafka-a"],
    ] {
        ends(&cluster.run(words), 0, &[]);
    }
    expect![[r#"
        ResumeTask by local: ResumeTaskRequest { task: "shop" }
        ReleaseTask by local: ReleaseTaskRequest { task: "shop" }
        ReseedTask by local: ReseedTaskRequest { task: "shop", accept_gap: true }
        SnapshotTask by local: SnapshotTaskRequest { task: "shop", table: "public.orders", condition: "id > 7" }
        DrainNode by local: DrainNodeRequest { node: "w1" }
        UncordonNode by local: UncordonNodeRequest { node: "w1" }
        MoveLane by local: MoveLaneRequest { task: "shop", lane: 1, node: "w3" }
        MoveLane by local: MoveLaneRequest { task: "shop", lane: 1, node: "" }
        RemoveConnection by local: RemoveConnectionRequest { name: "kafka-a" }
    "#]].assert_eq(&(cluster.said().join("\n") + "\n"));
}

#[test]
fn answers_to_orders_are_sentences() {
    let cluster = Running::start(None);
    let said = |words: &[&str]| stdout(&cluster.run(words));
    assert_eq!(
        said(&["cluster", "drain", "w1"]),
        "worker `w1` is alive; it runs 1 front, 2 lanes\n"
    );
    let moved = said(&["cluster", "move-lane", "shop", "1"]);
    assert_eq!(moved, "lane 1 of task `shop` moves to w3, placement 7\n");
    let snapshot = said(&["task", "snapshot", "shop", "--table", "public.orders"]);
    assert_eq!(
        snapshot,
        "task `shop` reads public.orders again; its records carry the snapshot s-9\n"
    );
}

#[test]
fn connections_are_set_and_listed() {
    let (cluster, files) = (Running::start(None), Files::new());
    let sink = files.write("sink.yaml", "brokers: [k1:9092] # near\n");
    let set = cluster.run(&["connection", "set", "kafka-a", "--sink", &sink]);
    ends(&set, 0, &[]);
    assert_eq!(stdout(&set), "connection `kafka-a` created\n");
    let said = cluster.said();
    let request = r#"name: "kafka-a", kind: "sink", yaml: "brokers:\n- k1:9092\n""#;
    assert!(said[0].contains(request), "{said:?}");
    let wrong = files.write("wrong.yaml", "brokerz: [k1:9092]\n");
    let refused = cluster.run(&["connection", "set", "kafka-a", "--sink", &wrong]);
    ends(&refused, 2, &["line 1: `brokerz`: unknown key; did you mean `brokers`?"]);
    let connection = Connection {
        name: "kafka-a".into(),
        kind: "sink".into(),
        yaml: "brokers: [k1:9092]\n".into(),
        tasks: vec!["shop".into(), "crm".into()],
    };
    cluster.script(|it| it.connections = vec![connection]);
    expect![[r#"
        NAME     KIND  TASKS
        kafka-a  sink  shop, crm

        1 connection
    "#]]
    .assert_eq(&stdout(&cluster.run(&["connection", "list"])));
}
