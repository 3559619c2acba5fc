//! Slots that are made over a replication connection.

use crate::ground::{Ground, SOON, runtime, servers};
use postgres::replication::Replication;
use std::thread;
use std::time::Duration;
use tests::deadline::await_true;

#[test]
fn a_new_slot_exports_what_committed_before_it() {
    for server in servers() {
        let mut ground = Ground::new(server);
        ground.sql.run("INSERT INTO t VALUES (1, 'before')");
        let mut replication = ground.replication();
        let failover = 17 <= ground.version;
        let created = ground.wait(replication.create_slot(&ground.name, failover, false));
        let created = created.expect("a slot");
        ground.sql.run("INSERT INTO t VALUES (2, 'after')");
        let seen = ground.sql.value(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'; \
             SELECT string_agg(body, ',') FROM t",
            created.snapshot
        ));
        assert_eq!(seen, "before", "{server}");
        ground.sql.run("COMMIT");
        assert_eq!(created.consistent_point, ground.confirmed(), "{server}");
        if failover {
            assert_eq!(ground.slot("failover"), "t", "{server}");
        }
        assert_eq!(ground.slot("temporary"), "f", "{server}");
        assert_eq!(ground.slot("plugin"), "pgoutput", "{server}");
    }
}

#[test]
fn a_temporary_slot_ends_with_its_connection() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let mut replication = ground.replication();
        ground.wait(replication.create_slot(&ground.name, false, true)).expect("a slot");
        assert_eq!(ground.slot("count(*)"), "1");
        drop(replication);
        await_true("no slot", SOON, || ground.slot("count(*)") == "0");
    }
}

#[test]
fn limits_of_the_database_do_not_end_a_slot_in_the_making() {
    let beyond_the_limits = Duration::from_millis(900);
    for server in servers() {
        let mut ground = Ground::new(server);
        // The slot waits for whoever writes at that moment.
        ground.sql.run("BEGIN; INSERT INTO t VALUES (1)");
        let limits = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
        let later = [("idle_session_timeout", 14), ("transaction_timeout", 17)];
        let limits = limits.map(|limit| (limit, 11)).into_iter().chain(later);
        for (limit, since) in limits {
            if since <= ground.version {
                ground.set(&format!("{limit} = '300ms'"));
            }
        }
        let (settings, name) = (ground.settings(), ground.name.clone());
        let creating = thread::spawn(move || {
            runtime().block_on(async {
                let mut replication = Replication::connect(&settings).await?;
                let created = replication.create_slot(&name, false, false).await?;
                Ok::<_, postgres::Error>((replication, created))
            })
        });
        await_true("a slot in the making", SOON, || ground.slot("count(*)") == "1");
        thread::sleep(beyond_the_limits);
        ground.sql.run("COMMIT");
        let (_replication, created) = creating.join().expect("no panic").expect("a slot");
        thread::sleep(beyond_the_limits);
        ground.sql.run(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'; COMMIT",
            created.snapshot
        ));
    }
}
