//! `distributary slots`: replication slots on every host of a source, and the end of orphans.

use crate::arguments::Slots;
use crate::exit::Exit;
use crate::output::Output;
use crate::{report, spec, system, table};
use pipeline::slots::{Kind, SlotList, SlotRow};
use std::io;

pub(crate) fn slots(arguments: &Slots, output: Output) -> io::Result<Exit> {
    let spec = match spec::load(&arguments.source, output) {
        Ok(spec) => spec,
        Err(exit) => return Ok(exit),
    };
    let asked = pipeline::slots::slots(&spec.task, &spec.folder, arguments.drop_orphans);
    match system::block_on(asked) {
        Ok(list) => {
            output.document(&list, || text(&list))?;
            for problem in &list.problems {
                report::error(output, problem, "");
            }
            Ok(if list.problems.is_empty() { Exit::Done } else { Exit::Failed })
        }
        Err(failure) => {
            report::error(output, &failure.to_string(), "");
            Ok(Exit::Failed)
        }
    }
}

fn text(list: &SlotList) -> String {
    let cells: Vec<_> = list.slots.iter().map(cells).collect();
    let heading = ["HOST", "SLOT", "KIND", "DATABASE", "IN USE", "WAL KEPT", "NOTES"];
    let table = table::aligned(heading, &[5], &cells);
    format!("{table}\n{}\n", report::counted(list.slots.len(), "slot"))
}

fn cells(row: &SlotRow) -> [String; 7] {
    let kind = match row.kind {
        Kind::Task => "task",
        Kind::Orphan => "orphan",
        Kind::Copy => "copy",
        Kind::Foreign => "foreign",
    };
    let notes = [(row.dropped, "dropped"), (row.lost, "lost: its WAL was removed")];
    let notes = notes.iter().filter(|(is_so, _)| *is_so).map(|(_, note)| *note);
    let notes: Vec<&str> = notes.chain([row.note.as_str()]).filter(|it| !it.is_empty()).collect();
    [
        row.host.clone(),
        row.slot.clone(),
        kind.to_owned(),
        row.database.clone(),
        if row.active { "yes" } else { "no" }.to_owned(),
        format!("{} MiB", row.retained_bytes >> 20),
        notes.join("; "),
    ]
}
