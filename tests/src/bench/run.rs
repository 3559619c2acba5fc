//! The release build of `distributary run` while it is measured.

use crate::deadline::{await_some, await_true};
use crate::procfs::{Memory, has_ended, memory};
use crate::scene::walsender;
use crate::servers::Server;
use crate::sql::Sql;
use crate::task::Spec;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STREAMING_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A running task. Ended when dropped.
#[derive(Debug)]
pub struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    /// Starts a task and waits until it reads from its slot.
    ///
    /// # Panics
    /// When it does not come so far.
    #[must_use]
    pub fn start(folder: &Path, spec: &Spec, postgres: &Server) -> Self {
        let log = folder.join(format!("{}.log", spec.task()));
        let path = spec.write(folder);
        let child = Command::new(super::binary())
            .args([OsStr::new("run"), path.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("the folder can be written"))
            .spawn()
            .expect("distributary can be started");
        let run = Self { child, log };
        let slot = format!("distributary_{}", spec.task());
        let mut sql = Sql::superuser(postgres, "postgres");
        await_true("the slot in use", STREAMING_MAX, || {
            run.assert_alive();
            walsender(&mut sql, &slot) != 0
        });
        run
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it holds; nothing once it has ended.
    #[must_use]
    pub fn memory(&self) -> Memory {
        memory(self.id()).unwrap_or_default()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// # Panics
    /// When it has ended.
    pub fn assert_alive(&self) {
        assert!(!has_ended(self.id()), "distributary has ended:\n{}", self.log());
    }

    /// Whether its slot comes to a position before it ends or time is over.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn comes_to(&self, sql: &mut Sql, slot: &str, end: &str, longest: Duration) -> bool {
        let query = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND \
             '{end}'::pg_lsn <= confirmed_flush_lsn"
        );
        let begun = Instant::now();
        while !has_ended(self.id()) && begun.elapsed() < longest {
            if sql.value(&query) == "1" {
                return true;
            }
            sleep(LOOK_AGAIN);
        }
        false
    }

    /// Ctrl-C, and its end.
    ///
    /// # Panics
    /// When it does not end in order.
    pub fn stop(mut self) {
        self.assert_alive();
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("a child can be signalled");
        let child = &mut self.child;
        let ended = || child.try_wait().expect("a child can be asked");
        let status = await_some("the end of distributary", STOP_MAX, ended);
        assert!(status.success(), "distributary ended with {status}:\n{}", self.log());
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Gone in between: all the better.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
