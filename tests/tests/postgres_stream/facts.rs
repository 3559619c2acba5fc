//! Facts about PostgreSQL that have cost others their data (design.md, section 5), as far as the
//! replication connection meets them: each by its number.

use crate::ground::{Ground, PUBLICATION, SOON, inserted, servers};
use postgres::Error;
use tests::deadline::await_true;
use tests::sql::quoted;
use wal::Lsn;

const FAR: u64 = 1 << 30;

#[test]
fn fact_1_the_stream_begins_neither_below_the_slot_nor_above_the_server() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let created = ground.create_slot();
        ground.sql.run("INSERT INTO t VALUES (1, 'passed over by somebody')");
        let end = ground.wal_end();
        ground.slot(&format!("pg_replication_slot_advance(slot_name, '{end}')"));
        let confirmed = ground.confirmed();
        assert!(created.consistent_point < confirmed, "{server}");
        let refused = ground.start(&ground.options(created.consistent_point)).expect_err("a gap");
        let Error::SlotAhead { confirmed: named, requested, .. } = refused else {
            panic!("{server}: {refused}")
        };
        assert_eq!((named, requested), (confirmed, created.consistent_point), "{server}");

        let beyond = Lsn(ground.wal_end().0 + FAR);
        let refused = ground.start(&ground.options(beyond)).expect_err("another server");
        let Error::ServerBehind { requested, end } = refused else { panic!("{server}: {refused}") };
        assert_eq!(requested, beyond, "{server}");
        assert!(end < beyond, "{server}");
        await_true("a free slot", SOON, || !ground.is_active());
        assert_eq!(ground.confirmed(), confirmed, "{server}: the slot was moved");
    }
}

#[test]
fn fact_2_nothing_is_confirmed_that_was_not_received() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let mut stream = ground.stream();
        ground.sql.run("INSERT INTO t VALUES (1, 'received')");
        let mut found = Vec::new();
        let mut received = Lsn::ZERO;
        while found.is_empty() {
            let read = ground.read(&mut stream);
            inserted(&read.bytes, &mut found);
            received = read.server_end;
        }
        let beyond = Lsn(ground.wal_end().0 + FAR);
        for named in [received, beyond] {
            ground.wait(stream.report(named, beyond, true)).expect("a report");
            await_true("the report", SOON, || ground.confirmed() == received);
        }
        // Had the server believed more, it would pass over this row, now and after every restart.
        ground.sql.run("INSERT INTO t VALUES (2, 'not passed over')");
        assert_eq!(ground.rows(&mut stream, 1)[0].id(), 2, "{server}");
    }
}

#[test]
fn fact_3_a_missing_publication_is_named_before_the_stream() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let created = ground.create_slot();
        ground.sql.run(&format!("DROP PUBLICATION {}", quoted(PUBLICATION)));
        let refused = ground.start(&ground.options(created.consistent_point)).expect_err("gone");
        assert!(matches!(refused, Error::PublicationMissing { .. }), "{server}: {refused}");
        assert!(refused.to_string().contains(PUBLICATION), "{server}: {refused}");
        assert_eq!(ground.confirmed(), created.consistent_point, "{server}");
    }
}

#[test]
fn fact_3_a_publication_that_was_missing_then_ends_the_stream() {
    for server in servers() {
        let mut ground = Ground::new(server);
        // A setting that hides warnings hides the only sign of it.
        ground.set("client_min_messages = 'error'");
        let created = ground.create_slot();
        ground.sql.run(&format!("DROP PUBLICATION {}", quoted(PUBLICATION)));
        ground.sql.run("INSERT INTO t VALUES (1, 'in no publication')");
        ground.sql.run(&format!("CREATE PUBLICATION {} FOR TABLE t", quoted(PUBLICATION)));
        ground.sql.run("INSERT INTO t VALUES (2, 'in it')");
        let mut stream = ground.start(&ground.options(created.consistent_point)).expect("a stream");
        let ended = ground.end_of(&mut stream);
        assert!(matches!(ended, Error::PublicationMissing { .. }), "{server}: {ended}");
        assert!(!ended.is_connection(), "{server}: it would be tried for ever");
        assert_eq!(ground.confirmed(), created.consistent_point, "{server}");
    }
}

#[test]
fn fact_8_the_text_of_values_does_not_follow_settings_of_the_database() {
    for server in servers() {
        let mut ground = Ground::new(server);
        for setting in [
            "DateStyle = 'German, DMY'",
            "IntervalStyle = 'sql_standard'",
            "bytea_output = 'escape'",
            "extra_float_digits = -3",
            "TimeZone = 'Asia/Kolkata'",
            "lc_monetary = 'C.UTF-8'",
            "search_path = 'nowhere'",
            "client_encoding = 'LATIN1'",
            "standard_conforming_strings = off",
        ] {
            ground.set(setting);
        }
        ground.sql.run(
            "CREATE TABLE kinds (id int PRIMARY KEY, at timestamptz, day date, span interval, \
             bytes bytea, number float8, price money, word text, kind regclass); \
             ALTER PUBLICATION \"it's \"\"p\"\"\" ADD TABLE kinds",
        );
        let mut stream = ground.stream();
        ground.sql.run(
            "INSERT INTO kinds VALUES (1, '2024-03-01 12:30:00+00', '2024-03-01', \
             '1 year 2 days 03:04:05', '\\x00ff', 0.1::float8 + 0.2::float8, 1234.5, 'zwölf', \
             'public.t')",
        );
        let rows = ground.rows(&mut stream, 1);
        let expected = [
            "1",
            "2024-03-01 12:30:00+00",
            "2024-03-01",
            "1 year 2 days 03:04:05",
            "\\x00ff",
            // Before 12 with as many digits as it was told; the same number.
            if ground.version < 12 { "0.300000000000000044" } else { "0.30000000000000004" },
            "$1,234.50",
            "zwölf",
            "public.t",
        ];
        assert_eq!(rows[0].values, expected, "{server}");
    }
}
