//! Nodes of a cluster as processes: their specs, and how they end.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Nobody listens on port 1: the node waits for Kafka.
const SPEC: &str = "node: n1
listen: 127.0.0.1:0
http: 127.0.0.1:0
control: {brokers: ['127.0.0.1:1']}
coordinators: ['127.0.0.1:1']
";

const ROLES: [&str; 2] = ["coordinator", "worker"];

fn node(role: &str, spec: &str) -> (Command, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.yaml");
    std::fs::write(&path, spec).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_distributary"));
    command.args([role, "--config"]).arg(path).env_remove("DISTRIBUTARY_LOG");
    (command, folder)
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn everything_that_is_wrong_with_a_node_s_spec_is_said_at_once() {
    for role in ROLES {
        let (mut command, _folder) =
            node(role, "node: N1\nlisten: 0.0.0.0:7420\ncontrol: {brokers: [], prefx: a}\n");
        let output = command.output().expect("it runs");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{role}: {said}");
        for part in [
            "problems in the spec",
            "nothing was started",
            "line 1: `node`: is required",
            "line 2: `listen`: `0.0.0.0:7420` can be reached from other machines",
            "line 3: `control.prefx`: unknown key; did you mean `prefix`?",
            "line 3: `control.brokers`: is required",
        ] {
            assert!(said.contains(part), "{role}: `{part}` in:\n{said}");
        }
    }
}

#[test]
fn a_spec_that_is_not_there_is_named() {
    for role in ROLES {
        let arguments = [role, "--config", "no-such.yaml"];
        let output = Command::new(env!("CARGO_BIN_EXE_distributary")).args(arguments).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{role}");
        assert!(stderr(&output).contains("`no-such.yaml` does not exist"), "{}", stderr(&output));
    }
}

#[test]
fn a_node_ends_when_it_is_told_to() {
    for role in ROLES {
        for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
            let (mut command, _folder) = node(role, SPEC);
            let mut child = command
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary can be run");
            let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
            let mut lines = lines.map_while(Result::ok);
            let starts = lines.find(|line| line.contains("node starts")).expect("it starts");
            assert!(starts.contains(&format!("role={role}")), "{starts}");
            kill_process(Pid::from_child(&child), signal).expect("it runs");
            let rest: Vec<String> = lines.collect();
            assert!(rest.iter().any(|line| line.contains(name)), "{role}: {rest:?}");
            let code = child.wait().expect("it ends").code();
            assert_eq!(code, Some(0), "{role}, {name}: {rest:?}");
        }
    }
}
