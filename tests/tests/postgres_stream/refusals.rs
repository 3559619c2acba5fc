//! What a server refuses, and that each cause has an error of its own with its remedy.

use crate::ground::{Ground, SOON, servers};
use postgres::Error;
use postgres::replication::Replication;
use tests::deadline::await_true;
use tests::servers::Server;
use tests::sql::{PASSWORD, Sql};
use wal::Lsn;

/// May log in, and no more.
const READER: &str = "stream_reader";

/// The holder has our own name: it may be our walsender of before, which ends by itself.
#[test]
fn a_slot_that_we_hold_ourselves_is_waited_for() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let stream = ground.stream();
        let pid: i32 = ground.slot("active_pid").parse().expect("a process id");
        let refused = ground.start(&ground.options(ground.wal_end())).expect_err("two readers");
        let Error::SlotBusy { slot, pid: named } = refused else { panic!("{server}: {refused}") };
        assert_eq!((slot, named), (ground.name.clone(), pid), "{server}");
        ground.wait(stream.close()).expect("a good end");
    }
}

#[test]
fn a_slot_that_is_missing_or_there_already() {
    for server in servers() {
        let ground = Ground::new(server);
        let refused = ground.start(&ground.options(Lsn(1))).expect_err("no slot");
        assert!(
            matches!(&refused, Error::SlotMissing { slot } if *slot == ground.name),
            "{server}: {refused}"
        );
        ground.create_slot();
        let mut replication = ground.replication();
        let refused = ground.wait(replication.create_slot(&ground.name, false, false));
        let refused = refused.expect_err("the same name");
        assert!(
            matches!(&refused, Error::Server { code, .. } if code == "42710"),
            "{server}: {refused}"
        );
        assert!(refused.to_string().contains("already exists"), "{server}: {refused}");
    }
}

#[test]
fn a_server_without_free_slots() {
    let server = Server::start_with("postgres-15:one-slot", &["max_replication_slots=1"]);
    let ground = Ground::on(server);
    ground.create_slot();
    let mut replication = ground.replication();
    let refused = ground.wait(replication.create_slot("another", false, false)).expect_err("full");
    assert!(matches!(refused, Error::NoFreeSlot { .. }), "{refused}");
    assert!(refused.to_string().contains("max_replication_slots"), "{refused}");
}

#[test]
fn a_server_that_logs_too_little() {
    let server = Server::start_with("postgres-15:replica", &["wal_level=replica"]);
    let ground = Ground::on(server);
    let mut replication = ground.replication();
    let refused = ground.wait(replication.create_slot(&ground.name, false, false));
    let refused = refused.expect_err("wal_level");
    assert!(matches!(refused, Error::WalLevel { .. }), "{refused}");
    assert!(refused.to_string().contains("wal_level = logical"), "{refused}");
}

#[test]
fn a_role_that_may_not_replicate() {
    for server in servers() {
        let ground = Ground::new(server);
        // Another test may make it at this moment.
        Sql::superuser(&ground.server, "postgres").run(&format!(
            "SELECT pg_advisory_lock(7421); SET password_encryption = 'scram-sha-256'; \
             DO $$ BEGIN \
               IF to_regrole('{READER}') IS NULL THEN \
                 CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'; \
               END IF; \
             END $$"
        ));
        let settings = ground.settings_of(READER);
        let refused = ground.wait(Replication::connect(&settings)).expect_err("no right");
        assert!(matches!(refused, Error::NotAuthorized { .. }), "{server}: {refused}");
        assert!(refused.to_string().contains("REPLICATION"), "{server}: {refused}");
        assert!(!refused.is_connection(), "{server}");
    }
}

#[test]
fn failover_of_slots_before_17() {
    let mut ground = Ground::new("postgres-15");
    let mut replication = ground.replication();
    let refused = ground.wait(replication.create_slot(&ground.name, true, false));
    let refused = refused.expect_err("too old");
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    assert_eq!(ground.slot("count(*)"), "0");
}

#[test]
fn a_server_that_is_gone_is_a_lost_connection() {
    let mut ground = Ground::on(Server::start("postgres-15:mortal"));
    let mut stream = ground.stream();
    let at = ground.confirmed();
    ground.server.order("kill");
    let ended = ground.end_of(&mut stream);
    assert!(ended.is_connection(), "{ended}");
    let refused = ground.wait(Replication::connect(&ground.settings())).expect_err("nobody there");
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    assert!(refused.is_connection(), "{refused}");
    ground.reconnect(Server::start("postgres-15:mortal"));
    await_true("a free slot", SOON, || !ground.is_active());
    drop(ground.start(&ground.options(at)).expect("the slot has survived"));
}
