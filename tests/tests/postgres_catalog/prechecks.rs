//! The precheck: each item passing and failing, and what the remedies are worth.

use crate::ground::{Ground, servers};
use config::precheck::{Ignoring, Item, State, kind};
use postgres::catalog::Candidate;
use postgres::precheck::{check, connectivity, long_transactions};
use postgres::replication::Replication;
use record::selection::Selection;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tests::deadline::await_true;
use tests::seed::unique;
use tests::servers::Server;
use tests::site::free_address;
use tests::sql::{PASSWORD, ROLE, Sql, quoted};
use tests::task::Spec;

/// Major versions that brought column lists of publications, and generated columns of either kind.
const COLUMN_LISTS_SINCE: u32 = 15;
const GENERATED_SINCE: u32 = 12;
const VIRTUAL_SINCE: u32 = 18;

const ALL: [&str; 26] = [
    "source.connection",
    "source.version",
    "source.wal-level",
    "source.encoding",
    "source.wal-retention",
    "source.sender-timeout",
    "source.failover",
    "source.long-transactions",
    "source.slots",
    "source.slot",
    "source.wal-headroom",
    "source.orphaned-slots",
    "source.senders",
    "source.role",
    "source.replication",
    "source.ddl",
    "source.tables",
    "source.partitions",
    "source.inheritance",
    "source.keys",
    "source.rights",
    "source.identity",
    "source.publications",
    "source.generated-columns",
    "source.large-rows",
    "source.row-security",
];

fn checked(ground: &Ground, spec: &Spec) -> (Vec<Item>, Vec<Candidate>) {
    let task = ground.task(spec);
    let selection = Selection::new(&task).expect("patterns");
    ground.wait(check(&ground.settings(spec), &task, &selection))
}

#[track_caller]
fn one(ground: &Ground, spec: &Spec, name: &str) -> Item {
    let (items, _) = checked(ground, spec);
    let found = items.iter().find(|item| item.name == name).cloned();
    found.unwrap_or_else(|| panic!("no item {name}: {items:#?}"))
}

/// The item came out so, names all words, and has a remedy unless it passed.
#[track_caller]
fn expect(item: &Item, state: State, words: &[&str]) {
    assert_eq!(item.state, state, "{item:#?}");
    for word in words {
        let said = item.seen.contains(word) || item.remedy.contains(word);
        assert!(said, "`{word}` is not said: {item:#?}");
    }
    assert_eq!(item.remedy.is_empty(), state == State::Pass, "{item:#?}");
    assert_eq!(item.why.is_empty(), state == State::Pass, "{item:#?}");
    let kind = kind(&item.name).unwrap_or_else(|| panic!("not in the catalog: {item:#?}"));
    match state {
        State::Pass => {}
        State::Warning => assert_ne!(kind.warning, Ignoring::None, "{item:#?}"),
        State::Fail => assert!(kind.fails, "{item:#?}"),
    }
}

/// A role that may log in, and nothing else. Removed in the end; must outlive the database.
struct Role {
    server: Server,
    name: String,
}

impl Role {
    fn new(server: &str) -> Self {
        let server = Server::start(server);
        let name = format!("Role_{}", unique());
        Sql::superuser(&server, "postgres")
            .run(&format!("CREATE ROLE {} LOGIN PASSWORD '{PASSWORD}'", quoted(&name)));
        Self { server, name }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let drop = format!("DROP ROLE {}", quoted(&self.name));
        // What is left of it hurts nobody; a second panic would hide the first.
        let _ = Sql::superuser(&self.server, "postgres").attempt(&drop);
    }
}

#[test]
fn a_database_as_it_should_be_passes_and_stays_as_it_is() {
    for server in servers() {
        let mut ground = Ground::new("pre_good", server);
        ground.sql.run(
            "CREATE TABLE one (id int PRIMARY KEY, note text); \
             CREATE SCHEMA \"Other\"; CREATE TABLE \"Other\".\"Two\" (id int PRIMARY KEY)",
        );
        let before = traces(&mut ground);
        // Event triggers want a superuser.
        let (items, tables) = checked(&ground, &ground.spec().source("ddl: off"));
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ALL, "{server}");
        for item in &items {
            assert_eq!(item.state, State::Pass, "{server}: {item:#?}");
        }
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["Two", "one"], "{server}");
        assert_eq!(traces(&mut ground), before, "{server}");
    }
}

