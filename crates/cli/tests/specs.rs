//! Specs that are refused before anything is started: all problems at once, exit code 2.

use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Nobody listens on port 1.
const SPEC: &str = "version: 1
task: shop
source:
  hosts: [127.0.0.1:1]
  database: shop
  user: distributary
sink:
  brokers: [127.0.0.1:1]
objects:
  - table: public.*
";

struct Case {
    folder: TempDir,
    spec: PathBuf,
}

impl Case {
    fn new(spec: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("shop.yaml");
        std::fs::write(&path, spec).expect("written");
        Self { folder, spec: path }
    }

    fn start(&self, command: &str, options: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_distributary"))
            .arg(command)
            .arg(&self.spec)
            .args(options)
            .env_remove("DISTRIBUTARY_LOG")
            .output()
            .expect("the binary can be run")
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Every command that takes a spec refuses this one with these lines.
#[track_caller]
fn assert_refused(spec: &str, lines: &[&str]) {
    let case = Case::new(spec);
    for command in ["run", "check", "objects", "tail"] {
        let output = case.start(command, &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(output.stdout.is_empty(), "{command}");
        let (first, problems) = said.split_once('\n').expect("lines");
        assert!(first.contains("nothing was started"), "{said}");
        assert!(first.contains("shop.yaml"), "{said}");
        let problems: Vec<&str> = problems.lines().map(str::trim_start).collect();
        assert_eq!(problems.len(), lines.len(), "{said}");
        for (problem, beginning) in problems.iter().zip(lines) {
            assert!(problem.starts_with(beginning), "`{beginning}` is not said:\n{said}");
        }
    }
}

#[test]
fn an_unknown_key_with_its_line_and_the_nearest() {
    let spec = SPEC.replace("  brokers", "  compresion: lz4\n  brokers");
    assert_refused(&spec, &["line 8: `sink.compresion`: unknown key; did you mean `compression`?"]);
}

#[test]
fn a_value_of_the_wrong_type() {
    assert_refused(&format!("{SPEC}lanes: many\n"), &["line 11: `lanes`: "]);
}

#[test]
fn properties_that_are_refused_with_their_lines() {
    let properties = "  properties:\n    linger.ms: '5'\n    acks: '1'\n    lingr.ms: '5'\n";
    let spec = SPEC.replace("objects:", &format!("{properties}objects:"));
    assert_refused(
        &spec,
        &[
            "line 11: `sink.properties.acks`: is refused: set `sink.acks` instead",
            "line 12: `sink.properties.lingr.ms`: is no property that a task may set; did you \
             mean `linger.ms`?",
        ],
    );
}

#[test]
fn settings_that_this_release_cannot_carry_out() {
    let spec = SPEC.replace("sink:", "sink:\n  new_partitions: switch");
    assert_refused(&spec, &["line 8: `sink.new_partitions`: "]);
}

#[test]
fn secrets_that_are_not_there_by_reference() {
    let spec = SPEC.replace("sink:", "  password: ${env:DISTRIBUTARY_NO_SUCH}\nsink:");
    assert_refused(
        &spec,
        &["line 7: `source.password`: environment variable `DISTRIBUTARY_NO_SUCH` is not set"],
    );
    let spec = SPEC.replace("sink:", "  password: ${file:no/such}\nsink:");
    assert_refused(&spec, &["line 7: `source.password`: secret file `no/such` cannot be read"]);
    let missing = "${env:DISTRIBUTARY_NO_SUCH}";
    let registry = format!(
        "  format: debezium-avro\n  registry: {{url: 'http://r:8081', token: '{missing}'}}\n"
    );
    let spec = SPEC.replace("objects:", &format!("{registry}objects:"));
    let others = format!("alerts: {{webhook: '{missing}'}}\nmask_key: '{missing}'\n");
    let is_missing = "environment variable `DISTRIBUTARY_NO_SUCH` is not set";
    let named = [(10, "sink.registry.token"), (13, "alerts.webhook"), (14, "mask_key")]
        .map(|(line, path)| format!("line {line}: `{path}`: {is_missing}"));
    assert_refused(&format!("{spec}{others}"), &named.each_ref().map(|it| &**it));
}

#[test]
fn problems_are_objects_where_the_log_is_json() {
    let case = Case::new(&format!("{SPEC}lanes: many\nsync: {{schemas: true}}\n"));
    let said = stderr(&case.start("check", &["-o", "json"]));
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert_eq!((&lines[0]["path"], &lines[0]["line"]), (&"lanes".into(), &11.into()));
    assert_eq!(lines[1]["path"], "sync.schemas");
}

#[test]
fn problems_are_said_also_where_the_log_is_off() {
    let case = Case::new(&format!("{SPEC}lanes: many\n"));
    for options in [&["--log-level", "off"][..], &["--log-level", "off", "-o", "json"]] {
        let output = case.start("check", options);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("lanes"), "{}", stderr(&output));
    }
}

#[test]
fn a_file_that_is_not_there() {
    let mut case = Case::new(SPEC);
    case.spec = case.folder.path().join("no-such.yaml");
    for command in ["run", "check", "objects", "tail"] {
        let output = case.start(command, &[]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = stderr(&output);
        assert!(said.contains("no-such.yaml") && said.contains("does not exist"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_literal_secret_is_warned_of_once_without_its_value() {
    let spec = SPEC.replace("sink:", "  password: hunter2\nsink:");
    let case = Case::new(&spec);
    let check = |options: &[&str]| {
        let output = case.start("run", options);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert_eq!(said.matches("secrets stand in the spec itself").count(), 1, "{said}");
        assert!(said.contains("source.password"), "{said}");
        let shown = String::from_utf8_lossy(&output.stdout).contains("hunter2");
        assert!(!shown && !said.contains("hunter2"), "{said}");
    };
    let check = &check;
    // Side by side: each waits for a broker that is not there.
    std::thread::scope(|scope| {
        for options in [&[][..], &["-o", "json"], &["-o", "yaml"], &["--log-level", "trace"]] {
            scope.spawn(move || check(options));
        }
    });
}

#[test]
fn a_check_that_fails_ends_with_3_and_says_what_to_do() {
    let case = Case::new(SPEC);
    let output = case.start("check", &[]);
    let said = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(output.status.code(), Some(3), "{said}{}", stderr(&output));
    assert!(said.contains("fail     source.connection: "), "{said}");
    assert!(said.contains("         remedy: "), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    assert!(said.trim_end().ends_with("the task would not start"), "{said}");
}

#[test]
fn the_items_of_a_check_can_be_read_by_programs() {
    let case = Case::new(SPEC);
    let output = case.start("check", &["-o", "json", "--ignore", "sink.replication"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(verdict["passed"], false);
    let items = verdict["items"].as_array().expect("items");
    let connection = items.iter().find(|item| item["name"] == "source.connection");
    let connection = connection.expect("an item");
    assert_eq!((&connection["state"], &connection["ignored"]), (&"fail".into(), &false.into()));
    assert_ne!(connection["remedy"], "");
    assert_ne!(connection["why"], "");
    assert_eq!(connection["ignorable"], false);
}

#[test]
fn an_item_that_is_none_or_cannot_be_ignored_is_wrong_usage() {
    let case = Case::new(SPEC);
    for (name, words) in [
        ("sink.replicatoin", "the nearest is sink.replication"),
        ("source.wal-level", "an item that fails cannot be ignored"),
        ("sink.in-sync", "its warning cannot be ignored"),
    ] {
        let output = case.start("check", &["--ignore", name]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.contains("docs/precheck.md"), "{said}");
        assert!(output.stdout.is_empty(), "something was looked at");
    }
}

#[test]
fn a_run_shows_what_fails_and_everything_on_request() {
    let case = Case::new(SPEC);
    let check = |options: &[&str], passes: bool| {
        let output = case.start("run", options);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(output.stdout.is_empty());
        assert!(said.contains("fail     source.connection: "), "{said}");
        assert!(said.contains("precheck not passed; nothing was started"), "{said}");
        assert_eq!(said.contains("pass     spec: "), passes, "{said}");
    };
    // Side by side: each waits for a broker that is not there.
    std::thread::scope(|scope| {
        scope.spawn(|| check(&[], false));
        scope.spawn(|| check(&["-v"], true));
    });
}

#[test]
fn a_table_that_is_no_pattern_is_wrong_usage() {
    let case = Case::new(SPEC);
    let output = case.start("tail", &["--table", "orders"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("public.orders"), "{}", stderr(&output));
}
