//! Whether the process that wrote a record still runs, where that can be known: on this host, since its last start.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What tells a process from every other one, of all hosts and times.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Process {
    /// The host, since its last start.
    boot: String,
    /// The namespace in which `pid` counts: containers have their own.
    pids: String,
    /// Processes of other users may be hidden.
    uid: u32,
    pid: u32,
    /// Clock ticks after the start of the host: numbers of processes come again.
    started: u64,
}

impl Process {
    /// This one; `None` where the system does not say (it needs `/proc`).
    #[must_use]
    pub fn this() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let pids = fs::read_link("/proc/self/ns/pid").ok()?;
        let (_, started) = parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
        Some(Self {
            boot: boot.trim().into(),
            pids: pids.to_string_lossy().into_owned(),
            uid: fs::metadata("/proc/self").ok()?.uid(),
            pid: std::process::id(),
            started,
        })
    }

    /// Whether it certainly runs no more. `this` asks: it must be able to see the other.
    #[must_use]
    pub fn is_gone(&self, this: &Self) -> bool {
        let sees = (&self.boot, &self.pids, self.uid) == (&this.boot, &this.pids, this.uid);
        if !sees {
            return false;
        }
        match fs::read_to_string(Path::new("/proc").join(self.pid.to_string()).join("stat")) {
            Ok(stat) => parse(&stat).is_some_and(|(state, started)| {
                started != self.started || matches!(state, 'Z' | 'X')
            }),
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}

/// State and start of a process (proc_pid_stat(5), fields 3 and 22). Its name, in brackets, may hold anything.
fn parse(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_line_of_a_process_is_read_whatever_its_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 8317 20 21";
        assert_eq!(parse(&format!("7 (a) Z 1) {rest}")), Some(('S', 8317)));
        assert_eq!(parse("7 (a) S 1 2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_is_gone_once_it_has_ended_and_another_has_its_number() {
        let this = Process::this().expect("Linux");
        assert!(!this.is_gone(&this));
        assert!(Process { started: this.started + 1, ..this.clone() }.is_gone(&this));
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("a process");
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it runs");
        let (_, started) = parse(&stat).expect("a line");
        let other = Process { pid: child.id(), started, ..this.clone() };
        assert!(!other.is_gone(&this));
        child.kill().expect("killed");
        // Not waited for yet: a zombie.
        while !other.is_gone(&this) {
            std::thread::yield_now();
        }
        child.wait().expect("ended");
        assert!(other.is_gone(&this));
    }

    #[test]
    fn what_cannot_be_seen_from_here_is_never_said_to_be_gone() {
        let this = Process::this().expect("Linux");
        let gone = Process { started: this.started + 1, ..this.clone() };
        let elsewhere = [
            Process { boot: "other".into(), ..gone.clone() },
            Process { pids: "pid:[1]".into(), ..gone.clone() },
            Process { uid: this.uid + 1, ..gone },
        ];
        assert!(elsewhere.iter().all(|it| !it.is_gone(&this)));
    }
}