#[test]
fn statements_are_captured_where_the_role_may_create_event_triggers() {
    let ground = Ground::new("pre_ddl", "postgres-15");
    let item = one(&ground, &ground.spec(), "source.ddl");
    expect(&item, State::Warning, &["event triggers", "superuser", "ddl: off"]);
    let item = one(&ground, &ground.spec().source("ddl: messages"), "source.ddl");
    expect(&item, State::Fail, &["event triggers"]);
    let item = one(&ground, &ground.spec().user("postgres", None), "source.ddl");
    expect(&item, State::Pass, &["logical messages"]);
    let spec = ground.spec().user("postgres", None).sink("format: debezium-avro");
    let item = one(&ground, &spec.sink("registry: {url: 'http://127.0.0.1:1'}"), "source.ddl");
    expect(&item, State::Pass, &["logical messages"]);
}

/// What a task would change.
fn traces(ground: &mut Ground) -> Vec<String> {
    let queries = [
        "SELECT count(*) FROM pg_publication",
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()",
        "SELECT string_agg(relname || relreplident::text, ' ' ORDER BY relname) FROM pg_class \
         WHERE relkind = 'r' AND relnamespace <> 'pg_catalog'::regnamespace",
        "SELECT count(*) FROM pg_class",
    ];
    queries.map(|query| ground.admin.value(query)).into()
}

#[test]
fn missing_rights_are_named_and_their_statements_mend_them() {
    for server in servers() {
        let role = Role::new(server);
        let mut ground = Ground::new("pre_rights", server);
        ground.admin.run(
            "CREATE SCHEMA \"S\"; CREATE TABLE \"S\".\"T\" (id int PRIMARY KEY); \
             CREATE TABLE \"S\".parted (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE \"S\".part PARTITION OF \"S\".parted DEFAULT",
        );
        let spec = ground.spec().user(&role.name, Some(PASSWORD));
        let item = one(&ground, &spec, "source.role");
        expect(&item, State::Fail, &["may not replicate", "ALTER ROLE"]);
        ground.admin.run(&item.remedy);
        expect(&one(&ground, &spec, "source.role"), State::Pass, &[]);

        let item = one(&ground, &spec, "source.rights");
        let words = [role.name.as_str(), "GRANT USAGE", "GRANT SELECT", "\"S\".\"T\""];
        expect(&item, State::Fail, &words);
        ground.admin.run(&item.remedy);
        expect(&one(&ground, &spec, "source.rights"), State::Pass, &[]);
        let (items, tables) = checked(&ground, &spec);
        assert!(items.iter().all(|item| item.state != State::Fail), "{server}: {items:#?}");

        // It passed, so the task can do what it must: all that it would change is there already.
        let session = ground.session_of(&spec);
        let is_read = |it: &&Candidate| {
            if ground.version < 13 { it.name != "parted" } else { it.name != "part" }
        };
        let published: Vec<(u32, String, String)> = tables
            .iter()
            .filter(is_read)
            .map(|it| (it.oid, it.schema.clone(), it.name.clone()))
            .collect();
        assert_eq!(published.len(), 2, "{server}: {tables:#?}");
        let slot = format!("distributary_{}", ground.name);
        ground.wait(session.ensure_publication(&slot, &published, true, true)).expect(server);
        for table in &tables {
            let set = ground.wait(session.set_identity_full(&table.schema, &table.name));
            assert!(!set.expect(server), "{server}: {table:?} is not FULL");
        }
        for (_, schema, name) in &published {
            let count = format!("SELECT count(*) FROM \"{schema}\".\"{name}\"");
            ground.wait(session.client().batch_execute(&count)).expect(server);
        }
    }
}

#[test]
fn the_owner_of_the_database_may_not_do_everything() {
    let mut ground = Ground::new("pre_owner", "postgres-15");
    ground.sql.run("CREATE TABLE mine (id int PRIMARY KEY)");
    ground.admin.run("CREATE TABLE theirs (id int PRIMARY KEY)");
    let spec = ground.spec();
    let item = one(&ground, &spec, "source.rights");
    expect(&item, State::Fail, &["theirs", "REPLICA IDENTITY FULL", "PUBLICATION"]);
    ground.admin.run(&item.remedy);
    expect(&one(&ground, &spec, "source.rights"), State::Pass, &[]);
}

