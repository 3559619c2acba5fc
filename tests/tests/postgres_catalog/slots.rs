//! Replication slots.

use crate::ground::{Ground, servers};
use postgres::Error;
use postgres::health::WalStatus;
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tests::deadline::await_true;
use tests::servers::Server;
use wal::Lsn;

const SOON: Duration = Duration::from_secs(60);

/// `pg_recvlogical` on a slot of `test_decoding`.
struct Walsender(Child);

impl Walsender {
    fn attach(ground: &mut Ground, slot: &str, application: &str) -> Self {
        let (host, port) = ground.server.host_and_port();
        let child = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical")
            .args(["--host", host, "--port", &port.to_string(), "--username", "distributary"])
            .args(["--dbname", &ground.name, "--slot", slot, "--start", "--no-loop"])
            .args(["--file", "/dev/null"])
            .env("PGPASSWORD", tests::sql::PASSWORD)
            .env("PGAPPNAME", application)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pg_recvlogical 15 is installed");
        let walsender = Self(child);
        let active = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
        );
        await_true("the walsender", SOON, || ground.admin.value(&active) == "1");
        walsender
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Walsender {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn slots_are_seen_as_they_are() {
    for server in servers() {
        let mut ground = Ground::new("slots", server);
        let session = ground.session();
        let name = ground.name.clone();
        assert_eq!(ground.wait(session.slot(&name)).unwrap(), None);
        ground.admin.run(&format!(
            "SELECT pg_create_logical_replication_slot('{name}', 'test_decoding'); \
             SELECT pg_create_physical_replication_slot('{name}_p', true)"
        ));
        let confirmed = ground.admin.value(&format!(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{name}'"
        ));
        ground.sql.run("CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 20000)");
        let slot = ground.wait(session.slot(&name)).unwrap().expect("a slot");
        assert_eq!(
            (&*slot.name, &*slot.plugin, &*slot.database),
            (&*name, "test_decoding", &*name)
        );
        assert_eq!(slot.confirmed_flush, confirmed.parse::<Lsn>().unwrap());
        assert!(slot.restart_lsn.is_some_and(|lsn| lsn <= slot.confirmed_flush));
        assert!(1_000_000 < slot.retained_bytes, "{slot:?}");
        assert_eq!((slot.active_pid, slot.lost, slot.temporary), (None, false, false));
        let names: Vec<String> =
            ground.wait(session.slots(&name)).unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, [name.clone(), format!("{name}_p")]);
        let physical = ground.wait(session.slot(&format!("{name}_p"))).unwrap().expect("a slot");
        assert_eq!((&*physical.plugin, &*physical.database), ("", ""));
        // A prefix is no pattern.
        assert_eq!(ground.wait(session.slots(&name.replace('_', "%"))).unwrap(), []);
        for slot in [&name, &format!("{name}_p"), &name] {
            ground.wait(session.drop_slot(slot)).unwrap();
        }
        assert_eq!(ground.wait(session.slots(&name)).unwrap(), []);
    }
}

#[test]
fn a_slot_says_how_it_fares() {
    for server in servers() {
        let mut ground = Ground::new("health", server);
        let session = ground.session();
        let name = ground.name.clone();
        assert_eq!(ground.wait(session.slot_health(&name)).unwrap(), None);
        ground
            .admin
            .run(&format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')"));
        ground.sql.run("CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 20000)");
        ground.sql.run("BEGIN; SELECT txid_current()");
        let health = ground.wait(session.slot_health(&name)).unwrap().expect("a slot");
        assert!(1_000_000 < health.retained_bytes, "{health:?}");
        assert_eq!((health.wal, health.keep_bytes_max), (WalStatus::Kept, None));
        assert!(health.oldest.is_some() && health.standbys_missing.is_empty(), "{health:?}");
        ground.sql.run("ROLLBACK");
        ground.wait(session.drop_slot(&name)).unwrap();
    }
}

#[test]
fn a_walsender_is_ended_only_if_it_is_ours() {
    for server in servers() {
        let mut ground = Ground::new("stale", server);
        let session = ground.session();
        let name = ground.name.clone();
        let ours = format!("distributary/it/{name}");
        let error = ground.wait(session.end_stale_walsender(&name, &ours)).unwrap_err();
        assert!(matches!(error, Error::SlotMissing { .. }), "{error}");
        ground
            .admin
            .run(&format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')"));
        ground.wait(session.end_stale_walsender(&name, &ours)).unwrap();

        let mut stranger = Walsender::attach(&mut ground, &name, &format!("{ours}2"));
        let slot = ground.wait(session.slot(&name)).unwrap().expect("a slot");
        assert_eq!(slot.application.as_deref(), Some(&*format!("{ours}2")));
        let error = ground.wait(session.end_stale_walsender(&name, &ours)).unwrap_err();
        let Error::SlotInUse { slot, pid, application } = &error else { panic!("{error}") };
        assert_eq!((slot, application), (&name, &format!("{ours}2")));
        assert!(0 < *pid && stranger.is_alive());
        drop(stranger);
        // The server notices that its client has gone when it next writes or reads.
        let free = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}' AND NOT active"
        );
        await_true("a free slot", SOON, || ground.admin.value(&free) == "1");

        let _stale = Walsender::attach(&mut ground, &name, &ours);
        ground.wait(session.end_stale_walsender(&name, &ours)).unwrap();
        let slot = ground.wait(session.slot(&name)).unwrap().expect("it is kept");
        assert_eq!(slot.active_pid, None, "{server}");
    }
}

#[test]
fn a_slot_in_use_is_not_dropped() {
    let mut ground = Ground::new("used", "postgres-15");
    let session = ground.session();
    let name = ground.name.clone();
    ground
        .admin
        .run(&format!("SELECT pg_create_logical_replication_slot('{name}', 'test_decoding')"));
    let mut stranger = Walsender::attach(&mut ground, &name, "a stranger");
    let error = ground.wait(session.drop_slot(&name)).unwrap_err();
    assert!(
        matches!(&error, Error::SlotInUse { application, .. } if application == "a stranger"),
        "{error}"
    );
    assert!(stranger.is_alive());
    // Whoever leaves is waited for.
    drop(stranger);
    ground.wait(session.drop_slot(&name)).unwrap();
    assert_eq!(ground.wait(session.slot(&name)).unwrap(), None);
}

#[test]
fn a_lost_slot_is_known_as_such() {
    let settings = ["max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=48MB"];
    let server = Server::start_with("postgres-15:keeps1mb", &settings);
    let mut ground = Ground::on("lost", server, "");
    let session = ground.session();
    let name = ground.name.clone();
    ground.admin.run(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"));
    ground.sql.run("CREATE TABLE t (n int)");
    await_true("the loss of the slot", SOON, || {
        ground.sql.run("INSERT INTO t VALUES (1)");
        ground.admin.run("SELECT pg_switch_wal(); CHECKPOINT");
        ground.wait(session.slot(&name)).unwrap().expect("a slot").lost
    });
    let task = ground.task(&ground.spec().source("slot_prefix: ''"));
    let selection = record::selection::Selection::new(&task).unwrap();
    let settings = ground.settings(&ground.spec());
    let (items, _) = ground.wait(postgres::precheck::check(&settings, &task, &selection));
    let item = |name: &str| items.iter().find(|it| it.name == name).expect("the item");
    assert!(item("source.slot").remedy.contains("--reseed"), "{items:?}");
    assert!(item("source.wal-retention").seen.contains("1 MiB"), "{items:?}");
    let server = ground.server.clone();
    drop((session, ground));
    server.order("stop");
}
