//! What can be said to a cluster, and how it is reached.

use super::{EXIT_CODES, pattern};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// How a coordinator is reached.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Access {
    /// Coordinators: HOST:PORT or https://HOST:PORT, separated by commas or given repeatedly. One
    /// that answers is enough: it knows who leads
    #[arg(long, value_name = "URL", global = true, env = "DISTRIBUTARY_COORDINATOR")]
    #[arg(default_value = "127.0.0.1:7420", value_delimiter = ',', hide_env_values = true)]
    #[arg(display_order = 80)]
    pub coordinator: Vec<String>,

    /// File with the token to show, and nothing else; only its owner and group may read it
    #[arg(long, value_name = "FILE", global = true, env = "DISTRIBUTARY_TOKEN_FILE")]
    #[arg(hide_env_values = true, display_order = 81)]
    pub token_file: Option<PathBuf>,

    /// CA of the cluster, PEM; without it only this machine's own coordinator is reached
    #[arg(long, value_name = "FILE", global = true, env = "DISTRIBUTARY_CA")]
    #[arg(hide_env_values = true, display_order = 82)]
    pub ca: Option<PathBuf>,

    /// Certificate with the role `admin`, PEM, in place of a token or beside it
    #[arg(long, value_name = "FILE", global = true, env = "DISTRIBUTARY_CERT")]
    #[arg(hide_env_values = true, display_order = 83)]
    pub cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", global = true, env = "DISTRIBUTARY_KEY")]
    #[arg(hide_env_values = true, display_order = 84)]
    pub key: Option<PathBuf>,

    /// How long to wait for a leader while the cluster has none, and for a coordinator that has just begun
    #[arg(long, value_name = "SECONDS", global = true, default_value_t = 20, display_order = 85)]
    pub leader_wait: u64,
}

/// Tasks of a cluster: create, change, look, start, stop, remove
///
/// What is ordered is durable once the command ends; that a task has carried it out is seen by
/// `task status --watch`.
#[derive(Args, Debug)]
#[command(after_help = TASK_EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Tasks {
    #[command(flatten)]
    pub access: Access,
    #[command(subcommand)]
    pub verb: TaskVerb,
}

const TASK_EXAMPLES: &str = "\
Examples:
  distributary task apply shop.yaml --dry-run   what would change?
  distributary task apply shop.yaml
  distributary task start shop --wait
  distributary task status shop --watch

Exit codes:
  0  done
  1  refused, failed, or no coordinator can be reached
  2  wrong usage or spec
  3  precheck not passed";

#[derive(Debug, Subcommand)]
pub(crate) enum TaskVerb {
    Apply(Apply),
    /// List the tasks of the cluster
    #[command(after_help = EXIT_CODES)]
    List,
    Status(TaskStatus),
    /// Show the states that a task was in, since when, why, and who ordered them: the last 50
    #[command(after_help = EXIT_CODES)]
    History(Named),
    /// Print the spec in force: certificates inline, secrets as references
    #[command(after_help = EXIT_CODES)]
    Show(Named),
    /// Start a task that was applied or has stopped
    #[command(after_help = EXIT_CODES)]
    Start(Begin),
    /// Stop a task and keep its slot, for which the server keeps WAL
    #[command(after_help = EXIT_CODES)]
    Suspend(Named),
    /// Let a suspended or parked task go on from its positions
    #[command(after_help = EXIT_CODES)]
    Resume(Begin),
    /// Let the front and the lanes of a task begin again from their positions
    #[command(after_help = EXIT_CODES)]
    Restart(Begin),
    Snapshot(Snapshot),
    Reseed(Reseed),
    Release(Release),
}

/// Create a task, or change it; what a change does is shown first
///
/// Secrets in the spec must be references: `${env:DISTRIBUTARY_SECRET_…}` or `${file:…}` below
/// `secrets_dir`, both of the workers. A literal one is refused before anything is sent. Certificates are
/// sent with the spec, from files on this machine; private keys are not.
#[derive(Args, Debug)]
#[command(after_help = APPLY_EXAMPLES)]
pub(crate) struct Apply {
    /// The task spec
    #[arg(value_name = "TASK.yaml")]
    pub spec: PathBuf,

    /// Only show what would be done; with -o json or yaml also what would be sent
    #[arg(long)]
    pub dry_run: bool,
}

const APPLY_EXAMPLES: &str = "\
Examples:
  distributary task apply shop.yaml --dry-run
  distributary task apply shop.yaml --dry-run -o yaml   the plan, and the spec as it is sent
  distributary task apply shop.yaml

Exit codes:
  0  applied, or nothing to change
  1  refused, failed, or no coordinator can be reached
  2  wrong usage or spec; nothing was applied";

/// Show a task: its state, positions, latency, rates, retries, and where its lanes run
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct TaskStatus {
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Show it again whenever it changes, until Ctrl-C; with -o json a line each time
    #[arg(short, long)]
    pub watch: bool,
}