#[test]
fn tables_that_cannot_be_captured() {
    for server in servers() {
        let mut ground = Ground::new("pre_tables", server);
        ground.sql.run(
            "CREATE TABLE good (id int PRIMARY KEY); CREATE UNLOGGED TABLE quick (id int PRIMARY KEY); \
             CREATE VIEW seen AS SELECT * FROM good; \
             CREATE MATERIALIZED VIEW kept AS SELECT * FROM good",
        );
        let spec = ground.spec();
        let item = one(&ground, &spec, "source.tables");
        expect(
            &item,
            State::Warning,
            &["1 tables", "public.quick", "public.seen (view)", "public.kept (materialized view)"],
        );
        for name in ["seen", "kept", "quick"] {
            let pattern = format!("{{table: public.{name}}}");
            let spec = ground.spec().objects(&["{table: public.good}", &pattern]);
            expect(&one(&ground, &spec, "source.tables"), State::Fail, &[name]);
        }
        let spec = ground.spec().objects(&["{table: public.good}", "{table: public.quick}"]);
        let item = one(&ground, &spec, "source.tables");
        let statement = item.remedy.as_str();
        assert!(statement.contains("SET LOGGED"), "{item:#?}");
        ground.admin.run(statement);
        expect(&one(&ground, &spec, "source.tables"), State::Pass, &["2 tables"]);

        let spec = ground.spec().objects(&["{table: no_such.*}"]);
        expect(&one(&ground, &spec, "source.tables"), State::Fail, &["no_such.*"]);
        let spec = ground.spec().objects(&["{table: public.good}", "{table: no_such.*}"]);
        expect(&one(&ground, &spec, "source.tables"), State::Warning, &["no_such.*"]);
        let hidden = ["{table: \"*.*\", exclude: true}", "{table: public.good}"];
        let spec = ground.spec().objects(&hidden);
        expect(&one(&ground, &spec, "source.tables"), State::Fail, &["nothing to capture"]);
    }
}

#[test]
fn objects_of_extensions_are_named_when_they_are_selected() {
    let mut ground = Ground::new("pre_ext", "postgres-15");
    ground.sql.run("CREATE TABLE good (id int PRIMARY KEY)");
    ground.admin.run(
        "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION file_fdw; \
         CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; \
         CREATE FOREIGN TABLE away (id int) SERVER files OPTIONS (filename '/dev/null')",
    );
    let item = one(&ground, &ground.spec(), "source.tables");
    expect(
        &item,
        State::Warning,
        &["public.away (foreign table)", "pg_stat_statements (of extension pg_stat_statements)"],
    );
    let spec = ground.spec().objects(&["{table: public.good}"]);
    expect(&one(&ground, &spec, "source.tables"), State::Pass, &["1 tables"]);
}

#[test]
fn keys_partitions_and_inheritance() {
    for server in servers() {
        let mut ground = Ground::new("pre_keys", server);
        ground.sql.run(
            "CREATE TABLE keyless (n int); CREATE TABLE parent (id int PRIMARY KEY); \
             CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent); \
             CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE part PARTITION OF parted DEFAULT",
        );
        let spec = ground.spec();
        expect(&one(&ground, &spec, "source.keys"), State::Warning, &["public.keyless"]);
        expect(&one(&ground, &spec, "source.inheritance"), State::Pass, &[]);
        let state = if ground.version < 13 { State::Warning } else { State::Pass };
        expect(&one(&ground, &spec, "source.partitions"), state, &["1 partitioned"]);
        if 13 <= ground.version {
            ground.sql.run("CREATE TABLE bare_tree (n int) PARTITION BY RANGE (n)");
            let words = ["public.bare_tree", "about a second", "PRIMARY KEY"];
            expect(&one(&ground, &spec, "source.partitions"), State::Warning, &words);
            let kept = ground.spec().source("replica_identity: keep");
            let words = ["public.bare_tree", "cannot update", "PRIMARY KEY"];
            expect(&one(&ground, &kept, "source.partitions"), State::Warning, &words);
            ground.sql.run("DROP TABLE bare_tree");
        }
        let by_child = ground.spec().source("partition_names: child");
        let state = State::Warning;
        expect(&one(&ground, &by_child, "source.partitions"), state, &["when they are seen"]);

        let spec = ground.spec().objects(&["{table: public.parent}"]);
        expect(&one(&ground, &spec, "source.keys"), State::Pass, &[]);
        expect(&one(&ground, &spec, "source.partitions"), State::Pass, &["no partitioned"]);
        let item = one(&ground, &spec, "source.inheritance");
        expect(&item, State::Warning, &["public.child inherits from public.parent"]);
        ground.sql.run(
            "CREATE SCHEMA away; CREATE TABLE away.\"Heir\" (PRIMARY KEY (id)) INHERITS (parent)",
        );
        let spec = ground.spec().objects(&["{table: public.parent}", "{table: public.child}"]);
        let item = one(&ground, &spec, "source.inheritance");
        expect(&item, State::Warning, &["away.\"Heir\" inherits from public.parent"]);
    }
}

