//! Publications and replica identities: made, changed, and never at the price of a user's row.

use crate::ground::{Ground, servers};
use postgres::Error;
use std::thread;
use std::time::Duration;
use tests::deadline::await_true;
use tests::sql::{PASSWORD, Sql};

const SOON: Duration = Duration::from_secs(60);

type Named = (u32, String, String);

fn named(ground: &mut Ground, names: &[&str]) -> Vec<Named> {
    names.iter().map(|&name| (ground.oid(name), "public".to_owned(), name.to_owned())).collect()
}

/// Tables that the publication has, by name.
fn published(ground: &mut Ground) -> String {
    ground.admin.value(
        "SELECT string_agg(tablename, ' ' ORDER BY tablename::text COLLATE \"C\") FROM \
         pg_publication_tables WHERE pubname = 'p'",
    )
}

/// Whether somebody waits for a lock in the database.
const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[test]
fn a_publication_is_made_changed_and_dropped() {
    for server in servers() {
        let mut ground = Ground::new("publication", server);
        ground.sql.run(
            "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE \"B \"\"b\"\"\" (id int); CREATE \
             TABLE c (id int); \
             CREATE TABLE heir () INHERITS (a)",
        );
        let session = ground.session();
        assert_eq!(ground.wait(session.publication("p")).unwrap(), None);
        let odd = (ground.oid("\"B \"\"b\"\"\""), "public".to_owned(), "B \"b\"".to_owned());
        let mut tables = named(&mut ground, &["a", "c"]);
        tables.push(odd);
        ground.wait(session.ensure_publication("p", &tables, true, true)).unwrap();
        assert_eq!(published(&mut ground), "B \"b\" a c", "{server}");
        let found = ground.wait(session.publication("p")).unwrap().expect("a publication");
        let mut oids: Vec<u32> = tables.iter().map(|it| it.0).collect();
        oids.sort_unstable();
        assert_eq!(found.tables, oids);
        assert_eq!(found.via_root, 13 <= ground.version);
        let kinds = "SELECT pubinsert AND pubupdate AND pubdelete, pubtruncate FROM pg_publication";
        assert_eq!(ground.admin.rows(kinds), [[Some("t".into()), Some("t".into())]]);
        if 18 <= ground.version {
            let generated = "SELECT pubgencols FROM pg_publication";
            assert_eq!(ground.admin.value(generated), "s", "server fact 10");
        }

        // Nothing to do: nothing is locked, so a table in use does not matter.
        ground.sql.run("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE");
        ground.wait(session.ensure_publication("p", &tables, true, true)).unwrap();
        ground.sql.run("ROLLBACK");

        let tables = named(&mut ground, &["heir", "c"]);
        ground.wait(session.ensure_publication("p", &tables, false, false)).unwrap();
        assert_eq!(published(&mut ground), "c heir", "{server}");
        assert!(!ground.wait(session.publication("p")).unwrap().expect("a publication").via_root);
        assert_eq!(ground.admin.value("SELECT pubtruncate FROM pg_publication"), "f");
        ground.sql.run("DROP TABLE c");
        let tables = named(&mut ground, &["a"]);
        ground.wait(session.ensure_publication("p", &tables, false, false)).unwrap();
        assert_eq!(published(&mut ground), "a", "{server}");

        ground.wait(session.drop_publication("p")).unwrap();
        ground.wait(session.drop_publication("p")).unwrap();
        assert_eq!(ground.wait(session.publication("p")).unwrap(), None);
        ground.wait(session.ensure_publication("p", &[], true, true)).unwrap();
        assert!(ground.wait(session.publication("p")).unwrap().expect("it").tables.is_empty());
    }
}

#[test]
fn a_partition_tree_is_published_under_its_root_or_leaf_by_leaf() {
    for server in servers().into_iter().filter(|it| *it != "postgres-11") {
        let mut ground = Ground::new("tree", server);
        ground.sql.run(
            "CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE leaf PARTITION OF whole FOR VALUES FROM (0) TO (100)",
        );
        let session = ground.session();
        let tables = named(&mut ground, &["whole"]);
        ground.wait(session.ensure_publication("p", &tables, true, true)).unwrap();
        assert_eq!(published(&mut ground), "whole");
        let leaves = named(&mut ground, &["leaf"]);
        ground.wait(session.ensure_publication("p", &leaves, false, true)).unwrap();
        assert_eq!(published(&mut ground), "leaf");
        let found = ground.wait(session.publication("p")).unwrap().expect("a publication");
        assert_eq!(found.tables, [leaves[0].0]);
    }
}

