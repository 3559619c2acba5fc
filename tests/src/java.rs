//! The real readers of the formats, which are Java: installed by `cluster/local/consumers`, given
//! records on their standard input, or run as workers of Kafka Connect.

use crate::deadline::await_true;
use crate::servers::{Server, repository};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Heap of a reader or worker: what a container of such a consumer has at least.
const HEAP: &str = "-Xmx384m";
/// A worker gives its tasks five seconds, and each of their producers thirty.
const STOP_MAX: Duration = Duration::from_secs(60);
/// They live for seconds.
const COMPILER: &str = "-XX:TieredStopAtLevel=1";
/// The SDK of DTS, made for Java 8, looks into this.
const EXPORTS: &str = "--add-exports=java.base/sun.util.calendar=ALL-UNNAMED";

/// What `cluster/local/consumers` prints for a name, once it has installed what belongs to it.
///
/// # Panics
/// When it cannot be installed, with what the script said.
#[must_use]
pub fn installed(name: &str) -> String {
    let script = repository().join("cluster/local/consumers");
    let output = Command::new(&script)
        .arg(name)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", script.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "consumers {name} failed ({}):\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Gives lines to a reader, and returns its answers: JSON, one for each line.
///
/// # Panics
/// When it fails, or answers another number of lines.
#[must_use]
pub fn answers(name: &str, class: &str, arguments: &[&str], lines: &[String]) -> Vec<Value> {
    let mut child = Command::new("java")
        .args([HEAP, COMPILER, EXPORTS, "-cp", &installed(name), class])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java can be started");
    let mut input = child.stdin.take().expect("its standard input");
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    // It answers while it reads: who waits for the end of the one must not hold back the other.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("java can be waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{class} failed ({}):\n{said}", output.status);
    writer.join().expect("the writer ends").expect("all lines are taken");
    let text = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<_> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), lines.len(), "{class} answers each line:\n{said}");
    answers
}

/// Bytes as the readers take them; `-`: none.
#[must_use]
pub fn line(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "-".into(), |bytes| STANDARD.encode(bytes))
}

/// A standalone worker of Kafka Connect with its connectors. Ended when dropped.
#[derive(Debug)]
pub struct Connect {
    child: Child,
    log: PathBuf,
}

impl Connect {
    /// Starts a worker; its files lie in `folder`. A connector is a name and its settings, as in a properties
    /// file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(folder: &Path, kafka: &Server, connectors: &[(&str, String)]) -> Self {
        Self::start_with(&[HEAP, COMPILER], folder, kafka, connectors)
    }

    /// As [`Self::start`], in a virtual machine with these options.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(
        options: &[&str],
        folder: &Path,
        kafka: &Server,
        connectors: &[(&str, String)],
    ) -> Self {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("the folder can be written");
            path
        };
        let worker = format!(
            "bootstrap.servers={}\n\
             key.converter=org.apache.kafka.connect.json.JsonConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\n\
             listeners=HTTP://127.0.0.1:0\n\
             offset.storage.file.filename={}\n\
             offset.flush.interval.ms=1000\n\
             plugin.path={}\n\
             plugin.discovery=hybrid_warn\n",
            kafka.address,
            folder.join("offsets").display(),
            installed("plugins"),
        );
        let mut files = vec![write("worker.properties", &worker)];
        for (name, settings) in connectors {
            let text = format!("name={name}\n{settings}");
            files.push(write(&format!("{name}.properties"), &text));
        }
        let log = folder.join("connect.log");
        let output = File::create(&log).expect("the folder can be written");
        let log4j = repository().join("cluster/local/kafka/log4j2.properties");
        let child = Command::new("java")
            .args(options)
            .args(["-cp", &installed("connect")])
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .args(&files)
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a file can be shared"))
            .stdout(output)
            .spawn()
            .expect("java can be started");
        Self { child, log }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// When the worker or one of its tasks has failed, or time passes.
    pub fn await_true(&mut self, what: &str, longest: Duration, mut ask: impl FnMut() -> bool) {
        let log = self.log.clone();
        let child = &mut self.child;
        await_true(what, longest, || {
            let log = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
            let ended = child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "Kafka Connect has ended before {what}:\n{log}");
            for failed in ["Task is being killed", "Failed to create connector", "has failed"] {
                assert!(!log.contains(failed), "Kafka Connect before {what}:\n{log}");
            }
            ask()
        });
    }
}

impl Connect {
    /// Ends it in order, so that all it has taken is written.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a child can be signalled");
        await_true("the end of Kafka Connect", STOP_MAX, || {
            self.child.try_wait().expect("a child can be asked").is_some()
        });
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Gone in between: all the better.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            crate::seed::say(&format!("Kafka Connect:\n{}", self.log()));
        }
    }
}
