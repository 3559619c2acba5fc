//! Items of the server and the database.

use super::{item, some};
use crate::replication::{FAILOVER_SINCE, STREAMING_SINCE};
use crate::session::Server;
use crate::{Error, Session};
use config::Choice;
use config::precheck::Item;
use std::time::Duration;

/// Versions that the tests run on, major numbers.
const VERSION_MIN: u32 = 11;
const VERSION_MAX: u32 = 18;

/// A transaction that is open for so long holds back slot and snapshot.
const LONG_TRANSACTION: Duration = Duration::from_secs(300);
pub(super) const LONG_TRANSACTIONS: &str = "source.long-transactions";
/// A walsender that hears nothing for so long is ended; below, a slow moment is enough.
const SENDER_TIMEOUT_MS_MIN: i64 = 5_000;

/// Settings of the server that matter.
struct Facts {
    version: String,
    wal_level: String,
    encoding: String,
    /// Milliseconds; 0: off.
    sender_timeout_ms: i64,
    /// In MiB, -1: no limit; `None`: the server has none.
    keep_mib: Option<i64>,
    /// Seconds, 0: off; `None`: the server has none.
    idle_timeout_s: Option<i64>,
    /// `synchronized_standby_slots`.
    standby_slots: Option<String>,
}

/// `at_slot`: at the host that has the slot, or shall have it.
pub(super) async fn items(session: &Session, at_slot: &Session, task: &config::Task) -> Vec<Item> {
    let both = async { Ok((facts(session).await?, facts(at_slot).await?)) };
    let mut items = match both.await {
        Ok((facts, of_slot)) => vec![
            version(session.server(), &facts),
            wal_level(&facts),
            encoding(&facts, &task.source.sql_ascii),
            wal_retention(&of_slot),
            sender_timeout(&of_slot),
        ],
        Err(error) => vec![super::refused("source.settings", &error)],
    };
    items.extend(streaming(session.server().version, task));
    items.push(item("source.failover", failover(session, task).await));
    items.push(super::long_transactions(session, LONG_TRANSACTION).await);
    items
}

async fn facts(session: &Session) -> Result<Facts, Error> {
    // Of settings, numbers in their unit; those that the server does not have are null.
    let statement = "\
        SELECT current_setting('server_version'), current_setting('wal_level'), \
          (SELECT pg_encoding_to_char(encoding)::text FROM pg_database \
           WHERE datname = current_database()), \
          (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'), \
          (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), \
          (SELECT setting::int8 FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), \
          current_setting('synchronized_standby_slots', true)";
    let rows = session.query("settings", statement, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::Protocol {
        reason: "the query of the settings returned no row".into(),
    })?;
    let read = || -> Result<Facts, tokio_postgres::Error> {
        Ok(Facts {
            version: row.try_get(0)?,
            wal_level: row.try_get(1)?,
            encoding: row.try_get(2)?,
            sender_timeout_ms: row.try_get::<_, Option<i64>>(3)?.unwrap_or(0),
            keep_mib: row.try_get(4)?,
            idle_timeout_s: row.try_get(5)?,
            standby_slots: row.try_get(6)?,
        })
    };
    read().map_err(Error::reading("settings"))
}

fn version(server: &Server, facts: &Facts) -> Item {
    const NAME: &str = "source.version";
    let product = if server.is_polardb { "PolarDB for PostgreSQL" } else { "PostgreSQL" };
    let seen = format!("{product} {}", facts.version);
    let major = server.version / 10_000;
    if major < VERSION_MIN {
        let remedy = format!("upgrade the server to {VERSION_MIN} or later");
        return Item::fail(NAME, seen, remedy);
    }
    if VERSION_MAX < major {
        let remedy = format!("nothing if it works: tests run on {VERSION_MIN} to {VERSION_MAX}");
        return Item::warning(NAME, seen, remedy);
    }
    Item::pass(NAME, seen)
}

/// Only of a task that wants it.
fn streaming(version: u32, task: &config::Task) -> Option<Item> {
    const NAME: &str = "source.streaming";
    if task.source.streaming != config::Switch::On || !task.sync.incremental {
        return None;
    }
    let remedy = "upgrade the server, or set source.streaming: off";
    Some(if version < STREAMING_SINCE {
        Item::fail(NAME, "transactions in progress are sent by PostgreSQL 14 and later", remedy)
    } else {
        Item::pass(NAME, "the server can send transactions in progress")
    })
}

fn wal_level(facts: &Facts) -> Item {
    const NAME: &str = "source.wal-level";
    let seen = format!("wal_level is {}", facts.wal_level);
    if facts.wal_level == "logical" {
        return Item::pass(NAME, seen);
    }
    Item::fail(NAME, seen, "ALTER SYSTEM SET wal_level = logical; then restart the server")
}

