//! Every item that a precheck can have: why it matters, what its warnings mean, what mends it. `docs/precheck.md` is
//! made of it.

/// What becomes of a warning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ignoring {
    /// The item passes or fails.
    None,
    /// The task may start: `--ignore` shows that it is known.
    May,
    /// The task does not start before it is mended.
    Never,
}

/// What is known of an item before anything is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Stable name.
    pub name: &'static str,
    pub warning: Ignoring,
    pub fails: bool,
    /// What is looked at.
    pub what: &'static str,
    pub why: &'static str,
    /// What mends it, in general; an item says it with names.
    pub remedy: &'static str,
}

/// The item of this name.
#[must_use]
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

const fn fails(
    name: &'static str,
    what: &'static str,
    why: &'static str,
    remedy: &'static str,
) -> Kind {
    Kind { name, warning: Ignoring::None, fails: true, what, why, remedy }
}

const fn warns(
    name: &'static str,
    what: &'static str,
    why: &'static str,
    remedy: &'static str,
) -> Kind {
    Kind { name, warning: Ignoring::May, fails: false, what, why, remedy }
}

const fn either(
    name: &'static str,
    what: &'static str,
    why: &'static str,
    remedy: &'static str,
) -> Kind {
    Kind { name, warning: Ignoring::May, fails: true, what, why, remedy }
}

const fn never(
    name: &'static str,
    what: &'static str,
    why: &'static str,
    remedy: &'static str,
) -> Kind {
    Kind { name, warning: Ignoring::Never, fails: false, what, why, remedy }
}

