//! Connections to PostgreSQL: TLS, login, and which of several hosts.

mod connection;

use config::TlsMode;
use connection::proxy::Proxy;
use connection::{Ground, VERSIONS, run, tls_folder};
use postgres::replication::Replication;
use postgres::{Error, Session};
use tests::servers::Server;
use tests::sql::PASSWORD;

/// A name of 127.0.0.1 that stands in no certificate.
const OTHER_NAME: &str = "0x7f000001";

/// Both kinds of connection; they must agree.
fn attempt(ground: &Ground) -> Result<(), Error> {
    let settings = ground.settings();
    let (sql, stream) = run(async {
        let sql = Session::connect(&settings).await.map(drop);
        (sql, Replication::connect(&settings).await.map(drop))
    });
    let kinds = (sql.as_ref().err(), stream.as_ref().err());
    match kinds {
        (None, None) => {}
        (Some(a), Some(b)) => {
            assert_eq!(std::mem::discriminant(a), std::mem::discriminant(b), "{a} / {b}");
        }
        (a, b) => panic!("SQL: {a:?}; replication: {b:?}"),
    }
    sql
}

fn is_tls(ground: &Ground) -> bool {
    let settings = ground.settings();
    let statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    run(async {
        let session = Session::connect(&settings).await.expect("a session");
        let row = session.client().query_one(statement, &[]).await.expect("an answer");
        row.get(0)
    })
}

#[test]
fn every_version_lets_an_ordinary_role_in() {
    for name in VERSIONS {
        let ground = Ground::new(name);
        let settings = ground.settings();
        run(async {
            let session = Session::connect(&settings).await.expect("a session");
            let mut replication = Replication::connect(&settings).await.expect("a walsender");
            let identity = replication.identify().await.expect("an identity");
            let server = session.server();
            assert_eq!(server.system_id, identity.system_id, "{name}");
            assert_eq!(server.timeline, identity.timeline, "{name}");
            assert_eq!(name.rsplit('-').next(), Some(&*(server.version / 10_000).to_string()));
            assert_eq!(server.encoding, "UTF8");
            assert!(!server.is_polardb);
            assert!(identity.wal_end <= session.wal_end().await.expect("a position"), "{name}");
        });
    }
}

#[test]
fn the_end_of_the_wal_lies_behind_every_commit() {
    let ground = Ground::new("postgres-15");
    let mut sql = ground.sql();
    sql.run("CREATE TABLE t (n int); SET synchronous_commit = off");
    let settings = ground.settings();
    let runtime = connection::runtime();
    let session = runtime.block_on(Session::connect(&settings)).expect("a session");
    for _ in 0..20 {
        sql.run("INSERT INTO t VALUES (1)");
        let inserted = sql.value("SELECT pg_current_wal_insert_lsn()");
        let end = runtime.block_on(session.wal_end()).expect("a position");
        assert!(inserted.parse::<wal::Lsn>().expect("a position") <= end, "{inserted} {end}");
    }
}

#[test]
fn the_five_modes_of_tls() {
    let ground = Ground::new("postgres-15");
    for (mode, expected) in [
        (TlsMode::Disable, false),
        (TlsMode::Prefer, true),
        (TlsMode::Require, true),
        (TlsMode::VerifyCa, true),
        (TlsMode::VerifyFull, true),
    ] {
        let ground = ground.clone().tls(mode).ca("ca.pem");
        attempt(&ground).unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        assert_eq!(is_tls(&ground), expected, "{mode:?}");
    }
}

#[test]
fn a_certificate_of_a_stranger_is_refused_where_the_chain_counts() {
    let ground = Ground::new("postgres-15").ca("stranger-ca.pem");
    attempt(&ground.clone().tls(TlsMode::Require)).expect("require looks at no certificate");
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let refused = attempt(&ground.clone().tls(mode)).expect_err("a stranger");
        assert!(matches!(refused, Error::Tls { .. }), "{mode:?}: {refused}");
        assert!(!refused.is_connection(), "{refused}");
    }
}

#[test]
fn another_name_is_refused_only_by_verify_full() {
    let ground = Ground::new("postgres-15").ca("ca.pem");
    let (_, port) = ground.server.host_and_port();
    let ground = ground.clone().hosts(&[&format!("{OTHER_NAME}:{port}")]);
    for mode in [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa] {
        attempt(&ground.clone().tls(mode)).unwrap_or_else(|error| panic!("{mode:?}: {error}"));
    }
    let refused = attempt(&ground.tls(TlsMode::VerifyFull)).expect_err("another name");
    assert!(matches!(refused, Error::Tls { .. }), "{refused}");
}

#[test]
fn prefer_goes_with_what_the_server_wants() {
    let ground = Ground::new("postgres-15");
    for (role, expected) in [("tls_only", true), ("plain_only", false)] {
        let ground = ground.clone().role(role);
        assert_eq!(is_tls(&ground.clone().tls(TlsMode::Prefer)), expected, "{role}");
        attempt(&ground.tls(TlsMode::Prefer)).unwrap_or_else(|error| panic!("{role}: {error}"));
    }
    for (role, mode) in [("tls_only", TlsMode::Disable), ("plain_only", TlsMode::Require)] {
        let refused = attempt(&ground.clone().role(role).tls(mode)).expect_err("pg_hba.conf");
        assert!(matches!(refused, Error::Authentication { .. }), "{role}: {refused}");
    }
}