fn encoding(facts: &Facts, policy: &str) -> Item {
    const NAME: &str = "source.encoding";
    let seen = format!("the database's encoding is {}", facts.encoding);
    if facts.encoding != "SQL_ASCII" {
        let is_named = !matches!(policy, "fail" | "base64" | "replace");
        if is_named && !facts.encoding.eq_ignore_ascii_case(policy) {
            let remedy = "leave source.sql_ascii out, or set it to the database's own encoding";
            let seen = format!("{seen}, and source.sql_ascii says {policy}");
            return Item::fail(NAME, seen, remedy);
        }
        return Item::pass(NAME, seen);
    }
    if policy == "fail" {
        let remedy = "bytes that are no UTF-8 would stop the stream for good: move the data to a \
                      database with an encoding, or set source.sql_ascii";
        return Item::fail(NAME, seen, remedy);
    }
    Item::warning(NAME, seen, format!("nothing: source.sql_ascii is {policy}"))
}

fn wal_retention(facts: &Facts) -> Item {
    const NAME: &str = "source.wal-retention";
    if let Some(seconds) = facts.idle_timeout_s.filter(|seconds| 0 < *seconds) {
        let seen = format!(
            "idle_replication_slot_timeout is {seconds} s: a task that is stopped for so long \
             loses its slot"
        );
        return Item::warning(
            NAME,
            seen,
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
        );
    }
    match facts.keep_mib {
        Some(mib @ 0..) => {
            let seen = format!(
                "max_slot_wal_keep_size is {mib} MiB: a task that falls further behind loses its \
                 slot"
            );
            let remedy = "choose it larger than what is written in the longest outage: ALTER \
                          SYSTEM SET max_slot_wal_keep_size = '…'; SELECT pg_reload_conf();";
            Item::warning(NAME, seen, remedy)
        }
        Some(_) | None => {
            let seen = "the server keeps all WAL that the slot needs: watch the disk while the \
                        task is stopped";
            Item::pass(NAME, seen)
        }
    }
}

fn sender_timeout(facts: &Facts) -> Item {
    const NAME: &str = "source.sender-timeout";
    let timeout = facts.sender_timeout_ms;
    let seen = format!("wal_sender_timeout is {timeout} ms");
    if timeout == 0 {
        let seen =
            "wal_sender_timeout is 0: a connection that was cut holds the slot until TCP gives up";
        return Item::warning(
            NAME,
            seen,
            "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
        );
    }
    if timeout < SENDER_TIMEOUT_MS_MIN {
        let remedy = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();";
        return Item::warning(NAME, format!("{seen}: a slow moment ends the stream"), remedy);
    }
    Item::pass(NAME, seen)
}

/// What a switchover will do to the slot; design.md, server fact 11.
async fn failover(session: &Session, task: &config::Task) -> Result<Item, Error> {
    const NAME: &str = "source.failover";
    let (wanted, hosts) = (task.source.slot_failover, task.source.hosts.len());
    if task.source.read_from == config::ReadFrom::Standby {
        let seen = "the slot stays on its standby, and goes on there when that one is promoted; when that one is \
                    lost, the task parks until it is run with --reseed";
        return Ok(Item::pass(NAME, seen));
    }
    if session.server().version < FAILOVER_SINCE {
        if wanted == Choice::On {
            let seen = "`source.slot_failover: on` needs PostgreSQL 17 or later";
            return Ok(Item::fail(NAME, seen, "set source.slot_failover: auto, or off"));
        }
        let seen = "the server has no failover slots: after a switchover the slot is gone, and the \
                    task parks until it is run with --reseed";
        return Ok(if 1 < hosts {
            Item::warning(NAME, seen, "PostgreSQL 17 or later keeps slots over a switchover")
        } else {
            Item::pass(NAME, seen)
        });
    }
    if wanted == Choice::Off {
        let seen = "the slot is not copied to standbys (source.slot_failover: off): after a \
                    switchover it is gone, and the task parks until it is run with --reseed";
        return Ok(if 1 < hosts {
            Item::warning(NAME, seen, "set source.slot_failover: auto")
        } else {
            Item::pass(NAME, seen)
        });
    }
    let Some(names) = facts(session).await?.standby_slots.filter(|names| !names.is_empty()) else {
        let seen = "no standby is waited for (synchronized_standby_slots is empty)";
        return Ok(if 1 < hosts {
            let seen = format!(
                "{seen}: the task may deliver what a standby does not have yet, and parks should \
                 that one be promoted"
            );
            let remedy = "ALTER SYSTEM SET synchronized_standby_slots = '…'; with the slots of the \
                          standbys that may be promoted, and sync_replication_slots = on there";
            Item::warning(NAME, seen, remedy)
        } else {
            Item::pass(NAME, seen)
        });
    };
    let wanted: Vec<String> =
        names.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
    let statement = "SELECT slot_name::text FROM pg_replication_slots WHERE active";
    let rows = session.query("standbys", statement, &[]).await?;
    let active: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    let (waiting, down): (Vec<String>, Vec<String>) =
        wanted.into_iter().partition(|name| active.contains(name));
    if down.is_empty() {
        return Ok(Item::pass(NAME, format!("standbys {} are connected", some(&waiting))));
    }
    let seen = format!("a failover slot stands still until standby {} is back", some(&down));
    let remedy = "start the standby, or take it out of synchronized_standby_slots";
    Ok(Item::warning(NAME, seen, remedy))
}

