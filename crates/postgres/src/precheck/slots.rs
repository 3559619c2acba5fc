//! Items of slots, walsenders and the role that uses them.

use super::{headroom, item, some};
use crate::quote::identifier;
use crate::settings::application_name;
use crate::slot::Slot;
use crate::{Error, Session};
use config::precheck::Item;

/// Statements of one remedy.
const DROPS_MAX: usize = 8;

pub(super) async fn items(session: &Session, task: &config::Task) -> Vec<Item> {
    let names = task.slots();
    let slot = &names[0];
    let mut items = Vec::new();
    match session.slots("").await {
        Ok(slots) => {
            let own = |name: &String| slots.iter().find(|it| it.name == *name);
            let missing = names.iter().filter(|it| own(it).is_none()).count();
            let max = setting(session, "max_replication_slots").await;
            items.push(item("source.slots", max.map(|max| free_slots(max, &slots, missing))));
            for (number, name) in (1..).zip(&names) {
                let application = application_name(&task.as_stream(number));
                items.push(item(
                    "source.slot",
                    own_slot(session, name, own(name), &application).await,
                ));
            }
            items.push(headroom::headroom(session, slot, &slots).await);
            items.push(orphans(&slots, task, &names));
            let is_idle = |it: &&String| own(it).is_none_or(|it| it.active_pid.is_none());
            let idle = names.iter().filter(is_idle).count();
            items.push(item("source.senders", free_senders(session, idle).await));
        }
        Err(error) => items.push(super::refused("source.slots", &error)),
    }
    items.push(item("source.role", role(session).await));
    items
}

/// Slots with our prefix in this database that nobody reads. Those of other databases may be of tasks that
/// are only suspended, whom this one knows nothing of.
fn orphans(slots: &[Slot], task: &config::Task, own: &[String]) -> Item {
    const NAME: &str = "source.orphaned-slots";
    let prefix = &task.source.slot_prefix;
    let is_orphan = |it: &&Slot| {
        it.name.starts_with(prefix.as_str())
            && it.database == task.source.database
            && !own.contains(&it.name)
            && it.active_pid.is_none()
            && !it.temporary
    };
    let found: Vec<&Slot> = slots.iter().filter(is_orphan).collect();
    if found.is_empty() {
        let seen = format!("no other slot `{prefix}…` of this database is without a reader");
        return Item::pass(NAME, seen);
    }
    let named = |it: &&Slot| format!("{} (keeps {} MiB)", it.name, it.retained_bytes >> 20);
    let drop = |it: &&Slot| format!("SELECT pg_drop_replication_slot('{}');", it.name);
    let names: Vec<String> = found.iter().map(named).collect();
    let drops: Vec<String> = found.iter().take(DROPS_MAX).map(drop).collect();
    let remedy = format!("of tasks that are gone for good: {}", drops.join(" "));
    Item::warning(NAME, format!("slots that nobody reads: {}", some(&names)), remedy)
}

async fn setting(session: &Session, name: &'static str) -> Result<i64, Error> {
    let statement = format!("SELECT current_setting('{name}')::int8");
    let rows = session.query("settings", &statement, &[]).await?;
    let value = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(value.map_err(Error::reading("settings"))?.unwrap_or_default())
}

/// What is seen of a limit of the server, and whether it leaves room for what is `missing`.
fn room(setting: &str, used: i64, max: i64, missing: usize) -> (String, bool) {
    let missing = i64::try_from(missing).unwrap_or(i64::MAX);
    let mut seen = format!("{used} of {setting} = {max} are taken");
    if 1 < missing {
        seen += &format!(", and the task needs {missing}");
    }
    (seen, missing == 0 || used.saturating_add(missing) <= max)
}

