//! The running stream: what is read when, who hears from whom, and how it ends.

use crate::ground::{Ground, Inserted, SOON, inserted, servers};
use postgres::replication::WalStream;
use std::time::Duration;
use tests::deadline::await_true;
use tests::seed::full;
use tokio::time::{Instant, interval, timeout};
use wal::Lsn;

/// So long does the server wait for a sign of life in these tests.
const SENDER_TIMEOUT: Duration = Duration::from_secs(3);

#[test]
fn rows_come_in_their_order_and_once() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let mut stream = ground.stream();
        ground
            .sql
            .run("INSERT INTO t SELECT n, repeat('zwölf', 40) FROM generate_series(1, 20000) n");
        let ids: Vec<u64> = ground.rows(&mut stream, 20_000).iter().map(Inserted::id).collect();
        assert!(ids.into_iter().eq(1..=20_000), "{server}");
    }
}

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    let mut ground = Ground::new("postgres-15");
    let mut stream = ground.stream();
    ground.sql.run("INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 50000) n");
    let (ids, given_up) = ground.wait(async {
        let (mut found, mut given_up) = (Vec::new(), 0_u32);
        let begun = Instant::now();
        while found.len() < 50_000 {
            assert!(begun.elapsed() < SOON, "{} rows", found.len());
            // Less than it takes until something comes, often; never long enough to wait twice.
            match timeout(Duration::from_micros(50), stream.read()).await {
                Ok(received) => inserted(&received.expect("the stream goes on").bytes, &mut found),
                Err(_) => given_up += 1,
            }
        }
        (found.iter().map(Inserted::id).collect::<Vec<_>>(), given_up)
    });
    assert!(ids.into_iter().eq(1..=50_000));
    assert!(0 < given_up, "no read was given up: the test shows nothing");
}

#[test]
fn a_lone_row_comes_at_once() {
    let mut ground = Ground::new("postgres-15");
    let mut stream = ground.stream();
    let mut quickest = SOON;
    for n in 1..=20 {
        let begun = Instant::now();
        ground.sql.run(&format!("INSERT INTO t VALUES ({n}, 'x')"));
        ground.rows(&mut stream, 1);
        quickest = quickest.min(begun.elapsed());
    }
    // With the insert itself; the quickest, since the machine may be busy.
    assert!(quickest < Duration::from_millis(50), "{quickest:?}");
}

/// A stream of which nothing is read, and more than sockets hold: the walsender blocks in the middle
/// of a transaction.
fn blocked_walsender(ground: &mut Ground) -> WalStream {
    ground.set(&format!("wal_sender_timeout = '{}s'", SENDER_TIMEOUT.as_secs()));
    let created = ground.create_slot();
    ground.sql.run("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n");
    ground.start(&ground.options(created.consistent_point)).expect("a stream")
}

#[test]
fn a_reader_that_only_reports_is_not_given_up() {
    let mut ground = Ground::new("postgres-15");
    let mut stream = blocked_walsender(&mut ground);
    assert_eq!(stream.status_interval(), SENDER_TIMEOUT / 3);
    ground.wait(async {
        let mut due = interval(stream.status_interval());
        let end = Instant::now() + 3 * SENDER_TIMEOUT;
        while Instant::now() < end {
            due.tick().await;
            stream.report(Lsn::ZERO, Lsn::ZERO, false).await.expect("the connection lives");
        }
    });
    assert!(ground.is_active(), "the server has given it up");
    // A busy machine may take longer for all of them than the server waits.
    let mut found = 0;
    while found < 100_000 {
        found += ground.rows(&mut stream, 1).len();
        let reported = ground.wait(stream.report(Lsn::ZERO, Lsn::ZERO, false));
        reported.expect("the connection lives");
    }
    assert_eq!(found, 100_000);
}

#[test]
fn a_reader_that_is_silent_is_given_up() {
    // The control of the test before.
    let mut ground = Ground::new("postgres-15");
    let mut stream = blocked_walsender(&mut ground);
    await_true("the end of the walsender", 5 * SENDER_TIMEOUT, || !ground.is_active());
    let ended = ground.end_of(&mut stream);
    assert!(ended.is_connection(), "{ended}");
}

#[test]
fn an_idle_server_asks_and_is_answered() {
    let mut ground = Ground::new("postgres-15");
    ground.set(&format!("wal_sender_timeout = '{}s'", SENDER_TIMEOUT.as_secs()));
    let mut stream = ground.stream();
    ground.wait(async {
        let mut asked = 0;
        let begun = Instant::now();
        while asked < 3 {
            assert!(begun.elapsed() < SOON, "asked {asked} times");
            let received = timeout(SOON, stream.read()).await.expect("in time").expect("a stream");
            if received.reply_requested {
                asked += 1;
                let at = received.server_end;
                stream.report(at, at, false).await.expect("the connection lives");
            }
        }
    });
    assert!(ground.is_active());
}

#[test]
fn a_walsender_that_is_ended_is_a_lost_connection() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let mut stream = ground.stream();
        ground.slot("pg_terminate_backend(active_pid)");
        let ended = ground.end_of(&mut stream);
        assert!(ended.is_connection(), "{server}: {ended}");
        let ended = ground.end_of(&mut stream);
        assert!(ended.is_connection(), "{server}: {ended}");
        await_true("a free slot", SOON, || !ground.is_active());
        let at = ground.confirmed();
        drop(ground.start(&ground.options(at)).expect("the stream goes on from there"));
    }
}

#[test]
fn a_stream_that_was_closed_has_freed_its_slot() {
    for server in servers() {
        let mut ground = Ground::new(server);
        let mut stream = ground.stream();
        ground
            .sql
            .run("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n");
        ground.rows(&mut stream, 1);
        let at = ground.confirmed();
        // Much is on its way still.
        ground.wait(stream.report(at, at, false)).expect("a report");
        ground.wait(stream.close()).expect("a good end");
        assert!(!ground.is_active(), "{server}");
        let mut again = ground.start(&ground.options(at)).expect("a stream at once");
        assert_eq!(ground.rows(&mut again, 20_000).len(), 20_000, "{server}");
    }
}

#[test]
fn one_large_row_comes_whole() {
    let tens = if full() { 20 << 20 } else { 5 << 20 };
    let mut ground = Ground::new("postgres-15");
    let mut stream = ground.stream();
    ground
        .sql
        .run(&format!("INSERT INTO t VALUES (1, repeat('0123456789', {tens})), (2, 'small')"));
    let rows = ground.rows(&mut stream, 2);
    assert!(rows[0].values[1] == "0123456789".repeat(tens), "another text");
    assert_eq!(rows[1].values, ["2", "small"]);
}
