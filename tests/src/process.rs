//! The binary `distributary` as a process: built once, started with a log, ended by all means.

use crate::deadline::{await_some, await_true};
use crate::servers::repository;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The environment variable that names another binary than the one of this workspace.
pub const VARIABLE: &str = "DISTRIBUTARY_BIN";

/// A running process. Ended when dropped.
#[derive(Debug)]
pub struct Distributary {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    arguments: String,
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    arguments: String,
}

/// The binary, built from this workspace unless the environment names one.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os(VARIABLE) {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{VARIABLE} names no file: {}", path.display());
            return path;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--quiet", "-p", "cli", "--bin", "distributary"])
            .current_dir(repository())
            .stdin(Stdio::null())
            .output()
            .expect("cargo can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "distributary cannot be built:\n{said}");
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| repository().join("target"), PathBuf::from);
        target.join("debug/distributary")
    })
}

impl Distributary {
    /// Starts `distributary ARGUMENTS…`; its output goes to files in `folder`.
    ///
    /// # Panics
    /// When the binary cannot be built or started.
    #[must_use]
    pub fn start<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> Self {
        Self::start_in(folder, arguments, &[])
    }

    /// As [`Self::start`], with more environment.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_in<A: AsRef<OsStr>>(
        folder: &Path,
        arguments: &[A],
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_by(&[], folder, arguments, environment)
    }

    /// As [`Self::start_in`], by a command that becomes the one that follows it.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_by<A: AsRef<OsStr>>(
        launcher: &[&str],
        folder: &Path,
        arguments: &[A],
        environment: &[(&str, &str)],
    ) -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(1);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let stdout = folder.join(format!("run-{run}.out"));
        let stderr = folder.join(format!("run-{run}.log"));
        let file = |path: &Path| File::create(path).expect("the folder can be written");
        let words = launcher.iter().map(OsStr::new).chain([binary().as_os_str()]);
        let mut words = words.chain(arguments.iter().map(AsRef::as_ref));
        let child = Command::new(words.next().expect("at least the binary"))
            .args(words)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn()
            .expect("distributary can be started");
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        Self { child, stdout, stderr, arguments: words.join(" ") }
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.stderr)
    }

    /// What it has written to stdout so far.
    #[must_use]
    pub fn shown(&self) -> String {
        read(&self.stdout)
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not know the process any more.
    pub fn has_ended(&mut self) -> bool {
        self.status().is_some()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Sends a signal: `Signal::KILL`, `STOP`, `CONT`, `INT`, `TERM`.
    ///
    /// # Panics
    /// When the process cannot be signalled.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Panics
    /// When it had ended by itself before: then the test shows something else than it says.
    pub fn kill(mut self) -> Ended {
        assert!(!self.has_ended(), "ended before it was killed: {}", self.log());
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(60))
    }

    /// Ctrl-C, and waits until it has drained.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn interrupt(self, longest: Duration) -> Ended {
        self.signal(Signal::INT);
        self.wait(longest)
    }

    /// Waits until its log holds `text`.
    ///
    /// # Panics
    /// When it ends or time passes without it.
    pub fn await_log(&mut self, text: &str, longest: Duration) {
        let what = format!("`{text}` in the log of distributary {}", self.arguments);
        await_true(&what, longest, || {
            // Asked first: what it wrote last counts too.
            let ended = self.has_ended();
            let found = self.log().contains(text);
            assert!(found || !ended, "ended without `{text}`:\n{}", self.log());
            found
        });
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn wait(mut self, longest: Duration) -> Ended {
        let what = format!("the end of distributary {}", self.arguments);
        let (stderr, child) = (self.stderr.clone(), &mut self.child);
        let status = await_some(&what, longest, || child.try_wait().expect("a child can be asked"));
        Ended {
            code: status.code(),
            stdout: read(&self.stdout),
            stderr: read(&stderr),
            arguments: self.arguments.clone(),
        }
    }
}

impl Drop for Distributary {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Gone in between: all the better.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            crate::seed::say(&format!("distributary {}:\n{}", self.arguments, tail(&self.log())));
        }
    }
}

impl Ended {
    /// # Panics
    /// When it ended with another exit code.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Self {
        assert!(
            self.code == Some(code),
            "exit code {:?} in place of {code} of distributary {}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.arguments,
            tail(&self.stdout),
            tail(&self.stderr)
        );
        self
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
