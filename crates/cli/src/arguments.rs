//! What can be said on the command line, and its help.

mod cluster;

pub(crate) use cluster::{
    Access, Apply, Begin, ConnectionSettings, Connections, ConnectionsVerb, NodeConfig, Nodes,
    NodesVerb, Release, Reseed, Snapshot, TaskStatus, TaskVerb, Tasks,
};

use crate::output::OutputFormat;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use config::pattern::{PatternError, TablePattern};
use std::path::PathBuf;
use telemetry::Filter;
use telemetry::logs::FILTER_VARIABLE;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, parked, or fenced by another process
  2  wrong usage or spec
  3  precheck not passed";

const ABOUT: &str = "\
Carries the changes of PostgreSQL databases to Kafka, exactly once.

A task spec, one YAML file, says what is captured and how it arrives. `distributary schema` prints \
its JSON Schema, for editors. A task runs in one process, or on a cluster of coordinators and \
workers.";

const EXAMPLES: &str = "\
Examples:
  distributary check shop.yaml       is everything in place? writes nothing
  distributary objects shop.yaml     what would be captured, and where it would go
  distributary tail shop.yaml        look at events, without Kafka
  distributary run shop.yaml         go, in this process
  distributary task apply shop.yaml  or give it to a cluster

Exit codes:
  0  done
  1  failed, parked, or fenced by another process
  2  wrong usage or spec
  3  precheck not passed";

/// Carries the changes of PostgreSQL databases to Kafka, exactly once
#[derive(Debug, Parser)]
#[command(name = "distributary", version, long_about = ABOUT, after_help = EXAMPLES)]
#[command(max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// How results are printed on stdout; `json` also makes log lines JSON
    #[arg(short, long, value_enum, value_name = "FORMAT", global = true)]
    #[arg(default_value_t = OutputFormat::Text, display_order = 90)]
    pub output: OutputFormat,

    /// Which log lines go to stderr: off, error, warn, info, debug, trace, or a filter such as
    /// `info,kafka=debug`
    #[arg(long, value_name = "LEVEL", global = true, env = FILTER_VARIABLE)]
    #[arg(default_value = "info", hide_env_values = true, display_order = 91)]
    pub log_level: Filter,

    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Run),
    Check(Check),
    Objects(Objects),
    Slots(Slots),
    Tail(Tail),
    Task(Tasks),
    Cluster(Nodes),
    Connection(Connections),
    /// Run a coordinator of a cluster in this process
    ///
    /// Several may run: one leads, the others answer and take its place. SIGTERM or Ctrl-C ends it,
    /// after it has given up the lead; a second one ends it at once. What runs goes on without it.
    #[command(after_help = NODE_EXIT_CODES)]
    Coordinator(NodeConfig),
    /// Run a worker of a cluster in this process
    ///
    /// SIGTERM or Ctrl-C ends it, after what it runs has moved to other workers; a second one ends it
    /// at once, and loses and doubles nothing either.
    #[command(after_help = NODE_EXIT_CODES)]
    Worker(NodeConfig),
    /// Print the JSON Schema of the task spec or of the node spec
    ///
    /// For editors that complete and check YAML as it is written.
    #[command(after_help = "\
Examples:
  distributary schema > distributary.schema.json
  distributary schema --node > node.schema.json
  # then, as the first line of a spec:
  # yaml-language-server: $schema=distributary.schema.json")]
    Schema {
        /// Of the node spec, in place of the task spec
        #[arg(long)]
        node: bool,
    },
    /// Print a script that completes commands and options in a shell
    #[command(after_help = "\
Examples:
  distributary completions bash > /etc/bash_completion.d/distributary
  distributary completions zsh > ~/.zfunc/_distributary
  distributary completions fish > ~/.config/fish/completions/distributary.fish")]
    Completions {
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shell,
    },
}

const NODE_EXIT_CODES: &str = "\
Exit codes:
  0  ended by request
  1  failed, or fenced by another node of the same name
  2  wrong usage or spec";