/// A task that is to run.
#[derive(Args, Debug)]
pub(crate) struct Begin {
    #[arg(value_name = "NAME")]
    pub name: String,

    /// End once it runs; with 3 when its precheck is not passed, with 1 when it is parked or has
    /// given up
    #[arg(long)]
    pub wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Named {
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Read one table again while the stream runs
#[derive(Args, Debug)]
#[command(after_help = SNAPSHOT_EXAMPLES)]
pub(crate) struct Snapshot {
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The table, `schema.table`, quoted as in SQL
    #[arg(long, value_name = "TABLE", value_parser = pattern)]
    pub table: String,

    /// Only these rows: a condition in the subset of SQL that specs know
    #[arg(long = "where", value_name = "CONDITION", default_value = "", hide_default_value = true)]
    pub condition: String,
}

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  distributary task snapshot shop --table public.orders
  distributary task snapshot shop --table public.orders --where \"id > 1000\"

Exit codes:
  0  ordered
  1  refused, failed, or no coordinator can be reached
  2  wrong usage";

/// Go on after a lost slot or a divergence: a new slot and a new snapshot, or a named gap
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Reseed {
    #[arg(value_name = "NAME")]
    pub name: String,

    /// No snapshot: go on where the server is now, and leave out what lies between
    #[arg(long)]
    pub accept_gap: bool,
}

/// Stop a task for good and remove what it left at the source; data topics stay
///
/// Fences the lanes, then removes slot, publication, helper objects and the task's internal topics.
/// Asks first where somebody sits at a terminal.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Release {
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// Nodes of a cluster: look, drain, give back, move lanes
#[derive(Args, Debug)]
#[command(after_help = NODES_EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Nodes {
    #[command(flatten)]
    pub access: Access,
    #[command(subcommand)]
    pub verb: NodesVerb,
}

const NODES_EXAMPLES: &str = "\
Examples:
  distributary cluster status --watch
  distributary cluster drain w2          before it is taken down
  distributary cluster uncordon w2       when it is back
  distributary cluster move-lane shop 3 w1

Exit codes:
  0  done
  1  refused, failed, or no coordinator can be reached
  2  wrong usage";

#[derive(Debug, Subcommand)]
pub(crate) enum NodesVerb {
    /// Show coordinators, workers, and what runs where
    #[command(after_help = EXIT_CODES)]
    Status {
        /// Show it again whenever it changes, until Ctrl-C; with -o json a line each time
        #[arg(short, long)]
        watch: bool,
    },
    /// Move everything off a worker, and place nothing there
    #[command(after_help = EXIT_CODES)]
    Drain {
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Let a drained worker take work again
    #[command(after_help = EXIT_CODES)]
    Uncordon {
        #[arg(value_name = "NODE")]
        node: String,
    },
    /// Move one lane of a task to another worker; the other lanes go on
    #[command(after_help = EXIT_CODES)]
    MoveLane {
        #[arg(value_name = "TASK")]
        task: String,
        #[arg(value_name = "LANE")]
        lane: u32,
        /// The worker it goes to; without, the placement chooses one
        #[arg(value_name = "NODE")]
        node: Option<String>,
    },
}

/// Named connections that the specs of a cluster refer to
#[derive(Args, Debug)]
#[command(after_help = CONNECTIONS_EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Connections {
    #[command(flatten)]
    pub access: Access,
    #[command(subcommand)]
    pub verb: ConnectionsVerb,
}

const CONNECTIONS_EXAMPLES: &str = "\
Examples:
  distributary connection set kafka-a --sink kafka-a.yaml   e.g. `brokers: [k1:9092]`
  distributary connection list
  distributary connection remove kafka-a

Exit codes:
  0  done
  1  refused, failed, or no coordinator can be reached
  2  wrong usage, or settings that cannot be used";

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionsVerb {
    /// Create a connection, or change it
    ///
    /// The file holds settings as they stand below `source:` or `sink:` of a task spec. Secrets must
    /// be references, as in a task spec that is applied.
    #[command(after_help = EXIT_CODES)]
    Set {
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        settings: ConnectionSettings,
    },
    /// List the connections, and the tasks that use them
    #[command(after_help = EXIT_CODES)]
    List,
    /// Remove a connection that no task uses
    #[command(after_help = EXIT_CODES)]
    Remove {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct ConnectionSettings {
    /// Settings of a database
    #[arg(long, value_name = "FILE.yaml")]
    pub source: Option<PathBuf>,

    /// Settings of a Kafka cluster
    #[arg(long, value_name = "FILE.yaml")]
    pub sink: Option<PathBuf>,
}

/// What a node is told about itself.
#[derive(Args, Debug)]
pub(crate) struct NodeConfig {
    /// The node spec; paths in it are relative to its folder
    #[arg(long, value_name = "NODE.yaml")]
    pub config: PathBuf,
}