/// `missing`: slots that the task has yet to make.
fn free_slots(max: i64, slots: &[Slot], missing: usize) -> Item {
    const NAME: &str = "source.slots";
    let used = i64::try_from(slots.len()).unwrap_or(i64::MAX);
    let (seen, is_room) = room("max_replication_slots", used, max, missing);
    if is_room {
        return Item::pass(NAME, seen);
    }
    let inactive: Vec<String> =
        slots.iter().filter(|it| it.active_pid.is_none()).map(|it| it.name.clone()).collect();
    let idle = if inactive.is_empty() {
        String::new()
    } else {
        format!("drop one that nobody needs (unused now: {}), or ", some(&inactive))
    };
    let more = max.saturating_add(10);
    let remedy =
        format!("{idle}ALTER SYSTEM SET max_replication_slots = {more}; then restart the server");
    Item::fail(NAME, seen, remedy)
}

async fn own_slot(
    session: &Session,
    name: &str,
    slot: Option<&Slot>,
    application: &str,
) -> Result<Item, Error> {
    const NAME: &str = "source.slot";
    let Some(slot) = slot else {
        return Ok(Item::pass(NAME, format!("slot `{name}` will be created")));
    };
    let rows = session.query("database", "SELECT current_database()::text", &[]).await?;
    let database: String = rows
        .first()
        .map_or(Ok(String::new()), |row| row.try_get(0))
        .map_err(Error::reading("database"))?;
    Ok(judge(slot, &database, application))
}

fn judge(slot: &Slot, database: &str, application: &str) -> Item {
    const NAME: &str = "source.slot";
    let name = &slot.name;
    if slot.plugin != "pgoutput" || slot.database != database {
        let kind = if slot.plugin.is_empty() { "physical" } else { &slot.plugin };
        let place = if slot.database.is_empty() {
            String::new()
        } else {
            format!(" of database {}", slot.database)
        };
        let seen = format!("slot `{name}` exists and is not ours: {kind}{place}");
        let remedy = "choose another name of the task, or another source.slot_prefix";
        return Item::fail(NAME, seen, remedy);
    }
    if slot.lost {
        let seen = format!("slot `{name}` is lost: the server has removed WAL that it needs");
        let remedy = "run with --reseed: a new slot and a new snapshot";
        return Item::warning(NAME, seen, remedy);
    }
    let retained = slot.retained_bytes >> 20;
    let Some(pid) = slot.active_pid else {
        let seen =
            format!("slot `{name}` exists and is free; the server keeps {retained} MiB for it");
        return Item::pass(NAME, seen);
    };
    let user = slot.application.as_deref().unwrap_or("an unknown application");
    if user == application {
        let seen =
            format!("slot `{name}` is read by this task (pid {pid}), which will be replaced");
        return Item::pass(NAME, seen);
    }
    let seen = format!("slot `{name}` is in use by someone else: {user} (pid {pid})");
    Item::fail(NAME, seen, "stop the other reader, or give the task another name")
}

/// `missing`: those that the task has yet to start.
async fn free_senders(session: &Session, missing: usize) -> Result<Item, Error> {
    const NAME: &str = "source.senders";
    let max = setting(session, "max_wal_senders").await?;
    let statement = "SELECT count(*) FROM pg_stat_get_wal_senders()";
    let rows = session.query("walsenders", statement, &[]).await?;
    let used: i64 =
        rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(Error::reading("walsenders"))?;
    let (seen, is_room) = room("max_wal_senders", used, max, missing);
    if is_room {
        return Ok(Item::pass(NAME, seen));
    }
    let more = max.saturating_add(10);
    let remedy = format!("ALTER SYSTEM SET max_wal_senders = {more}; then restart the server");
    Ok(Item::fail(NAME, seen, remedy))
}

/// Hosted servers give the right by membership.
const HOSTED_ROLES: &str = "'rds_replication', 'cloudsqlsuperuser', 'azure_pg_admin'";