/// Run a task in this process: precheck, schema, snapshot, then the stream
///
/// Goes on where the last run ended; a crash loses and doubles nothing. Ctrl-C (or SIGTERM) drains
/// what is under way, commits it, keeps the replication slot and says how much WAL the server now
/// holds for it; a second Ctrl-C ends at once. As long as a slot is kept, the server keeps its WAL:
/// run the task again, or remove everything with --release.
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// The task spec; paths in it are relative to its folder
    #[arg(value_name = "TASK.yaml")]
    pub spec: PathBuf,

    /// End with exit code 0 once everything that was committed before the start is delivered
    #[arg(long)]
    pub until_caught_up: bool,

    /// At the end remove the slot, the publication and the internal topics; data topics stay
    #[arg(long)]
    pub release: bool,

    /// Begin again with a new slot and a new snapshot, after a lost slot or a divergence
    #[arg(long)]
    pub reseed: bool,

    /// With --reseed: no snapshot; go on where the server is now, and name what lies between
    #[arg(long, requires = "reseed")]
    pub accept_gap: bool,

    /// Also print the items of the precheck that pass
    #[arg(short, long)]
    pub verbose: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  distributary run shop.yaml                              until Ctrl-C
  distributary run shop.yaml --until-caught-up            for scripts
  distributary run shop.yaml --until-caught-up --release  deliver the rest, then remove the task

Exit codes:
  0  caught up, stopped by request, or released
  1  failed, parked until a person decides, or fenced by another process of the same task
  2  wrong usage or spec
  3  precheck not passed; nothing was started";

/// Check whether a task could run; writes nothing anywhere
///
/// Prints a line per item: pass, warning or fail, what was seen, and below it why it matters and the
/// remedy. A task does not start while an item fails or has a warning that cannot be ignored. Other
/// warnings keep nothing back; those that are known and accepted can be ignored. docs/precheck.md
/// lists all items.
#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct Check {
    /// The task spec; paths in it are relative to its folder
    #[arg(value_name = "TASK.yaml")]
    pub spec: PathBuf,

    /// Also reach out to every host, every broker and the registry one by one, with timings
    #[arg(long)]
    pub connectivity: bool,

    /// Ignore the warning of this item, e.g. `sink.replication`; may be repeated
    #[arg(long, value_name = "ITEM")]
    pub ignore: Vec<String>,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  distributary check shop.yaml
  distributary check shop.yaml --connectivity
  distributary check shop.yaml --ignore sink.replication
  distributary check shop.yaml -o json | jq '.items[] | select(.state == \"fail\")'

Exit codes:
  0  every item passes, or is a warning that may be ignored
  2  wrong usage or spec
  3  the task would not start";

/// Show what a task would capture: tables, keys, topics; writes nothing anywhere
///
/// Rows are the server's estimate. Lanes are the producers that would own the topic's partitions.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Objects {
    /// The task spec; paths in it are relative to its folder
    #[arg(value_name = "TASK.yaml")]
    pub spec: PathBuf,
}

/// List the replication slots on every host of a source, and whose they are
///
/// A slot is a task's, an orphan (ours, not in use, its task gone or on another host after a
/// switchover), a standby's copy, or foreign: of another cluster, database or program. The publication
/// of a slot says whose it is; tasks write it down while they stream.
#[derive(Args, Debug)]
#[command(after_help = SLOTS_EXAMPLES)]
pub(crate) struct Slots {
    /// A task spec with the source, its slot prefix, and the Kafka cluster whose tasks are known
    #[arg(long, value_name = "TASK.yaml")]
    pub source: PathBuf,

    /// Drop orphans, with their publications and helper objects; nothing else is touched
    #[arg(long)]
    pub drop_orphans: bool,
}

const SLOTS_EXAMPLES: &str = "\
Examples:
  distributary slots --source shop.yaml
  distributary slots --source shop.yaml --drop-orphans
  distributary slots --source shop.yaml -o json | jq '.slots[] | select(.kind == \"orphan\")'

Exit codes:
  0  done
  1  a host could not be asked, or an orphan could not be dropped
  2  wrong usage or spec";

/// Print events from now on, as they would arrive in Kafka, without touching Kafka
///
/// Reads through a temporary replication slot, which the server removes with the connection. One
/// event per line: topic and partition, key, value. Ctrl-C ends it.
#[derive(Args, Debug)]
#[command(after_help = TAIL_EXAMPLES)]
pub(crate) struct Tail {
    /// The task spec; paths in it are relative to its folder
    #[arg(value_name = "TASK.yaml")]
    pub spec: PathBuf,

    /// Only tables that match, as in `objects` of a spec, e.g. `public.orders` or `public.*`
    #[arg(long, value_name = "TABLE", value_parser = pattern)]
    pub table: Option<String>,
}

/// What is no pattern is wrong usage, and said before anything is connected.
fn pattern(text: &str) -> Result<String, PatternError> {
    TablePattern::parse(text).map(|_| text.to_owned())
}

const TAIL_EXAMPLES: &str = "\
Examples:
  distributary tail shop.yaml
  distributary tail shop.yaml --table public.orders
  distributary tail shop.yaml -o json | jq .value.after

Exit codes:
  0  ended by Ctrl-C
  1  failed
  2  wrong usage or spec";
