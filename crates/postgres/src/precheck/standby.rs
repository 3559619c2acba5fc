//! Whether the standby that is to be read from can keep a slot, and whether its primary helps it.

use crate::quote::identifier;
use crate::standby::{LOG_RUNNING, STANDBY_SINCE};
use crate::{Error, Session};
use config::precheck::Item;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

pub(super) const NAME: &str = "source.standby";
const FEEDBACK: &str =
    "on the standby: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();";

/// What is known of the two servers.
#[derive(Clone, Debug)]
struct Facts {
    /// `host:port` of the server with the slot, or that shall have it.
    host: String,
    version: u32,
    is_standby: bool,
    has_slot: bool,
    same_system: bool,
    wal_level: String,
    feedback: bool,
    /// `primary_slot_name`; empty: none.
    physical_slot: String,
    /// Whether the role may have the primary write down its running transactions.
    may_log_running: bool,
    /// As SQL.
    role: String,
}

/// Only of a task that wants it. `at_slot`: at the host of the slot.
pub(super) async fn standby(
    primary: &Session,
    at_slot: &Session,
    slot: &str,
) -> Result<Item, Error> {
    Ok(judge(&facts(primary, at_slot, slot).await?))
}

async fn facts(primary: &Session, at_slot: &Session, slot: &str) -> Result<Facts, Error> {
    const DOING: &str = "settings of the standby";
    let (server, wrong) = (at_slot.server(), Error::reading(DOING));
    let statement = "SELECT pg_is_in_recovery(), current_setting('wal_level'), \
         current_setting('hot_standby_feedback') = 'on', coalesce(current_setting('primary_slot_name', true), '')";
    let rows = at_slot.query(DOING, statement, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::protocol("no answer to a question"))?;
    // The function came with the first version whose standbys decode.
    let asked = "SELECT current_user::text, coalesce((SELECT has_function_privilege(p.oid, 'EXECUTE') \
         FROM pg_proc p WHERE p.oid = to_regprocedure($1)), false)";
    let function: (&(dyn ToSql + Sync), Type) = (&LOG_RUNNING, Type::TEXT);
    let of_primary = primary.query(DOING, asked, &[function]).await?;
    let rights = of_primary.first().ok_or_else(|| Error::protocol("no answer to a question"))?;
    let read = |row: &Row, rights: &Row| -> Result<Facts, tokio_postgres::Error> {
        Ok(Facts {
            host: server.host.clone(),
            version: server.version,
            is_standby: row.try_get(0)?,
            has_slot: false,
            same_system: server.system_id == primary.server().system_id,
            wal_level: row.try_get(1)?,
            feedback: row.try_get(2)?,
            physical_slot: row.try_get(3)?,
            may_log_running: rights.try_get(1)?,
            role: rights.try_get(0)?,
        })
    };
    let facts = read(row, rights).map_err(wrong)?;
    let role = identifier(&facts.role)?;
    Ok(Facts { has_slot: at_slot.has_slot(slot).await?, role, ..facts })
}

fn judge(facts: &Facts) -> Item {
    let Facts { host, version, .. } = facts;
    if !facts.is_standby && facts.has_slot {
        let seen = format!(
            "the slot is on {host}, which accepts writes: it was promoted, or the task read from the primary before; \
             the task goes on there"
        );
        let remedy = "nothing, or begin again on a standby with --reseed";
        return Item::warning(NAME, seen, remedy);
    }
    if !facts.is_standby {
        let seen = "none of the hosts is in recovery, and `source.read_from` is standby";
        return Item::fail(
            NAME,
            seen,
            "add the standby to source.hosts, or set source.read_from: primary",
        );
    }
    if !facts.same_system {
        let seen =
            format!("{host} is a standby of another server than the read-write one of the hosts");
        return Item::fail(NAME, seen, "correct source.hosts");
    }
    if *version < STANDBY_SINCE {
        let seen = format!(
            "{host} has PostgreSQL {}: slots can be made on standbys of 16 and later",
            version / 10_000
        );
        return Item::fail(NAME, seen, "upgrade the servers, or set source.read_from: primary");
    }
    if facts.wal_level != "logical" {
        let seen = format!("wal_level is {} on {host}", facts.wal_level);
        let remedy =
            "on the standby: ALTER SYSTEM SET wal_level = logical; then restart that server";
        return Item::fail(NAME, seen, remedy);
    }
    if !facts.feedback {
        let seen = format!(
            "hot_standby_feedback is off on {host}: the primary removes old rows of its catalog that the slot needs, \
             and then the slot is lost (rows_removed)"
        );
        return Item::fail(NAME, seen, FEEDBACK);
    }
    warnings(facts)
}

