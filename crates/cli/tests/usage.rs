//! What people meet first: help, wrong usage, the commands that need no server.

use expect_test::{Expect, expect};
use std::process::{Command, Output};

fn distributary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_distributary"))
        .args(arguments)
        .env_remove("DISTRIBUTARY_LOG")
        .env_remove("COLUMNS")
        .output()
        .expect("the binary can be run")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[track_caller]
fn check_help(arguments: &[&str], expected: &Expect) {
    let output = distributary(arguments);
    assert_eq!(output.status.code(), Some(0));
    // Lines that look empty hold spaces.
    let help: String =
        stdout(&output).lines().map(|line| format!("{}\n", line.trim_end())).collect();
    expected.assert_eq(&help);
}

#[test]
fn the_help_says_what_it_does() {
    check_help(
        &["--help"],
        &expect![[r#"
            Carries the changes of PostgreSQL databases to Kafka, exactly once.

            A task spec, one YAML file, says what is captured and how it arrives. `distributary schema` prints
            its JSON Schema, for editors. A task runs in one process, or on a cluster of coordinators and
            workers.

            Usage: distributary [OPTIONS] <COMMAND>

            Commands:
              run          Run a task in this process: precheck, schema, snapshot, then the stream
              check        Check whether a task could run; writes nothing anywhere
              objects      Show what a task would capture: tables, keys, topics; writes nothing anywhere
              slots        List the replication slots on every host of a source, and whose they are
              tail         Print events from now on, as they would arrive in Kafka, without touching Kafka
              task         Tasks of a cluster: create, change, look, start, stop, remove
              cluster      Nodes of a cluster: look, drain, give back, move lanes
              connection   Named connections that the specs of a cluster refer to
              coordinator  Run a coordinator of a cluster in this process
              worker       Run a worker of a cluster in this process
              schema       Print the JSON Schema of the task spec or of the node spec
              completions  Print a script that completes commands and options in a shell

            Options:
              -o, --output <FORMAT>
                      How results are printed on stdout; `json` also makes log lines JSON

                      Possible values:
                      - text: For people
                      - json: One JSON document; log lines are JSON objects, one per line
                      - yaml: One YAML document

                      [default: text]

                  --log-level <LEVEL>
                      Which log lines go to stderr: off, error, warn, info, debug, trace, or a filter such as
                      `info,kafka=debug`

                      [env: DISTRIBUTARY_LOG]
                      [default: info]

              -h, --help
                      Print help (see a summary with '-h')

              -V, --version
                      Print version

            Examples:
              distributary check shop.yaml       is everything in place? writes nothing
              distributary objects shop.yaml     what would be captured, and where it would go
              distributary tail shop.yaml        look at events, without Kafka
              distributary run shop.yaml         go, in this process
              distributary task apply shop.yaml  or give it to a cluster

            Exit codes:
              0  done
              1  failed, parked, or fenced by another process
              2  wrong usage or spec
              3  precheck not passed
        "#]],
    );
}

#[test]
fn the_help_of_run_says_what_stays_behind() {
    check_help(
        &["run", "--help"],
        &expect![[r#"
            Run a task in this process: precheck, schema, snapshot, then the stream

            Goes on where the last run ended; a crash loses and doubles nothing. Ctrl-C (or SIGTERM) drains what
            is under way, commits it, keeps the replication slot and says how much WAL the server now holds for
            it; a second Ctrl-C ends at once. As long as a slot is kept, the server keeps its WAL: run the task
            again, or remove everything with --release.

            Usage: distributary run [OPTIONS] <TASK.yaml>

            Arguments:
              <TASK.yaml>
                      The task spec; paths in it are relative to its folder

            Options:
                  --until-caught-up
                      End with exit code 0 once everything that was committed before the start is delivered

                  --release
                      At the end remove the slot, the publication and the internal topics; data topics stay

                  --reseed
                      Begin again with a new slot and a new snapshot, after a lost slot or a divergence

                  --accept-gap
                      With --reseed: no snapshot; go on where the server is now, and name what lies between

              -v, --verbose
                      Also print the items of the precheck that pass

              -o, --output <FORMAT>
                      How results are printed on stdout; `json` also makes log lines JSON

                      Possible values:
                      - text: For people
                      - json: One JSON document; log lines are JSON objects, one per line
                      - yaml: One YAML document

                      [default: text]

                  --log-level <LEVEL>
                      Which log lines go to stderr: off, error, warn, info, debug, trace, or a filter such as
                      `info,kafka=debug`

                      [env: DISTRIBUTARY_LOG]
                      [default: info]

              -h, --help
                      Print help (see a summary with '-h')

            Examples:
              distributary run shop.yaml                              until Ctrl-C
              distributary run shop.yaml --until-caught-up            for scripts
              distributary run shop.yaml --until-caught-up --release  deliver the rest, then remove the task

            Exit codes:
              0  caught up, stopped by request, or released
              1  failed, parked until a person decides, or fenced by another process of the same task
              2  wrong usage or spec
              3  precheck not passed; nothing was started
        "#]],
    );
}

#[test]
fn the_help_of_check_says_how_to_pass() {
    check_help(
        &["check", "--help"],
        &expect![[r#"
            Check whether a task could run; writes nothing anywhere

            Prints a line per item: pass, warning or fail, what was seen, and below it why it matters and the
            remedy. A task does not start while an item fails or has a warning that cannot be ignored. Other
            warnings keep nothing back; those that are known and accepted can be ignored. docs/precheck.md lists
            all items.

            Usage: distributary check [OPTIONS] <TASK.yaml>

            Arguments:
              <TASK.yaml>
                      The task spec; paths in it are relative to its folder

            Options:
                  --connectivity
                      Also reach out to every host, every broker and the registry one by one, with timings

                  --ignore <ITEM>
                      Ignore the warning of this item, e.g. `sink.replication`; may be repeated

              -o, --output <FORMAT>
                      How results are printed on stdout; `json` also makes log lines JSON

                      Possible values:
                      - text: For people
                      - json: One JSON document; log lines are JSON objects, one per line
                      - yaml: One YAML document

                      [default: text]

                  --log-level <LEVEL>
                      Which log lines go to stderr: off, error, warn, info, debug, trace, or a filter such as
                      `info,kafka=debug`

                      [env: DISTRIBUTARY_LOG]
                      [default: info]

              -h, --help
                      Print help (see a summary with '-h')

            Examples:
              distributary check shop.yaml
              distributary check shop.yaml --connectivity
              distributary check shop.yaml --ignore sink.replication
              distributary check shop.yaml -o json | jq '.items[] | select(.state == "fail")'

            Exit codes:
              0  every item passes, or is a warning that may be ignored
              2  wrong usage or spec
              3  the task would not start
        "#]],
    );
}

#[test]
fn the_help_of_task_apply_says_what_leaves_this_machine() {
    check_help(
        &["task", "apply", "--help"],
        &expect![[r#"
            Create a task, or change it; what a change does is shown first

            Secrets in the spec must be references: `${env:DISTRIBUTARY_SECRET_…}` or `${file:…}` below
            `secrets_dir`, both of the workers. A literal one is refused before anything is sent. Certificates
            are sent with the spec, from files on this machine; private keys are not.

            Usage: distributary task apply [OPTIONS] <TASK.yaml>

            Arguments:
              <TASK.yaml>
                      The task spec

            Options:
                  --dry-run
                      Only show what would be done; with -o json or yaml also what would be sent

              -o, --output <FORMAT>
                      How results are printed on stdout; `json` also makes log lines JSON

                      Possible values:
                      - text: For people
                      - json: One JSON document; log lines are JSON objects, one per line
                      - yaml: One YAML document

                      [default: text]

                  --log-level <LEVEL>
                      Which log lines go to stderr: off, error, warn, info, debug, trace, or a filter such as
                      `info,kafka=debug`

                      [env: DISTRIBUTARY_LOG]
                      [default: info]

              -h, --help
                      Print help (see a summary with '-h')

            Cluster:
                  --coordinator <URL>
                      Coordinators: HOST:PORT or https://HOST:PORT, separated by commas or given repeatedly. One
                      that answers is enough: it knows who leads

                      [env: DISTRIBUTARY_COORDINATOR]
                      [default: 127.0.0.1:7420]

                  --token-file <FILE>
                      File with the token to show, and nothing else; only its owner and group may read it

                      [env: DISTRIBUTARY_TOKEN_FILE]

                  --ca <FILE>
                      CA of the cluster, PEM; without it only this machine's own coordinator is reached

                      [env: DISTRIBUTARY_CA]

                  --cert <FILE>
                      Certificate with the role `admin`, PEM, in place of a token or beside it

                      [env: DISTRIBUTARY_CERT]

                  --key <FILE>
                      Private key of the certificate, PEM

                      [env: DISTRIBUTARY_KEY]

                  --leader-wait <SECONDS>
                      How long to wait for a leader while the cluster has none, and for a coordinator that has
                      just begun

                      [default: 20]

            Examples:
              distributary task apply shop.yaml --dry-run
              distributary task apply shop.yaml --dry-run -o yaml   the plan, and the spec as it is sent
              distributary task apply shop.yaml

            Exit codes:
              0  applied, or nothing to change
              1  refused, failed, or no coordinator can be reached
              2  wrong usage or spec; nothing was applied
        "#]],
    );
}

#[test]
fn the_help_of_a_worker_says_how_it_ends() {
    check_help(
        &["worker", "--help"],
        &expect![[r#"
        Run a worker of a cluster in this process

        SIGTERM or Ctrl-C ends it, after what it runs has moved to other workers; a second one ends it at
        once, and loses and doubles nothing either.

        Usage: distributary worker [OPTIONS] --config <NODE.yaml>

        Options:
              --config <NODE.yaml>
                  The node spec; paths in it are relative to its folder

          -o, --output <FORMAT>
                  How results are printed on stdout; `json` also makes log lines JSON

                  Possible values:
                  - text: For people
                  - json: One JSON document; log lines are JSON objects, one per line
                  - yaml: One YAML document

                  [default: text]

              --log-level <LEVEL>
                  Which log lines go to stderr: off, error, warn, info, debug, trace, or a filter such as
                  `info,kafka=debug`

                  [env: DISTRIBUTARY_LOG]
                  [default: info]

          -h, --help
                  Print help (see a summary with '-h')

        Exit codes:
          0  ended by request
          1  failed, or fenced by another node of the same name
          2  wrong usage or spec
    "#]],
    );
}

#[test]
fn the_help_of_each_command_has_its_exit_codes_or_examples() {
    let commands = "run check objects tail task cluster connection coordinator worker schema \
                    completions";
    let below = "task apply,task list,task status,task start,task suspend,task resume,\
                 task restart,task snapshot,task reseed,task release,cluster status,\
                 cluster drain,cluster uncordon,cluster move-lane,connection set,\
                 connection list,connection remove";
    for command in commands.split(' ').chain(below.split(',')) {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = distributary(&words);
        assert_eq!(output.status.code(), Some(0), "{command}");
        let help = stdout(&output);
        assert!(help.contains("Exit codes:") || help.contains("Examples:"), "{command}:\n{help}");
        let long = help.lines().find(|line| 100 < line.chars().count());
        assert_eq!(long, None, "a line of `{command} --help` is too long");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &[][..],
        &["run"],
        &["no-such-command"],
        &["run", "a", "--no-such-option"],
        &["check", "a", "--ignore"],
        &["completions", "no-such-shell"],
        &["schema", "-o", "xml"],
        &["task"],
        &["task", "apply"],
        &["task", "snapshot", "shop"],
        &["task", "snapshot", "shop", "--table", "orders"],
        &["cluster", "move-lane", "shop", "first"],
        &["connection", "set", "kafka-a"],
        &["connection", "set", "kafka-a", "--source", "a", "--sink", "b"],
        &["worker"],
        &["coordinator", "n1.yaml"],
        &["schema", "--log-level", "loud"],
    ] {
        let output = distributary(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "nothing is said for {arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_misspelt_command_names_the_nearest() {
    assert!(stderr(&distributary(&["chek", "a"])).contains("check"));
}

#[test]
fn a_wrong_level_names_the_right_ones() {
    let said = stderr(&distributary(&["schema", "--log-level", "loud"]));
    assert!(said.contains("debug") && said.contains("info,kafka=debug"), "{said}");
}

#[test]
fn the_version_is_that_of_the_package() {
    let said = stdout(&distributary(&["--version"]));
    assert_eq!(said, format!("distributary {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    for format in [&[][..], &["-o", "json"]] {
        let output = distributary(&[&["schema"], format].concat());
        assert_eq!(output.status.code(), Some(0));
        let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let properties = schema["properties"].as_object().expect("properties");
        for key in ["version", "task", "source", "sink", "lanes", "objects"] {
            assert!(properties.contains_key(key), "{key}");
        }
    }
}

#[test]
fn the_schema_of_nodes_is_another() {
    let output = distributary(&["schema", "--node"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let properties = schema["properties"].as_object().expect("properties");
    for key in ["node", "listen", "control", "coordinators", "tls"] {
        assert!(properties.contains_key(key), "{key}");
    }
}

#[test]
fn the_schema_as_yaml_says_the_same() {
    use saphyr::{LoadableYamlNode, Yaml};
    let yaml = stdout(&distributary(&["schema", "-o", "yaml"]));
    let documents = Yaml::load_from_str(&yaml).expect("YAML");
    let json = distributary(&["schema"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let keys = json["properties"].as_object().expect("properties").keys();
    let shown = &documents[0]["properties"];
    assert!(keys.clone().all(|key| shown.contains_mapping_key(key.as_str())), "{yaml}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = distributary(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = stdout(&output);
        for word in ["objects", "until-caught-up", "completions", "accept-gap", "uncordon"] {
            assert!(script.contains(word), "`{word}` is missing for {shell}");
        }
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_distributary"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}
