//! `distributary schema` and `distributary completions`.

use crate::arguments::Arguments;
use crate::exit::Exit;
use crate::output::Output;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};

pub(crate) fn schema(node: bool, output: Output) -> io::Result<Exit> {
    let schema = if node { config::node_schema() } else { config::task_schema() };
    output.document(&schema, || format!("{schema:#}\n"))?;
    Ok(Exit::Done)
}

pub(crate) fn completions(shell: Shell) -> io::Result<Exit> {
    let mut command = Arguments::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "distributary", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