async fn role(session: &Session) -> Result<Item, Error> {
    const NAME: &str = "source.role";
    let statement = format!(
        "SELECT r.rolname::text, r.rolsuper, r.rolreplication, \
           EXISTS (SELECT FROM pg_roles h WHERE h.rolname IN ({HOSTED_ROLES}) \
                   AND pg_has_role(h.oid, 'MEMBER')) \
         FROM pg_roles r WHERE r.rolname = current_user"
    );
    let rows = session.query("role", &statement, &[]).await?;
    let read = || -> Result<Option<(String, bool, bool, bool)>, tokio_postgres::Error> {
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))
    };
    let Some((name, is_super, may_replicate, is_hosted)) =
        read().map_err(Error::reading("role"))?
    else {
        return Ok(Item::fail(
            NAME,
            "the server does not show the role",
            "connect as a role of its own",
        ));
    };
    if !(is_super || may_replicate || is_hosted) {
        let seen = format!("role {name} may not replicate");
        return Ok(Item::fail(
            NAME,
            seen,
            format!("ALTER ROLE {} REPLICATION;", identifier(&name)?),
        ));
    }
    let seen = if is_super {
        format!("role {name} is a superuser: LOGIN and REPLICATION are enough")
    } else {
        format!("role {name} may replicate")
    };
    Ok(Item::pass(NAME, seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;
    use wal::Lsn;

    fn slot() -> Slot {
        Slot {
            name: "distributary_shop".into(),
            plugin: "pgoutput".into(),
            database: "shop".into(),
            active_pid: None,
            application: None,
            confirmed_flush: Lsn(1),
            restart_lsn: Some(Lsn(1)),
            lost: false,
            conflicting: false,
            retained_bytes: 3 << 20,
            temporary: false,
            failover: false,
            synced: false,
        }
    }

    #[track_caller]
    fn judged(slot: &Slot, state: State, word: &str) {
        let item = judge(slot, "shop", "distributary/P/shop");
        assert_eq!(item.state, state, "{item:?}");
        assert!(item.seen.contains(word), "{item:?}");
    }

    #[test]
    fn a_slot_is_judged_by_who_it_belongs_to() {
        judged(&slot(), State::Pass, "keeps 3 MiB");
        let foreign = Slot { plugin: "wal2json".into(), ..slot() };
        judged(&foreign, State::Fail, "wal2json");
        judged(&Slot { plugin: String::new(), ..slot() }, State::Fail, "physical");
        judged(&Slot { database: "other".into(), ..slot() }, State::Fail, "database other");
        judged(&Slot { lost: true, ..slot() }, State::Warning, "is lost");
        let by = |application: &str| Slot {
            active_pid: Some(7),
            application: Some(application.into()),
            ..slot()
        };
        judged(&by("distributary/P/shop"), State::Pass, "this task");
        judged(&by("a stranger"), State::Fail, "in use by someone else: a stranger (pid 7)");
    }

    #[test]
    fn an_orphan_has_our_prefix_and_database_and_no_reader() {
        let task = config::Task::default();
        let mut task = config::Task { task: "other".into(), ..task };
        task.source.database = "shop".into();
        task.source.streams = 2;
        let state = |slot: Slot| orphans(&[slot], &task, &task.slots()).state;
        assert_eq!(state(slot()), State::Warning);
        assert_eq!(state(Slot { name: "distributary_other".into(), ..slot() }), State::Pass);
        let second = Slot { name: "distributary_2_other".into(), ..slot() };
        assert_eq!(state(second), State::Pass);
        assert_eq!(state(Slot { name: "debezium".into(), ..slot() }), State::Pass);
        assert_eq!(state(Slot { database: "other".into(), ..slot() }), State::Pass);
        assert_eq!(state(Slot { active_pid: Some(1), ..slot() }), State::Pass);
    }

    #[test]
    fn the_last_slot_is_enough_if_it_is_ours() {
        assert_eq!(free_slots(1, &[slot()], 0).state, State::Pass);
        assert_eq!(free_slots(2, &[slot()], 1).state, State::Pass);
        let several = free_slots(2, &[slot()], 2);
        assert_eq!(several.state, State::Fail);
        assert!(several.seen.contains("the task needs 2"), "{several:?}");
        let item = free_slots(1, &[slot()], 1);
        assert_eq!(item.state, State::Fail);
        assert!(item.remedy.contains("distributary_shop"), "{item:?}");
        assert!(item.remedy.contains("max_replication_slots = 11"), "{item:?}");
    }
}