#[test]
fn a_server_without_tls_is_refused_where_it_is_required() {
    let ground = Ground::on(Server::start_with("postgres-15:no-tls", &["ssl=off"]));
    assert!(!is_tls(&ground.clone().tls(TlsMode::Prefer)));
    let refused = attempt(&ground.tls(TlsMode::Require)).expect_err("no TLS there");
    assert!(matches!(refused, Error::Tls { .. }), "{refused}");
}

#[test]
fn a_client_certificate_logs_in() {
    let ground = Ground::new("postgres-15").role("certificate_only").password(None);
    let ground = ground.tls(TlsMode::VerifyFull).ca("ca.pem");
    attempt(&ground.clone().client_certificate("client")).expect("the certificate is the login");
    let refused = attempt(&ground).expect_err("no certificate");
    assert!(matches!(refused, Error::Authentication { .. }), "{refused}");
}

#[test]
fn a_login_is_bound_to_its_channel() {
    let ground = Ground::new("postgres-15").tls(TlsMode::Require);
    let (_, port) = ground.server.host_and_port();
    // The control: who has the server's own key gets through.
    let honest = Proxy::start(&tls_folder(), "server", port);
    attempt(&ground.clone().hosts(&[&honest.address])).expect("the same certificate");
    let between = Proxy::start(&tls_folder(), "stranger-ca", port);
    let refused = attempt(&ground.hosts(&[&between.address])).expect_err("somebody between");
    assert!(refused.to_string().contains("channel binding"), "{refused}");
}

#[test]
fn a_server_that_signs_for_itself_is_trusted_by_name() {
    let ground = Ground::new("postgres-15").ca("stranger-ca.pem");
    let (_, port) = ground.server.host_and_port();
    // It shows the very certificate that is trusted; that it is not the real server the login tells.
    let own = Proxy::start(&tls_folder(), "stranger-ca", port);
    let ground = ground.hosts(&[&own.address]);
    let refused = attempt(&ground.clone().tls(TlsMode::VerifyCa)).expect_err("somebody between");
    assert!(refused.to_string().contains("channel binding"), "{refused}");
    let refused = attempt(&ground.clone().tls(TlsMode::VerifyFull)).expect_err("no such name");
    assert!(matches!(refused, Error::Tls { .. }), "{refused}");
    let refused = attempt(&ground.ca("ca.pem").tls(TlsMode::VerifyCa)).expect_err("a stranger");
    assert!(matches!(refused, Error::Tls { .. }), "{refused}");
}

#[test]
fn logins_that_fail_say_why() {
    let ground = Ground::new("postgres-15");
    for mode in [TlsMode::Disable, TlsMode::Prefer] {
        let ground = ground.clone().tls(mode);
        let refused = attempt(&ground.clone().password(Some("wrong"))).expect_err("a wrong one");
        assert!(matches!(refused, Error::Authentication { .. }), "{refused}");
        assert!(!refused.to_string().contains("wrong"), "{refused}");
        let refused = attempt(&ground.clone().password(None)).expect_err("none");
        assert!(matches!(refused, Error::Authentication { .. }), "{refused}");
        let refused = attempt(&ground.clone().role("nobody")).expect_err("pg_hba.conf");
        assert!(matches!(refused, Error::Authentication { .. }), "{refused}");
        let refused = attempt(&ground.clone().database("no_such")).expect_err("no database");
        assert!(matches!(refused, Error::DatabaseMissing { .. }), "{refused}");
    }
}

#[test]
fn a_password_is_never_given_away() {
    let ground = Ground::new("postgres-15");
    for (role, method) in [("md5_only", "md5"), ("clear_only", "password")] {
        let refused = attempt(&ground.clone().role(role)).expect_err("not like this");
        assert!(matches!(refused, Error::Authentication { .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("`{method}`")), "{refused}");
        assert!(!format!("{refused:?}").contains(&format!("\"{PASSWORD}\"")), "{refused:?}");
    }
}

#[test]
fn the_read_write_one_of_several_hosts_is_found() {
    let primary = Ground::new("postgres-15");
    let standby = connection::standby();
    let closed = connection::closed_port();
    let on = |hosts: &[&str]| primary.clone().hosts(hosts);
    let (there, here) = (standby.address.as_str(), primary.server.address.clone());
    for hosts in [[there, &here], [&here, there], [&closed, &here]] {
        attempt(&on(&hosts)).unwrap_or_else(|error| panic!("{hosts:?}: {error}"));
    }
    let refused = attempt(&on(&[there]).database("postgres")).expect_err("a standby");
    assert!(matches!(refused, Error::NoPrimary { .. }), "{refused}");
    let refused = attempt(&on(&[&closed])).expect_err("nobody");
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused}");
    let refused = attempt(&on(&[there, &closed]).database("postgres")).expect_err("a standby");
    assert!(refused.is_connection(), "{refused}");
}
