//! The last words of a run: how it ended, what it leaves behind, what to do next.

use crate::exit::Exit;
use crate::output::{Output, OutputFormat};
use crate::report;
use config::Task;
use indicatif::HumanBytes;
use pipeline::{Outcome, Progress};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Says how a run ended: the result on stdout, what went wrong on stderr.
pub(super) fn say(
    outcome: &Outcome,
    task: &Task,
    spec: &Path,
    progress: &Progress,
    output: Output,
) -> io::Result<Exit> {
    let dead_letters = progress.dead_letters.load(Relaxed);
    let farewell = Farewell::new(outcome, task, spec, progress.records.load(Relaxed));
    let farewell = Farewell { dead_letters, ..farewell };
    match outcome {
        Outcome::CaughtUp | Outcome::Stopped { .. } | Outcome::Released => {}
        Outcome::Parked { .. } | Outcome::Failed { .. } | Outcome::Overtaken { .. } => {
            let remedy = farewell.remedy.as_deref().unwrap_or_default();
            report::error(output, &farewell.text, remedy);
            if task.sync.incremental {
                report::note(output, &still_there(task));
            }
        }
    }
    let exit = exit(outcome);
    // People have read it on stderr already.
    if output.format != OutputFormat::Text || exit == Exit::Done {
        output.document(&farewell, || farewell.for_people())?;
    }
    Ok(exit)
}

fn exit(outcome: &Outcome) -> Exit {
    match outcome {
        Outcome::CaughtUp | Outcome::Stopped { .. } | Outcome::Released => Exit::Done,
        Outcome::Parked { .. } | Outcome::Failed { .. } | Outcome::Overtaken { .. } => Exit::Failed,
    }
}

#[derive(Debug, Serialize)]
struct Farewell {
    task: String,
    outcome: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// The slot that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<String>,
    /// WAL that the server holds for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    retained_bytes: Option<u64>,
    /// Records given to Kafka by this run.
    records: u64,
    /// Changes among them that went to the dead-letter topic.
    dead_letters: u64,
    /// Commands that come next, where a slot is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    go_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<String>,
}

impl Farewell {
    fn new(outcome: &Outcome, task: &Task, spec: &Path, records: u64) -> Self {
        let slot = slot(task);
        let spec = spec.display();
        let (word, text, remedy, retained_bytes) = match outcome {
            Outcome::CaughtUp => {
                let text = "caught up: everything committed before the start is in Kafka";
                ("caught-up", text.to_owned(), None, None)
            }
            Outcome::Stopped { retained_bytes } => {
                ("stopped", stopped(&slot, *retained_bytes), None, *retained_bytes)
            }
            Outcome::Released => {
                let text = "released: slot, publication and internal topics are removed; the \
                            data topics stay";
                ("released", text.to_owned(), None, None)
            }
            Outcome::Parked { cause, remedy } => {
                ("parked", format!("task parked: {cause}"), Some(remedy.clone()), None)
            }
            Outcome::Failed { cause } | Outcome::Overtaken { cause } => {
                ("failed", format!("task failed: {cause}"), None, None)
            }
        };
        let kept = match outcome {
            Outcome::CaughtUp => task.sync.incremental.then_some(slot),
            Outcome::Stopped { retained_bytes } => retained_bytes.map(|_| slot),
            Outcome::Released
            | Outcome::Parked { .. }
            | Outcome::Failed { .. }
            | Outcome::Overtaken { .. } => None,
        };
        Self {
            task: task.task.clone(),
            outcome: word,
            text,
            remedy,
            go_on: kept.as_ref().map(|_| format!("distributary run {spec}")),
            remove: kept
                .as_ref()
                .map(|_| format!("distributary run {spec} --until-caught-up --release")),
            slot: kept,
            retained_bytes,
            records,
            dead_letters: 0,
        }
    }

    fn for_people(&self) -> String {
        let mut text = format!("{}; {} in this run\n", self.text, records(self.records));
        if self.dead_letters != 0 {
            let changes = if self.dead_letters == 1 { "change is" } else { "changes are" };
            let count = self.dead_letters;
            text.push_str(&format!("{count} {changes} set aside in the dead-letter topic\n"));
        }
        if let (Some(slot), None) = (&self.slot, self.retained_bytes) {
            text.push_str(&format!("the slot `{slot}` is kept, and the server keeps WAL for it\n"));
        }
        for (what, command) in [("to go on", &self.go_on), ("to remove it", &self.remove)] {
            if let Some(command) = command {
                text.push_str(&format!("{what:<13} {command}\n"));
            }
        }
        text
    }
}

/// A task that does not run can still fill the server's disk.
fn still_there(task: &Task) -> String {
    let slot = slot(task);
    format!("while the slot `{slot}` exists, the server keeps WAL for it")
}

fn slot(task: &Task) -> String {
    task.slots().join("`, `")
}

fn stopped(slot: &str, retained_bytes: Option<u64>) -> String {
    match retained_bytes {
        Some(bytes) => format!(
            "stopped; the slot `{slot}` is kept, and the server now holds {} of WAL for it",
            HumanBytes(bytes)
        ),
        None => format!(
            "stopped; how much WAL the server holds for the slot `{slot}` could not be asked, or \
             it does not exist yet"
        ),
    }
}

fn records(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} record{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(outcome: &Outcome, expected: &Expect) {
        let task = Task { task: "shop".into(), ..Task::default() };
        let farewell = Farewell::new(outcome, &task, Path::new("shop.yaml"), 3);
        expected.assert_eq(&farewell.for_people());
    }

    #[test]
    fn a_stopped_task_names_its_slot_and_the_wal_it_holds() {
        let outcome = Outcome::Stopped { retained_bytes: Some(3 << 20) };
        check(
            &outcome,
            &expect![[r#"
            stopped; the slot `distributary_shop` is kept, and the server now holds 3.00 MiB of WAL for it; 3 records in this run
            to go on      distributary run shop.yaml
            to remove it  distributary run shop.yaml --until-caught-up --release
        "#]],
        );
    }

    #[test]
    fn a_task_that_caught_up_keeps_its_slot() {
        check(
            &Outcome::CaughtUp,
            &expect![[r#"
            caught up: everything committed before the start is in Kafka; 3 records in this run
            the slot `distributary_shop` is kept, and the server keeps WAL for it
            to go on      distributary run shop.yaml
            to remove it  distributary run shop.yaml --until-caught-up --release
        "#]],
        );
    }

    #[test]
    fn a_released_task_leaves_nothing_to_do() {
        check(
            &Outcome::Released,
            &expect![[r#"
            released: slot, publication and internal topics are removed; the data topics stay; 3 records in this run
        "#]],
        );
    }

    #[test]
    fn what_a_person_must_decide_is_no_success() {
        let parked = Outcome::Parked { cause: "c".into(), remedy: "r".into() };
        for (outcome, code) in [
            (Outcome::CaughtUp, 0),
            (Outcome::Stopped { retained_bytes: None }, 0),
            (Outcome::Released, 0),
            (parked, 1),
            (Outcome::Failed { cause: "c".into() }, 1),
        ] {
            assert_eq!(i32::from(exit(&outcome)), code, "{outcome:?}");
        }
    }
}
