//! Ctrl-C and SIGTERM while a database takes the connection and never answers.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Lines};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use tempfile::TempDir;

/// A command that waits for an answer.
struct Waiting {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
    _database: TcpStream,
    _folder: TempDir,
}

impl Waiting {
    fn start(command: &str) -> Self {
        let database = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = database.local_addr().expect("an address").port();
        let folder = tempfile::tempdir().expect("a folder");
        let spec = folder.path().join("shop.yaml");
        let text = format!(
            "version: 1
task: shop
source: {{hosts: ['127.0.0.1:{port}'], database: shop, user: distributary}}
sink: {{brokers: ['127.0.0.1:1']}}
objects: [{{table: public.*}}]
"
        );
        std::fs::write(&spec, text).expect("written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_distributary"))
            .arg(command)
            .arg(&spec)
            .env_remove("DISTRIBUTARY_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let (connection, _) = database.accept().expect("it connects");
        let said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        Self { child, said, _database: connection, _folder: folder }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for a line with these words.
    #[track_caller]
    fn says(&mut self, words: &str) {
        let found = self.said.by_ref().map_while(Result::ok).any(|line| line.contains(words));
        assert!(found, "`{words}` is not said");
    }

    #[track_caller]
    fn ends_with(&mut self, code: i32) {
        assert_eq!(self.child.wait().expect("it ends").code(), Some(code));
    }
}

#[test]
fn a_run_that_is_stopped_during_its_precheck_starts_nothing() {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let mut run = Waiting::start("run");
        run.signal(signal);
        run.says(name);
        run.says("nothing was started");
        run.ends_with(0);
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    let mut tail = Waiting::start("tail");
    tail.signal(Signal::INT);
    tail.says("a second signal ends at once");
    tail.signal(Signal::TERM);
    tail.says("ended at once");
    tail.ends_with(1);
}