/// What a task can live with.
fn warnings(facts: &Facts) -> Item {
    let Facts { host, physical_slot, role, .. } = facts;
    let (mut wrong, mut remedies) = (Vec::new(), Vec::new());
    if physical_slot.is_empty() {
        wrong.push(format!(
            "{host} reads from its primary without a slot (primary_slot_name is empty): while it is away the primary \
             may remove what the task's slot needs"
        ));
        remedies.push(
            "on the primary: SELECT pg_create_physical_replication_slot('standby', true); on the standby: ALTER \
             SYSTEM SET primary_slot_name = 'standby'; SELECT pg_reload_conf();"
                .to_owned(),
        );
    }
    if !facts.may_log_running {
        wrong.push(format!(
            "role {role} may not execute {LOG_RUNNING} on the primary: a new slot waits for up to 15 s, and longer \
             where transactions are open"
        ));
        remedies.push(format!("GRANT EXECUTE ON FUNCTION pg_catalog.{LOG_RUNNING} TO {role};"));
    }
    if wrong.is_empty() {
        let seen = format!(
            "{host} is a standby with feedback, and reads from its primary by slot {physical_slot}"
        );
        return Item::pass(NAME, seen);
    }
    Item::warning(NAME, wrong.join("; "), remedies.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    fn facts() -> Facts {
        Facts {
            host: "db2:5432".into(),
            version: 170_004,
            is_standby: true,
            has_slot: false,
            same_system: true,
            wal_level: "logical".into(),
            feedback: true,
            physical_slot: "standby".into(),
            may_log_running: true,
            role: "\"r\"".into(),
        }
    }

    #[track_caller]
    fn judged(facts: &Facts, state: State, words: &[&str]) {
        let item = judge(facts);
        assert_eq!(item.state, state, "{item:?}");
        for word in words {
            assert!(item.seen.contains(word) || item.remedy.contains(word), "{word}: {item:?}");
        }
    }

    #[test]
    fn a_standby_that_can_keep_a_slot_passes_and_what_it_lacks_is_named() {
        judged(&facts(), State::Pass, &["db2:5432"]);
        let primary = Facts { is_standby: false, ..facts() };
        judged(&primary, State::Fail, &["none of the hosts"]);
        judged(&Facts { has_slot: true, ..primary }, State::Warning, &["was promoted"]);
        judged(&Facts { same_system: false, ..facts() }, State::Fail, &["another server"]);
        judged(&Facts { version: 150_003, ..facts() }, State::Fail, &["PostgreSQL 15", "16"]);
        let replica = Facts { wal_level: "replica".into(), ..facts() };
        judged(&replica, State::Fail, &["wal_level is replica"]);
        let alone = Facts { feedback: false, ..facts() };
        judged(&alone, State::Fail, &["rows_removed", "hot_standby_feedback = on"]);
    }

    #[test]
    fn what_can_be_lived_with_is_told_together() {
        let bare = Facts { physical_slot: String::new(), may_log_running: false, ..facts() };
        let words = ["primary_slot_name", "GRANT EXECUTE ON FUNCTION", "TO \"r\";"];
        judged(&bare, State::Warning, &words);
    }
}