#[test]
fn what_cannot_be_published_is_named() {
    for server in servers() {
        let mut ground = Ground::new("refused", server);
        ground.sql.run("CREATE TABLE a (id int PRIMARY KEY)");
        ground
            .admin
            .run("CREATE TABLE theirs (id int); CREATE PUBLICATION everything FOR ALL TABLES");
        let session = ground.session();
        let tables = named(&mut ground, &["theirs"]);
        let error = ground.wait(session.ensure_publication("p", &tables, true, true)).unwrap_err();
        assert!(matches!(error, Error::NotAuthorized { .. }), "{error}");
        assert!(error.to_string().contains("GRANT \"postgres\" TO \"distributary\""), "{error}");
        let error =
            ground.wait(session.ensure_publication("everything", &tables, true, true)).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let gone = [(1, "public".to_owned(), "no_such".to_owned())];
        let error = ground.wait(session.ensure_publication("p", &gone, true, true)).unwrap_err();
        assert!(matches!(error, Error::TableMissing { .. }), "{error}");
        assert!(error.to_string().contains("public.no_such"), "{error}");
        // Nothing is left behind.
        assert_eq!(ground.wait(session.publication("p")).unwrap(), None, "{server}");
    }
}

#[test]
fn a_table_is_added_only_when_no_writer_is_open() {
    for server in servers() {
        let mut ground = Ground::new("writer", server);
        ground.sql.run("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
        let session = ground.session();
        let one = named(&mut ground, &["a"]);
        let two = named(&mut ground, &["a", "b"]);
        ground.wait(session.ensure_publication("p", &one, true, true)).unwrap();
        let mut writer =
            Sql::connect_as(&ground.server, &ground.name, "distributary", Some(PASSWORD));
        writer.run("BEGIN; INSERT INTO b VALUES (1)");
        let mut watcher = Sql::superuser(&ground.server, &ground.name);
        let committed = thread::spawn(move || {
            await_true("the task at the table", SOON, || watcher.value(WAITING) != "0");
            let during = watcher.value("SELECT count(*) FROM pg_publication_tables");
            writer.run("INSERT INTO b VALUES (2); COMMIT");
            during
        });
        ground.wait(session.ensure_publication("p", &two, true, true)).unwrap();
        assert_eq!(committed.join().expect("the writer is not refused"), "1", "{server}");
        assert_eq!(published(&mut ground), "a b", "{server}");
    }
}

#[test]
fn a_table_that_is_never_free_is_named_and_left_as_it_is() {
    let mut ground = Ground::new("busy", "postgres-15");
    ground.sql.run(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE busy (id int PRIMARY KEY); \
         CREATE TABLE c (id int PRIMARY KEY)",
    );
    let session = ground.session();
    let one = named(&mut ground, &["a"]);
    let all = named(&mut ground, &["a", "c", "busy"]);
    ground.wait(session.ensure_publication("p", &one, true, true)).unwrap();
    ground.sql.run("BEGIN; INSERT INTO busy VALUES (1)");
    let (publication, identity) = ground.wait(async {
        let other = postgres::Session::connect(&ground.settings(&ground.spec())).await.unwrap();
        futures_util::future::join(
            session.ensure_publication("p", &all, true, true),
            other.set_identity_full("public", "busy"),
        )
        .await
    });
    for error in [publication.unwrap_err(), identity.unwrap_err()] {
        assert!(matches!(error, Error::LockTimeout { .. }), "{error}");
        assert!(error.to_string().contains("public.busy"), "{error}");
    }
    ground.sql.run("COMMIT");
    assert_eq!(published(&mut ground), "a c", "what was free was added");
    let identity = "SELECT relreplident FROM pg_class WHERE relname = 'busy'";
    assert_eq!(ground.admin.value(identity), "d");
    // The session is of use: nothing stayed open in it.
    ground.wait(session.ensure_publication("p", &all, true, true)).unwrap();
    assert_eq!(published(&mut ground), "a busy c");
}

#[test]
fn identities_are_set_once_and_on_each_partition() {
    for server in servers() {
        let mut ground = Ground::new("identity", server);
        ground.sql.run(
            "CREATE TABLE \"Pl\"\"ain\" (id int); CREATE TABLE heir () INHERITS (\"Pl\"\"ain\"); \
             CREATE TABLE whole (id int) PARTITION BY RANGE (id); \
             CREATE TABLE leaf PARTITION OF whole FOR VALUES FROM (0) TO (100)",
        );
        ground.admin.run("CREATE TABLE theirs (id int)");
        let session = ground.session();
        for name in ["Pl\"ain", "whole"] {
            assert!(ground.wait(session.set_identity_full("public", name)).unwrap(), "{name}");
            assert!(!ground.wait(session.set_identity_full("public", name)).unwrap(), "{name}");
        }
        let full = "SELECT string_agg(relname, ' ' ORDER BY relname::text COLLATE \"C\") FROM \
                    pg_class WHERE relreplident = 'f'";
        assert_eq!(ground.admin.value(full), "Pl\"ain whole", "{server}");
        assert!(ground.wait(session.set_identity_full("public", "leaf")).unwrap());
        let error = ground.wait(session.set_identity_full("public", "theirs")).unwrap_err();
        assert!(matches!(error, Error::NotAuthorized { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains("ALTER TABLE ONLY \"public\".\"theirs\" REPLICA IDENTITY FULL"),
            "{said}"
        );
        let error = ground.wait(session.set_identity_full("public", "no_such")).unwrap_err();
        assert!(matches!(error, Error::TableMissing { .. }), "{error}");
        // Many at once, as one by one: what cannot be altered is named, and hinders no other.
        ground.sql.run(
            "DO $$ BEGIN FOR n IN 1..70 LOOP \
               EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY)', n); END LOOP; END $$",
        );
        let names: Vec<String> = (1..=70).map(|n| format!("many_{n}")).collect();
        let mut many: Vec<(&str, &str)> = names.iter().map(|it| ("public", &**it)).collect();
        many.push(("public", "theirs"));
        let error = ground.wait(session.set_identities_full(&many)).unwrap_err();
        assert!(error.to_string().contains("\"public\".\"theirs\""), "{error}");
        let set =
            "SELECT count(*) FROM pg_class WHERE relreplident = 'f' AND relname ~ '^many_[0-9]+$'";
        assert_eq!(ground.admin.value(set), "70", "{server}");
        many.pop();
        ground.wait(session.set_identities_full(&many)).unwrap();
        if 18 <= ground.version {
            ground.sql.run(
                "CREATE TABLE v (n int PRIMARY KEY, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL)",
            );
            let error = ground.wait(session.set_identity_full("public", "v")).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains("twice"), "{error}");
        }
    }
}

#[test]
fn a_publication_that_leaves_out_rows_or_columns_is_refused() {
    for server in servers().into_iter().filter(|it| *it >= "postgres-15") {
        let mut ground = Ground::new("narrowed", server);
        ground.sql.run(
            "CREATE TABLE a (id int PRIMARY KEY, n int); \
             CREATE PUBLICATION p FOR TABLE a (id) WHERE (id > 5)",
        );
        let session = ground.session();
        let tables = named(&mut ground, &["a"]);
        let error = ground.wait(session.ensure_publication("p", &tables, true, true)).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("public.a"), "{error}");
    }
}

#[test]
fn a_publication_of_the_administrator_is_used_as_it_is_or_its_statement_is_named() {
    for server in servers() {
        let mut ground = Ground::new("given", server);
        let publication = format!("distributary_{}", ground.name);
        ground.sql.run("CREATE TABLE a (id int PRIMARY KEY)");
        ground.admin.run(&format!(
            "ALTER TABLE a OWNER TO postgres; GRANT SELECT ON a TO distributary; \
             REVOKE CREATE ON DATABASE {name} FROM PUBLIC; ALTER DATABASE {name} OWNER TO \
             postgres; \
             ALTER TABLE a REPLICA IDENTITY FULL; \
             CREATE PUBLICATION {publication} FOR TABLE a WITH (publish = 'insert')",
            name = ground.name
        ));
        let task = ground.task(&ground.spec());
        let selection = record::selection::Selection::new(&task).expect("patterns");
        let settings = ground.settings(&ground.spec());
        let rights = |ground: &Ground| {
            let check = postgres::precheck::check(&settings, &task, &selection);
            let (items, _) = ground.wait(check);
            items.into_iter().find(|it| it.name == "source.rights").expect("the item")
        };
        let item = rights(&ground);
        assert_eq!(item.state, config::precheck::State::Fail, "{item:?}");
        assert!(item.remedy.contains("ALTER PUBLICATION"), "{item:?}");
        let session = ground.session();
        let tables = named(&mut ground, &["a"]);
        let ensured = ground.wait(session.ensure_publication(&publication, &tables, true, true));
        assert!(matches!(ensured, Err(Error::NotAuthorized { .. })), "{ensured:?}");
        // What the item says is all that it takes.
        ground.admin.run(&item.remedy);
        assert_eq!(rights(&ground).state, config::precheck::State::Pass, "{server}");
        ground.wait(session.ensure_publication(&publication, &tables, true, true)).unwrap();
    }
}
