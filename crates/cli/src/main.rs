//! The binary `distributary`: what it is told, and how it ended, as an exit code.

mod arguments;
mod check;
mod cluster;
mod console;
mod exit;
mod frame;
mod node;
mod objects;
mod output;
mod report;
mod run;
mod schema;
mod slots;
mod spec;
mod system;
mod table;
mod tail;

use crate::arguments::{Arguments, Verb};
use crate::console::Console;
use crate::exit::Exit;
use crate::output::{Output, OutputFormat};
use clap::Parser;
use std::io::{self, ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use telemetry::{Shape, logs, panics};
use tikv_jemallocator::Jemalloc;

/// Also for the Kafka client, which is written in C: the system's allocator keeps what many threads
/// have freed, and that was most of the memory after a backlog (`.cargo/config.toml` has its settings).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() {
    // Wrong usage ends here, with its own exit code, which is ours.
    let arguments = Arguments::parse();
    let console = Console::default();
    let shape = match arguments.output {
        OutputFormat::Text | OutputFormat::Yaml => Shape::Text,
        OutputFormat::Json => Shape::Json,
    };
    logs::start(shape, &arguments.log_level, console.clone());
    panics::log();
    let traces = telemetry::traces::start().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        None
    });
    // A panic was logged where it happened; nothing of what it left is used again.
    let ended = catch_unwind(AssertUnwindSafe(|| carry_out(&arguments, &console)));
    let code = ended.unwrap_or(Exit::Failed);
    drop(traces);
    // A thread that still waits for a server must not hold the process back.
    std::process::exit(code.into());
}

fn carry_out(arguments: &Arguments, console: &Console) -> Exit {
    let output = Output::new(arguments.output);
    let ended = match &arguments.verb {
        Verb::Run(run) => run::run(run, output, console),
        Verb::Check(check) => check::check(check, output),
        Verb::Objects(objects) => objects::objects(objects, output),
        Verb::Slots(slots) => slots::slots(slots, output),
        Verb::Tail(tail) => tail::tail(tail, output),
        Verb::Task(tasks) => cluster::tasks(tasks, output),
        Verb::Cluster(nodes) => cluster::nodes(nodes, output),
        Verb::Connection(connections) => cluster::connections(connections, output),
        Verb::Coordinator(config) => node::coordinator(config, output),
        Verb::Worker(config) => node::worker(config, output),
        Verb::Schema { node } => schema::schema(*node, output),
        Verb::Completions { shell } => schema::completions(*shell),
    };
    ended.and_then(|exit| io::stdout().flush().map(|()| exit)).unwrap_or_else(|error| {
        // Whoever reads our output has had enough of it.
        if error.kind() == ErrorKind::BrokenPipe {
            return Exit::Done;
        }
        report::error(output, &format!("the output cannot be written: {error}"), "");
        Exit::Failed
    })
}