pub(super) async fn long_transactions(
    session: &Session,
    open_for: Duration,
) -> Result<Item, Error> {
    const NAME: &str = LONG_TRANSACTIONS;
    let seconds = open_for.as_secs();
    let statement = format!(
        "SELECT 'pid ' || a.pid || coalesce(' (' || a.usename || ')', '') || ' since ' || \
           to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), a.xact_start \
         FROM pg_stat_activity a \
         WHERE a.xact_start < now() - interval '{seconds} s' AND a.pid <> pg_backend_pid() \
           AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL) \
           AND a.datname = current_database() \
         UNION ALL \
         SELECT 'prepared transaction ' || quote_literal(p.gid) || ' since ' || \
           to_char(p.prepared, 'YYYY-MM-DD HH24:MI:SS \"UTC\"'), p.prepared \
         FROM pg_prepared_xacts p WHERE p.prepared < now() - interval '{seconds} s' \
         ORDER BY 2"
    );
    let rows = session.query("transactions", &statement, &[]).await?;
    let open: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    if open.is_empty() {
        let statement = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')";
        let rows = session.query("rights", statement, &[]).await?;
        let sees_all = rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
        let whose = if sees_all {
            "no transaction"
        } else {
            "none of the transactions that this role may see (all: GRANT pg_read_all_stats)"
        };
        let seen = format!("{whose} is open for more than {seconds} s");
        return Ok(Item::pass(NAME, seen));
    }
    let remedy = "end them: a new slot waits for those that write, and WAL piles up meanwhile";
    Ok(Item::warning(NAME, some(&open), remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    fn facts() -> Facts {
        Facts {
            version: "15.3".into(),
            wal_level: "logical".into(),
            encoding: "UTF8".into(),
            sender_timeout_ms: 60_000,
            keep_mib: Some(-1),
            idle_timeout_s: None,
            standby_slots: None,
        }
    }

    fn server(version: u32) -> Server {
        let (host, encoding) = ("db1:5432".into(), "UTF8".into());
        Server { host, version, system_id: 1, timeline: 1, encoding, is_polardb: false }
    }

    #[test]
    fn a_server_as_it_should_be_passes() {
        let items = [
            version(&server(150_003), &facts()),
            wal_level(&facts()),
            encoding(&facts(), "fail"),
            wal_retention(&facts()),
            sender_timeout(&facts()),
        ];
        for item in items {
            assert_eq!(item.state, State::Pass, "{item:?}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_statement() {
        assert_eq!(version(&server(100_020), &facts()).state, State::Fail);
        assert_eq!(version(&server(190_000), &facts()).state, State::Warning);
        let item = wal_level(&Facts { wal_level: "replica".into(), ..facts() });
        assert_eq!(item.state, State::Fail);
        assert!(item.remedy.contains("ALTER SYSTEM SET wal_level = logical"), "{item:?}");
        let ascii = Facts { encoding: "SQL_ASCII".into(), ..facts() };
        assert_eq!(encoding(&ascii, "fail").state, State::Fail);
        assert_eq!(encoding(&ascii, "LATIN1").state, State::Warning);
        let limited = wal_retention(&Facts { keep_mib: Some(1024), ..facts() });
        assert_eq!(limited.state, State::Warning);
        assert!(limited.seen.contains("1024 MiB"), "{limited:?}");
        let idle = wal_retention(&Facts { idle_timeout_s: Some(60), ..facts() });
        assert!(idle.remedy.contains("idle_replication_slot_timeout = 0"), "{idle:?}");
        for sender_timeout_ms in [0, 100] {
            let item = sender_timeout(&Facts { sender_timeout_ms, ..facts() });
            assert_eq!(item.state, State::Warning);
        }
    }
}