#[test]
fn an_identity_that_is_kept_must_be_usable() {
    for server in servers() {
        let mut ground = Ground::new("pre_keep", server);
        ground.sql.run(
            "CREATE TABLE none (n int); CREATE TABLE late (id int PRIMARY KEY DEFERRABLE); \
             CREATE TABLE nothing (id int PRIMARY KEY); \
             ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        );
        let spec = ground.spec().source("replica_identity: keep");
        let item = one(&ground, &spec, "source.identity");
        let words = ["none", "late", "nothing", "REPLICA IDENTITY FULL"];
        expect(&item, State::Fail, &words);
        ground.sql.run(&item.remedy);
        expect(&one(&ground, &spec, "source.identity"), State::Pass, &["FULL"]);

        ground.sql.run("CREATE TABLE usual (id int PRIMARY KEY)");
        let item = one(&ground, &spec, "source.identity");
        expect(&item, State::Warning, &["public.usual", "TOAST"]);
        expect(&one(&ground, &ground.spec(), "source.identity"), State::Pass, &["1 tables"]);
    }
}

/// Whether users could update a row of the table.
fn may_update(ground: &mut Ground, table: &str) -> bool {
    ground.sql.attempt(&format!("UPDATE {table} SET n = n + 1")).is_ok()
}

#[test]
fn rows_that_the_server_might_not_be_able_to_send() {
    const NAME: &str = "source.large-rows";
    let mut ground = Ground::new("pre_large", "postgres-15");
    ground.sql.run(
        "CREATE TABLE t (id int PRIMARY KEY, short varchar(9), \"Long\" bytea); \
         ALTER TABLE t ALTER \"Long\" SET STORAGE EXTERNAL; CREATE TABLE small (id int PRIMARY KEY, v text)",
    );
    let keep = ground.spec().source("replica_identity: keep");
    expect(&one(&ground, &ground.spec(), NAME), State::Pass, &[]);
    ground.sql.run(
        "INSERT INTO t SELECT n, 'a', decode(repeat('00ff', 16777216), 'hex') FROM generate_series(1, 8) n",
    );
    expect(&one(&ground, &ground.spec(), NAME), State::Warning, &["public.t (Long; 2"]);
    // By its key no old row is sent.
    expect(&one(&ground, &keep, NAME), State::Pass, &[]);
    ground.sql.run("ALTER TABLE t REPLICA IDENTITY FULL");
    expect(&one(&ground, &keep, NAME), State::Warning, &["public.t (Long; 2"]);
}

#[test]
fn generated_columns_that_the_server_does_not_publish() {
    for server in servers() {
        let mut ground = Ground::new("pre_generated", server);
        if ground.version < GENERATED_SINCE {
            ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
            expect(&one(&ground, &ground.spec(), "source.generated-columns"), State::Pass, &[]);
            continue;
        }
        ground.sql.run(
            "CREATE TABLE t (id int PRIMARY KEY, n int, \"Twice\" int GENERATED ALWAYS AS (n * 2) STORED)",
        );
        let item = one(&ground, &ground.spec(), "source.generated-columns");
        if ground.version < VIRTUAL_SINCE {
            expect(&item, State::Warning, &["public.t (Twice)"]);
            continue;
        }
        expect(&item, State::Pass, &[]);
        expect(&one(&ground, &ground.spec(), "source.identity"), State::Pass, &[]);
        ground.sql.run(
            "CREATE TABLE v (id int PRIMARY KEY, n int, thrice int GENERATED ALWAYS AS (n * 3)); \
             INSERT INTO v (id, n) VALUES (1, 1)",
        );
        expect(
            &one(&ground, &ground.spec(), "source.identity"),
            State::Fail,
            &["public.v (thrice)"],
        );
        let keep = ground.spec().source("replica_identity: keep");
        expect(&one(&ground, &keep, "source.identity"), State::Warning, &["public.v"]);
        let item = one(&ground, &keep, "source.generated-columns");
        expect(&item, State::Warning, &["public.v (thrice)"]);
        // A user has made it FULL: publishing it is what would stop the updates.
        ground.sql.run("ALTER TABLE v REPLICA IDENTITY FULL");
        assert!(may_update(&mut ground, "v"), "it is not published yet");
        expect(&one(&ground, &keep, "source.identity"), State::Fail, &["public.v (thrice)"]);
        ground
            .sql
            .run("CREATE PUBLICATION p FOR TABLE v WITH (publish_generated_columns = stored)");
        assert!(!may_update(&mut ground, "v"), "the item says what the server does not do");
    }
}

#[test]
fn publications_of_others_that_full_would_collide_with() {
    for server in servers() {
        let mut ground = Ground::new("pre_others", server);
        ground.sql.run(
            "CREATE TABLE t (id int PRIMARY KEY, n int, m int); INSERT INTO t VALUES (1, 1, 1); \
             CREATE PUBLICATION whole FOR TABLE t",
        );
        expect(&one(&ground, &ground.spec(), "source.publications"), State::Pass, &[]);
        if ground.version < COLUMN_LISTS_SINCE {
            continue;
        }
        ground.sql.run("CREATE PUBLICATION part FOR TABLE t (id, n)");
        let item = one(&ground, &ground.spec(), "source.publications");
        expect(&item, State::Fail, &["public.t in part (column list)"]);
        let keep = ground.spec().source("replica_identity: keep");
        expect(&one(&ground, &keep, "source.publications"), State::Pass, &[]);
        assert!(may_update(&mut ground, "t"));
        ground.sql.run("ALTER TABLE t REPLICA IDENTITY FULL");
        assert!(!may_update(&mut ground, "t"), "the item says what the server does not do");
    }
}

#[test]
fn row_security_would_hide_rows() {
    for server in servers() {
        let role = Role::new(server);
        let mut ground = Ground::new("pre_policy", server);
        let user = quoted(&role.name);
        ground.admin.run(&format!(
            "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY few ON t USING (id < 10); GRANT SELECT ON t TO {user}"
        ));
        let spec = ground.spec().user(&role.name, Some(PASSWORD));
        let item = one(&ground, &spec, "source.row-security");
        expect(&item, State::Fail, &["public.t", "BYPASSRLS"]);
        ground.admin.run(&item.remedy);
        expect(&one(&ground, &spec, "source.row-security"), State::Pass, &[]);
    }
}

#[test]
fn a_slot_of_our_name_that_is_not_ours() {
    for server in servers() {
        let mut ground = Ground::new("pre_slot", server);
        ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
        let spec = ground.spec();
        let slot = format!("distributary_{}", ground.name);
        expect(&one(&ground, &spec, "source.slot"), State::Pass, &[&slot, "will be created"]);
        let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
        ground.admin.run(&format!("SELECT pg_create_physical_replication_slot('{slot}')"));
        let item = one(&ground, &spec, "source.slot");
        ground.admin.run(&drop);
        expect(&item, State::Fail, &[&slot, "physical"]);
        let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
        let mut other = Sql::superuser(&ground.server, "postgres");
        other.run(&create);
        let item = one(&ground, &spec, "source.slot");
        other.run(&drop);
        expect(&item, State::Fail, &[&slot, "database postgres"]);
        ground.admin.run(&create);
        let item = one(&ground, &spec, "source.slot");
        ground.admin.run(&drop);
        expect(&item, State::Pass, &[&slot, "free"]);
    }
}

#[test]
fn bytes_without_an_encoding() {
    for server in servers() {
        let options = "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
        let mut ground = Ground::on("pre_ascii", Server::start(server), options);
        ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
        let item = one(&ground, &ground.spec(), "source.encoding");
        expect(&item, State::Fail, &["SQL_ASCII", "source.sql_ascii"]);
        let spec = ground.spec().source("sql_ascii: replace");
        expect(&one(&ground, &spec, "source.encoding"), State::Warning, &["SQL_ASCII"]);
    }
}

#[test]
fn a_server_that_cannot_decode() {
    let server = Server::start_with("postgres-15:badwal", &["wal_level=replica"]);
    let mut ground = Ground::on("pre_wal", server, "");
    ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
    let item = one(&ground, &ground.spec(), "source.wal-level");
    expect(&item, State::Fail, &["replica", "ALTER SYSTEM SET wal_level = logical"]);
}

#[test]
fn a_server_that_does_not_answer_is_one_item() {
    let ground = Ground::new("pre_down", "postgres-15");
    let (items, tables) = checked(&ground, &ground.spec().hosts("127.0.0.1:1"));
    assert_eq!((items.len(), tables.len()), (1, 0), "{items:#?}");
    assert_eq!(items[0].name, "source.connection");
    expect(&items[0], State::Fail, &["127.0.0.1:1"]);
    let (items, _) = checked(&ground, &ground.spec().user("no_such_role", Some("wr0ng-pa55")));
    assert_eq!(items.len(), 1, "{items:#?}");
    expect(&items[0], State::Fail, &["no_such_role"]);
    assert!(!format!("{items:?}").contains("wr0ng-pa55"), "{items:#?}");
}

#[test]
fn each_host_is_tried() {
    let ground = Ground::new("pre_hosts", "postgres-15");
    let hosts = format!("127.0.0.1:1, {}", ground.server.address);
    let spec = ground.spec().hosts(&hosts);
    let items = ground.wait(connectivity(&ground.settings(&spec)));
    let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!(names, ["source.connectivity"; 2]);
    expect(&items[0], State::Fail, &["127.0.0.1:1"]);
    expect(&items[1], State::Pass, &[&ground.server.address, "read-write", " ms"]);
}

#[test]
fn tables_of_timescaledb_and_temporary_ones_are_named() {
    let mut ground = Ground::new("pre_strange", "postgres-15");
    // What the extension has, and nothing more: it is not to be had here.
    ground.admin.run(&format!(
        "CREATE SCHEMA _timescaledb_catalog; CREATE TABLE _timescaledb_catalog.hypertable \
           (schema_name name, table_name name); \
         INSERT INTO _timescaledb_catalog.hypertable VALUES ('public', 'metrics'); \
         GRANT USAGE ON SCHEMA _timescaledb_catalog TO {ROLE}; \
         GRANT SELECT ON _timescaledb_catalog.hypertable TO {ROLE}"
    ));
    ground.sql.run(
        "CREATE TABLE good (id int PRIMARY KEY); CREATE TABLE metrics (id int PRIMARY KEY); \
         CREATE TEMPORARY TABLE passing (id int)",
    );
    let spec = ground.spec().objects(&["{table: public.*}"]);
    let words = ["public.metrics (hypertable of TimescaleDB)"];
    expect(&one(&ground, &spec, "source.tables"), State::Warning, &words);
    let spec = ground.spec().objects(&["{table: public.metrics}"]);
    expect(&one(&ground, &spec, "source.tables"), State::Fail, &words);
    let spec = ground.spec().objects(&["{table: public.good}", "{table: public.passing}"]);
    let item = one(&ground, &spec, "source.tables");
    expect(&item, State::Fail, &["public.passing (temporary table)"]);
    let spec = ground.spec().objects(&["{table: public.good}"]);
    expect(&one(&ground, &spec, "source.tables"), State::Pass, &[]);
}

#[test]
fn polardb_is_told_apart() {
    let mut ground = Ground::new("pre_polar", "postgres-15");
    ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
    let item = one(&ground, &ground.spec(), "source.version");
    expect(&item, State::Pass, &["PostgreSQL 15"]);
    assert!(!item.seen.contains("PolarDB"), "{item:#?}");
    ground.admin.run(
        "SET allow_system_table_mods = on; CREATE FUNCTION pg_catalog.polar_version() RETURNS text \
           LANGUAGE sql AS 'SELECT ''2.0''::text'",
    );
    let item = one(&ground, &ground.spec(), "source.version");
    expect(&item, State::Pass, &["PolarDB for PostgreSQL 15"]);
}

#[test]
fn a_transaction_that_stays_open_is_named() {
    for server in servers() {
        let mut ground = Ground::new("pre_long", server);
        ground.admin.run("CREATE TABLE t (id int); BEGIN; INSERT INTO t VALUES (1)");
        let session = ground.session_of(&ground.spec().user("postgres", None));
        let pid = ground.admin.value("SELECT pg_backend_pid()");
        let found = ground.wait(long_transactions(&session, Duration::ZERO));
        expect(&found, State::Warning, &[&format!("pid {pid} (postgres)"), "end them"]);
        let found = ground.wait(long_transactions(&session, Duration::from_secs(86_400)));
        assert!(!found.seen.contains(&format!("pid {pid} ")), "{found:#?}");
        ground.admin.run("ROLLBACK");
        let found = ground.wait(long_transactions(&session, Duration::ZERO));
        assert!(!found.seen.contains(&format!("pid {pid} ")), "{found:#?}");
    }
}

#[test]
fn slots_of_tasks_that_are_gone() {
    let mut ground = Ground::new("pre_orphan", "postgres-15");
    ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
    let slot = format!("distributary_gone_{}", ground.name);
    ground.admin.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let item = one(&ground, &ground.spec(), "source.orphaned-slots");
    expect(&item, State::Warning, &[&slot, "pg_drop_replication_slot"]);
    let other = ground.spec().source("slot_prefix: another_");
    expect(&one(&ground, &other, "source.orphaned-slots"), State::Pass, &[]);
    let drop = item.remedy.split_once(": ").expect("a statement").1;
    ground.admin.run(drop);
    expect(&one(&ground, &ground.spec(), "source.orphaned-slots"), State::Pass, &[]);
}

#[test]
fn several_hosts_without_what_a_switchover_needs() {
    for server in servers() {
        let mut ground = Ground::new("pre_switch", server);
        ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
        expect(&one(&ground, &ground.spec(), "source.failover"), State::Pass, &[]);
        let hosts = format!("{}, 127.0.0.1:1", ground.server.address);
        let item = one(&ground, &ground.spec().hosts(&hosts), "source.failover");
        let word = if ground.version < 17 { "--reseed" } else { "synchronized_standby_slots" };
        expect(&item, State::Warning, &[word]);
        if ground.version < 17 {
            let wanted = ground.spec().source("slot_failover: on");
            expect(&one(&ground, &wanted, "source.failover"), State::Fail, &["PostgreSQL 17"]);
        }
    }
}

/// A server whose limits are all too low; each item is mended and looked at again.
#[test]
fn a_server_without_room() {
    let settings = [
        "max_slot_wal_keep_size=64MB",
        "min_wal_size=32MB",
        "wal_sender_timeout=1s",
        "max_replication_slots=1",
        "max_wal_senders=1",
    ];
    let server = Server::start_with("postgres-15:tight", &settings);
    let mut ground = Ground::on("pre_tight", server, "");
    let free = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    ground.admin.run(free);
    ground.sql.run("CREATE TABLE t (id int PRIMARY KEY)");
    let spec = ground.spec();
    let words = ["max_slot_wal_keep_size is 64 MiB"];
    expect(&one(&ground, &spec, "source.wal-retention"), State::Warning, &words);
    let item = one(&ground, &spec, "source.sender-timeout");
    expect(&item, State::Warning, &["wal_sender_timeout is 1000 ms"]);
    expect(&one(&ground, &spec, "source.senders"), State::Pass, &["0 of max_wal_senders = 1"]);
    expect(&one(&ground, &spec, "source.slots"), State::Pass, &["0 of max_replication_slots = 1"]);

    let walsender =
        ground.wait(Replication::connect(&ground.settings(&spec))).expect("a walsender");
    expect(
        &one(&ground, &spec, "source.senders"),
        State::Fail,
        &["ALTER SYSTEM SET max_wal_senders"],
    );
    expect(&one(&ground, &spec, "source.replication"), State::Pass, &["no connection is free"]);
    drop(walsender);

    ground.admin.run("SELECT pg_create_physical_replication_slot('taken')");
    expect(&one(&ground, &spec, "source.slots"), State::Fail, &["taken", "max_replication_slots"]);
    ground.admin.run(free);

    let slot = format!("distributary_{}", ground.name);
    ground.admin.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    expect(&one(&ground, &spec, "source.wal-headroom"), State::Pass, &[&slot]);
    // A fifth of 64 MB is the limit: a little less is left, and the slot is still there.
    let left = format!(
        "SELECT safe_wal_size < 10 << 20 FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    for _ in 0..100 {
        if ground.admin.value(&left) == "t" {
            break;
        }
        ground.admin.run(
            "SELECT count(pg_logical_emit_message(false, 'fill', repeat('x', 1 << 20))) \
             FROM generate_series(1, 2)",
        );
    }
    let item = one(&ground, &spec, "source.wal-headroom");
    expect(&item, State::Warning, &[&slot, "is lost", "max_slot_wal_keep_size"]);
    ground.admin.run(free);
    expect(&one(&ground, &spec, "source.wal-headroom"), State::Pass, &[]);
}

/// Stands before two servers and takes turns.
fn balancer(servers: [&Server; 2]) -> String {
    let links = servers.map(|server| server.address.clone());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for (client, target) in listener.incoming().map_while(Result::ok).zip(links.iter().cycle())
        {
            let server = TcpStream::connect(target).expect("the server");
            for (mut from, mut to) in [
                (client.try_clone().expect("a handle"), server.try_clone().expect("a handle")),
                (server, client),
            ] {
                std::thread::spawn(move || {
                    // Whoever ends, ends both ways.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

#[test]
fn a_load_balancer_in_front_is_noticed() {
    let (one_server, other_server) = (Server::start("postgres-14"), Server::start("postgres-15"));
    let ground = Ground::on("pre_balance", one_server.clone(), "");
    let mut twin = Sql::superuser(&other_server, "postgres");
    twin.run(&format!("CREATE DATABASE {} OWNER {ROLE}", quoted(&ground.name)));
    // Each connection is one try: `prefer` would ask for TLS on one of its own.
    let spec =
        ground.spec().hosts(&balancer([&one_server, &other_server])).source("tls: {mode: disable}");
    let item = one(&ground, &spec, "source.replication");
    twin.run(&format!("DROP DATABASE {} WITH (FORCE)", quoted(&ground.name)));
    expect(&item, State::Fail, &["different servers", "load balancer", "source.hosts"]);
    let direct = ground.spec();
    expect(&one(&ground, &direct, "source.replication"), State::Pass, &["directly"]);
}

/// PgBouncer before a server, in the mode that most have it in. Ends when dropped.
struct Pooler {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl Pooler {
    fn start(server: &Server, more: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let address = free_address();
        let (_, own) = address.rsplit_once(':').expect("a port");
        let (host, port) = server.host_and_port();
        let settings = format!(
            "[databases]\n* = host={host} port={port} user={ROLE} password={PASSWORD}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\n{more}\n"
        );
        let path = folder.path().join("pgbouncer.ini");
        std::fs::write(&path, settings).expect("written");
        let mut command = Command::new("/usr/sbin/pgbouncer");
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let started = command.arg(&path).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = started.expect("PgBouncer: apt-get install pgbouncer");
        let pooler = Self { process, address, _folder: folder };
        await_true("PgBouncer", Duration::from_secs(30), || {
            TcpStream::connect(&pooler.address).is_ok()
        });
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_pooler_in_front_is_named() {
    let server = Server::start("postgres-15");
    let ground = Ground::on("pre_pool", server.clone(), "");
    let through =
        |pooler: &Pooler| ground.spec().hosts(&pooler.address).source("tls: {mode: disable}");
    // It refuses what sessions set when they begin.
    let pooler = Pooler::start(&server, "");
    let item = one(&ground, &through(&pooler), "source.connection");
    expect(&item, State::Fail, &["a pooler answers there", "options", "source.hosts"]);
    assert!(!item.may_pass, "trying again is no remedy: {item:?}");
    // It lets that pass, drops it, and refuses a walsender.
    let pooler = Pooler::start(&server, "ignore_startup_parameters = options, extra_float_digits");
    let item = one(&ground, &through(&pooler), "source.replication");
    expect(&item, State::Fail, &["a pooler refuses", "replication", "source.hosts"]);
}

/// The items of a whole precheck, with the servers that the spec names.
fn whole(ground: &Ground, spec: &Spec) -> Vec<Item> {
    let folder = Path::new("/nowhere");
    ground.wait(pipeline::precheck::precheck(&ground.task(spec), folder, false))
}

/// What the spec asks for, against the tables that are there: each item passes or is left out, and fails.
#[test]
fn what_the_spec_asks_for() {
    let mut ground = Ground::new("pre_spec", "postgres-15");
    ground.sql.run(
        "CREATE SCHEMA \"a.b\"; CREATE SCHEMA a; \
         CREATE TABLE \"a.b\".c (id int PRIMARY KEY, note text); \
         CREATE TABLE a.\"b.c\" (id int PRIMARY KEY)",
    );
    let brokers = Server::start("kafka").address;
    let key = "mask_key: 0123456789abcdef";
    let one = |ground: &Ground, object: &str| {
        ground.spec().brokers(&brokers).topic("{task}.{schema}.{table}").objects(&[object])
    };
    let table = |more: &str| format!("{{table: '\"a.b\".c'{more}}}");
    let good = one(&ground, &table(", where: \"id > 1\"")).line(key);
    let items = whole(&ground, &good);
    for name in ["spec", "objects.plan", "objects.topics"] {
        let item = items.iter().find(|it| it.name == name);
        expect(item.unwrap_or_else(|| panic!("no {name}: {items:#?}")), State::Pass, &[]);
    }
    for name in ["mask-key", "format.key", "format.unchanged-values", "sink.oversize"] {
        assert!(items.iter().all(|it| it.name != name), "{items:#?}");
    }
    let compacted = |spec: Spec| spec.sink("topic_config: {cleanup.policy: compact}");
    let mask = ", columns: {mask: {note: hmac-sha256}}";
    let kept = good.clone().source("replica_identity: keep").sink("format: maxwell-json");
    let cases: [(&str, State, Spec, &[&str]); 9] = [
        ("spec", State::Fail, one(&ground, &table(", where: \"id >\"")), &["where"]),
        (
            "objects.plan",
            State::Fail,
            one(&ground, &table(", where: \"no = 1\"")),
            &["a.b.c", "no"],
        ),
        (
            "objects.plan",
            State::Fail,
            one(&ground, &table(", columns: {exclude: [gone]}")),
            &["gone"],
        ),
        // Two names that are one in Kafka.
        ("objects.topics", State::Fail, one(&ground, "{table: \"*.*\"}"), &["a.b.c", "topic"]),
        ("mask-key", State::Fail, one(&ground, &table(mask)).line("mask_key: short"), &["16"]),
        ("mask-key", State::Pass, one(&ground, &table(mask)).line(key), &[]),
        ("format.unchanged-values", State::Warning, kept, &["maxwell-json", "full"]),
        (
            "format.key",
            State::Fail,
            compacted(good.clone().sink("format: shareplex-json")),
            &["message_key"],
        ),
        (
            "sink.oversize",
            State::Fail,
            compacted(good.clone().sink("oversize: chunk")),
            &["cleanup.policy"],
        ),
    ];
    for (name, state, spec, words) in cases {
        let items = whole(&ground, &spec);
        let item = items.iter().find(|it| it.name == name);
        expect(item.unwrap_or_else(|| panic!("no {name}: {items:#?}")), state, words);
    }
    // Settings of a connection that cannot even be tried.
    let files = [
        ("source.settings", good.clone().source("tls: {mode: verify-full, ca: gone.pem}")),
        ("sink.settings", good.sink("security: {protocol: SSL, ca: gone.pem}")),
    ];
    for (name, spec) in files {
        let items = whole(&ground, &spec);
        let item = items.iter().find(|it| it.name == name);
        expect(item.unwrap_or_else(|| panic!("no {name}: {items:#?}")), State::Fail, &["gone.pem"]);
    }
}
