//! `distributary objects`: what a task would capture.

use crate::arguments::Objects;
use crate::exit::Exit;
use crate::output::Output;
use crate::{report, spec, system, table};
use pipeline::ObjectRow;
use std::io;

pub(crate) fn objects(arguments: &Objects, output: Output) -> io::Result<Exit> {
    let spec = match spec::load(&arguments.spec, output) {
        Ok(spec) => spec,
        Err(exit) => return Ok(exit),
    };
    match system::block_on(pipeline::objects(&spec.task, &spec.folder)) {
        Ok(rows) => {
            output.document(&rows, || text(&rows))?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            report::error(output, &failure.to_string(), "");
            Ok(Exit::Failed)
        }
    }
}

fn text(rows: &[ObjectRow]) -> String {
    let cells: Vec<_> = rows.iter().map(cells).collect();
    let heading = ["TABLE", "ROWS", "KEY", "TOPIC", "PARTITIONS", "LANES", "NOTES"];
    let table = table::aligned(heading, &[1, 4], &cells);
    format!("{table}\n{}\n", report::counted(rows.len(), "table"))
}

fn cells(row: &ObjectRow) -> [String; 7] {
    let key = if row.key.is_empty() { "-".to_owned() } else { row.key.join(", ") };
    [
        format!("{}.{}", row.schema, row.table),
        format!("~{}", row.rows_estimated),
        key,
        row.topic.clone(),
        row.partitions.to_string(),
        table::ranges(&row.lanes),
        row.notes.join("; "),
    ]
}