/// Every item, in the order in which people read them.
pub const KINDS: &[Kind] = &[
    fails(
        "spec",
        "whether the objects, names and filters of the spec can be planned",
        "what cannot be planned cannot be captured",
        "correct the key that is named",
    ),
    fails(
        "mask-key",
        "the key of masked columns, where there are any",
        "without it masked columns could only be written in the clear",
        "set `mask_key` to a secret of 16 bytes or more",
    ),
    fails(
        "source.connectivity",
        "`--connectivity` only: each host by itself, with the time that connecting and one answer take",
        "a host that cannot be reached cannot take over, and a slow one slows everything down",
        "start the host, or correct its address, port, TLS or password",
    ),
    fails(
        "source.settings",
        "settings of the connection, and those of the server that are read",
        "the other items rest on them",
        "correct the setting that is named",
    ),
    fails(
        "source.connection",
        "whether the read-write host answers; from which address we come",
        "nothing else of the source can be looked at; address lists and firewalls need the address",
        "start the server, or correct `source.hosts`, `source.user`, `source.password`, pg_hba.conf",
    ),
    either(
        "source.version",
        "the version; whether it is PolarDB",
        "older servers than 11 have no means that we need; the tests run on 11 to 18",
        "upgrade the server",
    ),
    fails(
        "source.streaming",
        "where `source.streaming: on` is set: whether the server can send transactions in progress",
        "PostgreSQL 14 was the first to",
        "upgrade the server, or set `source.streaming: off`",
    ),
    fails(
        "source.wal-level",
        "`wal_level`",
        "only `logical` writes into the WAL what logical decoding needs",
        "ALTER SYSTEM SET wal_level = logical; then restart the server",
    ),
    either(
        "source.encoding",
        "the encoding of the database",
        "a database without an encoding can hold bytes that are no text, which would stop the stream",
        "set `source.sql_ascii`, or move the data to a database with an encoding",
    ),
    warns(
        "source.wal-retention",
        "`max_slot_wal_keep_size`, `idle_replication_slot_timeout`",
        "a task that stands still for longer than these allow loses its slot and must be seeded again",
        "ALTER SYSTEM SET max_slot_wal_keep_size = …; SELECT pg_reload_conf();",
    ),
    warns(
        "source.wal-headroom",
        "how much WAL lies on the disk, how much of it is kept for slots, how near our slot is to its end",
        "a slot that passes the limit is lost; without a limit the WAL fills the disk",
        "start the task soon, or raise max_slot_wal_keep_size",
    ),
    warns(
        "source.sender-timeout",
        "`wal_sender_timeout`",
        "too short: a slow moment ends the stream; 0: a connection that was cut holds the slot",
        "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
    ),
    either(
        "source.failover",
        "failover slots, and the standbys that they wait for",
        "after a switchover the slot may be gone or behind what was delivered",
        "PostgreSQL 17 or later, `source.slot_failover: auto`, `synchronized_standby_slots`",
    ),
    warns(
        "source.long-transactions",
        "transactions and prepared transactions that have been open for more than five minutes",
        "a new slot waits for those that write, and the server keeps WAL from their beginning on",
        "end them: SELECT pg_terminate_backend(pid); ROLLBACK PREPARED '…';",
    ),
    fails(
        "source.slots",
        "`max_replication_slots`, and how many are taken",
        "the task needs one slot for each of its streams",
        "drop a slot that nobody needs, or ALTER SYSTEM SET max_replication_slots = …; restart",
    ),
    either(
        "source.slot",
        "the slot of the task's name: whose it is, whether it is in use, whether it is lost",
        "a slot has one reader; one that is lost can never be read again",
        "another name of the task, end the other reader, or --reseed",
    ),
    warns(
        "source.orphaned-slots",
        "slots of this database with our prefix that nobody reads and that are not the task's",
        "the server keeps WAL for each of them, until the disk is full",
        "SELECT pg_drop_replication_slot('…'); for those of tasks that are gone",
    ),
    fails(
        "source.senders",
        "`max_wal_senders`, and how many are taken",
        "each stream needs one walsender",
        "ALTER SYSTEM SET max_wal_senders = …; then restart the server",
    ),
    fails(
        "source.role",
        "whether the role may replicate",
        "without it there is no slot and no stream",
        "ALTER ROLE … REPLICATION;",
    ),
    either(
        "source.streams",
        "with several `source.streams`: whether the server publishes partition trees as a whole; what is given up",
        "each stream is read on its own: the order over tables is not kept, and source transactions come in parts",
        "set `source.streams: 1` where consumers rely on that order, or the server is older than PostgreSQL 13",
    ),
    fails(
        "source.replication",
        "a replication connection: whether it opens, whether it and the SQL connections reach one server \
         and each a process of its own",
        "a pooler mixes sessions, a load balancer mixes servers: position, snapshot and rows would not be \
         of one history",
        "name the servers themselves in `source.hosts`",
    ),
    either(
        "source.standby",
        "where `source.read_from: standby` is set: the standby's version, `wal_level`, `hot_standby_feedback` and \
         `primary_slot_name`, and EXECUTE on `pg_log_standby_snapshot()` at the primary",
        "standbys older than 16 have no logical slots; a slot is lost once the primary removes old catalog rows that \
         it needs; an idle primary does not write what a new slot waits for",
        "the setting or GRANT that is printed, or `source.read_from: primary`",
    ),
    either(
        "source.ddl",
        "whether event triggers and their helper objects can be made, or are there",
        "without them DDL statements are inferred from the rows as far as these tell them, and new tables are not seen at once",
        "run the task once as a superuser, or set `source.ddl: off`",
    ),
    either(
        "source.tables",
        "what the objects of the spec select: tables, and what cannot be captured (views, foreign, unlogged and \
         temporary tables, tables of extensions, TimescaleDB)",
        "rows of what is not published never arrive",
        "correct `objects`; ALTER TABLE … SET LOGGED",
    ),
    warns(
        "source.partitions",
        "partitioned tables, and whether later partitions come along",
        "rows of a partition that is not published never arrive",
        "PostgreSQL 13 or later and `partition_names: parent`, or --reseed after a partition was added",
    ),
    warns(
        "source.inheritance",
        "tables that inherit from captured ones and are not captured, in other schemas too",
        "a query of the parent shows their rows, its topic does not",
        "select them as well",
    ),
    warns(
        "source.keys",
        "tables without a primary key",
        "their records have no key: no order by key, no compaction",
        "ALTER TABLE … ADD PRIMARY KEY (…), or `partition_key`",
    ),
    fails(
        "source.rights",
        "USAGE of schemas, SELECT of tables, ownership of tables and publication",
        "what may not be read cannot be copied, what may not be published does not arrive",
        "the GRANT, ALTER TABLE or CREATE PUBLICATION that is printed",
    ),
    either(
        "source.identity",
        "the replica identity of each table, and virtual generated columns",
        "without one users cannot update or delete; other than FULL, old rows are not whole",
        "ALTER TABLE ONLY … REPLICA IDENTITY FULL;",
    ),
    fails(
        "source.publications",
        "publications of others with column lists or without generated columns",
        "with REPLICA IDENTITY FULL users could not update these tables any more",
        "let these publications send all columns, or set `source.replica_identity: keep`",
    ),
    warns(
        "source.generated-columns",
        "generated columns that the server does not publish",
        "consumers do not see them",
        "make them STORED on PostgreSQL 18 or later, or let consumers compute them",
    ),
    warns(
        "source.large-rows",
        "tables with REPLICA IDENTITY FULL whose large values take 256 MiB or more",
        "a change of 1 GiB, old and new row together, cannot be sent by the server, and the slot would stand still",
        "`source.replica_identity: keep` and an identity by key for these tables",
    ),
    fails(
        "source.row-security",
        "row security that hides rows from the role",
        "hidden rows would be missing in the copy, in silence",
        "ALTER ROLE … BYPASSRLS;",
    ),
    fails(
        "objects.plan",
        "whether each table can be written as the spec asks: topic names, `partition_key`, `columns`, `where`",
        "a table that cannot be written parks the task at its first row",
        "correct the object of the spec, or the table",
    ),
    warns(
        "source.publication_filters",
        "objects with `publication_filter`: servers before 15 have no row filters",
        "their conditions are judged here only, and all rows come over the network",
        "leave out `publication_filter`, or upgrade the server",
    ),
    fails(
        "objects.topics",
        "tables that would meet in one topic, topics that differ in `.` and `_` only",
        "rows of two tables would mix; brokers refuse the second of such topics",
        "`topic` in an object for each table",
    ),
    warns(
        "format.unchanged-values",
        "formats whose readers take a missing large value for null",
        "Flink would wipe values that did not change",
        "`source.replica_identity: full`",
    ),
    fails(
        "format.key",
        "formats without a key, into compacted topics",
        "compacted topics refuse records without a key",
        "`sink.format_options.message_key: columns`",
    ),
    fails(
        "sink.settings",
        "settings of the connection to Kafka",
        "the other items rest on them",
        "correct the setting that is named",
    ),
    fails(
        "sink.connectivity",
        "`--connectivity` only: each broker by itself, with the time that name, connection, login and one \
         answer take, and our address there; the registry",
        "a broker that cannot be reached cannot lead a partition",
        "start it, open the way to it, or correct address, TLS or password",
    ),
    fails(
        "sink.properties",
        "`sink.properties`",
        "some properties load code, log secrets or break the rules of delivery",
        "take them out",
    ),
    either(
        "sink.registry",
        "whether the schema registry answers and lets us in, and whether a password goes over it unencrypted",
        "formats with schemas cannot write a record without it",
        "correct `sink.registry`; https",
    ),
    either(
        "sink.registry.compatibility",
        "whether the registry takes the schemas of the tables",
        "the task parks before the first row of a schema that is refused",
        "undo the change of the table, or let the subject take it",
    ),
    fails(
        "sink.connection",
        "whether the brokers answer",
        "nothing else of the sink can be looked at",
        "start the brokers, or correct `sink.brokers` and `sink.security`",
    ),
    either(
        "sink.broker-version",
        "the version of the brokers",
        "exactly-once needs 3.6.1: older ones let a late write into a later transaction",
        "upgrade, or `sink.delivery: at-least-once`",
    ),
    fails(
        "sink.transaction-timeout",
        "`transaction.max.timeout.ms` of the brokers",
        "brokers refuse the time-out of our transactions, and with it every lane",
        "transaction.max.timeout.ms of 30000 or more in server.properties; then restart the brokers",
    ),
    either(
        "sink.authorization",
        "where the brokers have an authorizer: creating topics, writing to those that exist, reading and writing the topic of \
         checkpoints where it exists, transactional ids. Nothing is written for it. Rights on groups are not needed: no consumer group is joined",
        "a lane that may not write parks the task after everything else was made",
        "the `kafka-acls.sh --add` that is printed",
    ),
    fails(
        "sink.internal-topics",
        "the topic of checkpoints",
        "with wrong settings checkpoints can be lost, and with them the guarantee",
        "set the topic right, or use another `sink.state_prefix`",
    ),
    fails(
        "sink.topics",
        "whether the topics exist or can be made: the brokers are asked without making them",
        "rows without a topic cannot be written",
        "create them, or `sync.schema: true`; correct `sink.topic_config` and `replication_factor`",
    ),
    warns(
        "sink.topic-partitions",
        "partitions of topics that exist",
        "what is there is used, also where the spec says something else",
        "correct `partitions`",
    ),
    fails(
        "sink.conflicting-topics",
        "topics that hold data of others",
        "consumers could not tell their records from ours",
        "other topics, empty ones, or `sink.conflicting_topics: ignore`",
    ),
    warns(
        "sink.message-size",
        "`max.message.bytes` of topics that exist",
        "a larger row parks the task",
        "raise it, or set `sink.oversize`",
    ),
    fails(
        "sink.oversize",
        "compacted topics with `sink.oversize: chunk`",
        "compaction keeps the last part of a record only",
        "`cleanup.policy: delete`, or another `sink.oversize`",
    ),
    never(
        "sink.in-sync",
        "`min.insync.replicas` of topics that exist, and how many copies are in step now",
        "brokers refuse records with `acks: all` while there are too few: the task could only wait",
        "start the brokers that are down, or lower min.insync.replicas of the topic",
    ),
    warns(
        "sink.unclean-election",
        "`unclean.leader.election.enable` of topics that exist, and of the brokers",
        "an out-of-date broker may become leader, and what was acknowledged is gone",
        "set it to false",
    ),
    warns(
        "sink.replication",
        "brokers, copies of topics, `min.insync.replicas`",
        "one lost broker can lose what was acknowledged",
        "three brokers, replication factor 3, min.insync.replicas 2",
    ),
    warns(
        "sink.space",
        "an estimate of what the copy of the tables takes in Kafka, against `retention.bytes` and `retention.ms`",
        "what is deleted by retention before a consumer has read it is never seen",
        "raise retention.bytes of the topic, or compact it",
    ),
    fails(
        "sink.dead-letter-topic",
        "the topic of records that cannot be written, where the spec asks for one",
        "without it a record that cannot be written has no place",
        "make it, or `sync.schema: true`; a name of its own",
    ),
    fails(
        "sink.check",
        "whether the check of the sink came to its end",
        "what was not looked at is not known",
        "run it again with --log-level debug",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn names_are_there_once_and_say_whose_they_are() {
        let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for kind in KINDS {
            assert!(kind.fails || kind.warning != Ignoring::None, "{} always passes", kind.name);
        }
    }

    /// What tests say, in the folder and below.
    fn tested(folder: &Path, is_test: bool, text: &mut String) {
        let entries = std::fs::read_dir(folder).expect("a folder of the sources");
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                tested(&path, is_test || name == "tests", text);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let source = std::fs::read_to_string(&path).expect("UTF-8");
                let own = source.split_once("#[cfg(test)]").map_or("", |it| it.1);
                text.push_str(if is_test { &source } else { own });
            }
        }
    }

    #[test]
    fn each_is_named_by_a_test() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut text = String::new();
        tested(&root.join("crates"), false, &mut text);
        tested(&root.join("tests"), true, &mut text);
        let is_untested = |kind: &&Kind| !text.contains(&format!("\"{}\"", kind.name));
        let untested: Vec<_> = KINDS.iter().filter(is_untested).map(|kind| kind.name).collect();
        assert!(untested.is_empty(), "no test makes these fail and pass: {untested:?}");
    }

    fn documented() -> String {
        let mut text = String::from(
            "# The precheck\n\n\
             `distributary check TASK.yaml` looks at everything below and writes nothing; `run` and `task start` do \
             the same first. A task starts when every item passes or is a warning that may be ignored: starting \
             accepts it, `check --ignore ITEM` marks it as known. Each item that does not pass says what was seen, \
             why it matters and what mends it, with the names filled in; `-o json` and `-o yaml` have the same for \
             programs (`name`, `state`, `ignorable`, `ignored`, `seen`, `why`, `remedy`).\n\n\
             A server that does not answer when a task starts is asked again for as long as `retry.connection` says.\n\n\
             Made from `crates/config/src/precheck/catalog.rs` by `UPDATE=1 cargo test -p config documents_itself`.\n\n\
             | Item | Besides `pass` | What is looked at | Why it matters | What mends it |\n\
             |---|---|---|---|---|\n",
        );
        for kind in KINDS {
            let warning = match kind.warning {
                Ignoring::None => None,
                Ignoring::May => Some("warning"),
                Ignoring::Never => Some("warning, cannot be ignored"),
            };
            let states: Vec<_> = warning.into_iter().chain(kind.fails.then_some("fail")).collect();
            let Kind { name, what, why, remedy, .. } = kind;
            let states = states.join(", ");
            text.push_str(&format!("| `{name}` | {states} | {what} | {why} | {remedy} |\n"));
        }
        text
    }

    #[test]
    fn documents_itself() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/precheck.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, documented()).expect("docs/precheck.md can be written");
        }
        let text = std::fs::read_to_string(&path).expect("docs/precheck.md");
        assert!(text == documented(), "docs/precheck.md is not as the code: run with UPDATE=1");
    }
}
