//! Replication slots on every host of a source: whose they are, and getting rid of those of ours that no task
//! needs any more. [`judge`] decides, purely.
//!
//! A slot has no place for an owner, so its publication has: a comment that names the task, the prefix of its
//! internal topics and the Kafka cluster.

use crate::failure::Failure;
use kafka::names::Names;
use kafka::topics::Admin;
use postgres::Session;
use postgres::settings::Settings;
use postgres::slot::Slot;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use tracing::warn;

/// Whose a slot is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Of a task that exists, or that is in use.
    Task,
    /// Ours, not in use, and of no task any more: it may be dropped.
    Orphan,
    /// A standby's copy of the primary's slot: it goes with that one.
    Copy,
    /// Of somebody else, as far as can be seen.
    Foreign,
}

/// One slot of one host.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SlotRow {
    pub host: String,
    pub slot: String,
    pub kind: Kind,
    /// By the slot's name, where it begins with the prefix.
    pub task: Option<String>,
    pub database: String,
    pub active: bool,
    /// WAL that the host keeps for it.
    pub retained_bytes: u64,
    pub lost: bool,
    pub dropped: bool,
    pub note: String,
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SlotList {
    pub slots: Vec<SlotRow>,
    /// Hosts that could not be asked, and slots that could not be dropped: why.
    pub problems: Vec<String>,
}

/// The comment of a task's publication.
#[must_use]
pub(crate) fn owner(task: &str, state_prefix: &str, cluster: &str) -> String {
    format!(
        "Distributary: publication and slot of task {task}, whose state is {state_prefix} at Kafka \
         cluster {cluster}"
    )
}

/// How the comment of a publication begins whose slot was dropped by the spec.
const EXPIRED: &str = "Distributary: slot dropped as `retry.on_expiry` says, ";
/// Of what a comment says why.
const EXPIRED_CAUSE_BYTES_MAX: usize = 500;

/// Notes in the comment of the publication, which stays for that, that its slot is given up.
///
/// # Errors
/// When the role does not own it, or the server does not answer.
pub(crate) async fn record_expiry(
    session: &Session,
    publication: &str,
    cause: &str,
) -> Result<(), Failure> {
    if session.publication_comment(publication).await?.is_none() {
        return Ok(());
    }
    let cause = &cause[..cause.floor_char_boundary(EXPIRED_CAUSE_BYTES_MAX)];
    let at = session.now().await?;
    Ok(session.sign_publication(publication, &format!("{EXPIRED}{at}: {cause}")).await?)
}

/// Why a slot was given up, where its publication says so.
pub(crate) async fn expiry(
    session: &Session,
    publication: &str,
) -> Result<Option<String>, postgres::Error> {
    let comment = session.publication_comment(publication).await?;
    Ok(comment.and_then(|it| it.strip_prefix(EXPIRED).map(str::to_owned)))
}

/// What a slot is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub prefix: &'a str,
    /// The database of the spec: of others nothing is known.
    pub database: &'a str,
    /// Comment of the publication of the slot's name.
    pub record: Option<&'a str>,
    /// What it would be if the slot is of this cluster.
    pub expected: Option<&'a str>,
    /// The task's internal topics exist.
    pub has_task: bool,
    /// Another host has the task's slot: this one was left by a switchover.
    pub is_left_behind: bool,
}

/// Whose a slot is, and what a person should know of it.
#[must_use]
pub fn judge(slot: &Slot, facts: &Facts<'_>) -> (Kind, String) {
    let foreign = |note: &str| (Kind::Foreign, note.to_owned());
    if !slot.name.starts_with(facts.prefix) || slot.plugin != "pgoutput" {
        return foreign("");
    }
    if slot.synced {
        return (Kind::Copy, "of the primary's slot".into());
    }
    if slot.database != facts.database {
        return foreign("of another database: see it with a spec of that one");
    }
    if slot.temporary {
        return foreign("it ends with its connection");
    }
    match (facts.record, facts.expected) {
        (Some(record), Some(expected)) if record == expected => {}
        (None, _) => return foreign("no publication says that it is of this cluster"),
        (Some(_), _) => return foreign("its publication says that it is of another cluster"),
    }
    match (facts.has_task, facts.is_left_behind, slot.active_pid.is_some()) {
        (true, false, _) => (Kind::Task, String::new()),
        (true, true, true) => (Kind::Task, "in use, though another host has its slot, too".into()),
        (true, true, false) => (Kind::Orphan, "left behind by a switchover".into()),
        (false, _, true) => (Kind::Task, "in use, though its internal topics are gone".into()),
        (false, _, false) => (Kind::Orphan, "its task is gone".into()),
    }
}

/// A host that answered.
struct Asked {
    host: String,
    session: Session,
    is_standby: bool,
    slots: Vec<Slot>,
}

/// Looks at every host of the source; `drop_orphans`: and drops what is an orphan there.
///
/// # Errors
/// When the spec cannot be used, no host or Kafka answers.
pub async fn slots(
    task: &config::Task,
    folder: &Path,
    drop_orphans: bool,
) -> Result<SlotList, Failure> {
    let settings = Settings::new(task, folder)?;
    let mut list = SlotList::default();
    let mut asked = Vec::new();
    for (host, single) in settings.each_host() {
        match ask(&host, &single).await {
            Ok(found) => asked.push(found),
            Err(error) => list.problems.push(format!("{host}: {error}")),
        }
    }
    if asked.is_empty() {
        return Err(Failure::transient(list.problems.join("; ")));
    }
    let kafka = kafka::settings::Settings::new(task, folder)?;
    let names: Vec<String> = asked
        .iter()
        .flat_map(|it| &it.slots)
        .filter_map(|slot| slot.name.strip_prefix(&task.source.slot_prefix))
        .map(str::to_owned)
        .collect();
    let prefix = task.sink.state_prefix.clone();
    // After the slots: a task makes its topics first.
    let known = tokio::task::spawn_blocking(move || tasks(&kafka, &prefix, names));
    let (cluster, known) = known.await??;
    let has = |index: usize, name: &str| {
        let other = |(at, it): (usize, &Asked)| {
            at != index && is_newer(it, &asked[index]) && it.slots.iter().any(|it| it.name == name)
        };
        asked.iter().enumerate().any(other)
    };
    if drop_orphans {
        for it in asked.iter().filter(|it| !it.is_standby) {
            crate::tail::drop_left(&it.session, &task.slot_of(1)).await;
        }
    }
    for (index, it) in asked.iter().enumerate() {
        for slot in &it.slots {
            let name = slot.name.strip_prefix(&task.source.slot_prefix);
            let record = it.session.publication_comment(&slot.name).await?;
            let expected = name.map(|name| owner(name, &task.sink.state_prefix, &cluster));
            let (kind, note) = judge(
                slot,
                &Facts {
                    prefix: &task.source.slot_prefix,
                    database: &task.source.database,
                    record: record.as_deref(),
                    expected: expected.as_deref(),
                    has_task: name.is_some_and(|name| known.contains(name)),
                    is_left_behind: has(index, &slot.name),
                },
            );
            let mut row = row(&it.host, slot, name, kind, note);
            if drop_orphans && kind == Kind::Orphan {
                match remove(it, home(&asked, it, &slot.name), &slot.name).await {
                    Ok(()) => row.dropped = true,
                    Err(error) => {
                        warn!(host = it.host, slot = slot.name, %error, "slot not dropped");
                        list.problems.push(format!("{}: {}: {error}", it.host, slot.name));
                    }
                }
            }
            list.slots.push(row);
        }
    }
    Ok(list)
}

async fn ask(host: &str, settings: &Settings) -> Result<Asked, postgres::Error> {
    let session = Session::connect_any(settings).await?;
    let is_standby = session.is_standby().await?;
    let slots = session.slots("").await?;
    Ok(Asked { host: host.to_owned(), session, is_standby, slots })
}

/// Whether a host took over from another one, with which it has its data in common.
fn is_newer(it: &Asked, than: &Asked) -> bool {
    let (a, b) = (it.session.server(), than.session.server());
    a.system_id == b.system_id && !it.is_standby && (than.is_standby || b.timeline < a.timeline)
}

/// The id of the Kafka cluster, and which of the tasks have their checkpoints there.
fn tasks(
    settings: &kafka::settings::Settings,
    state_prefix: &str,
    names: Vec<String>,
) -> Result<(String, BTreeSet<String>), Failure> {
    let admin = Admin::new(settings)?;
    let cluster = admin.cluster_id()?;
    // What no task can be named is none.
    let topic = |name: String| Some((Names::new(state_prefix, &name).ok()?.checkpoints(), name));
    let (topics, names): (Vec<String>, Vec<String>) = names.into_iter().filter_map(topic).unzip();
    let found = admin.partitions(&topics)?;
    let is_there = |topic: &String| found.get(topic).copied().flatten().is_some();
    let known = std::iter::zip(&topics, names).filter(|(topic, _)| is_there(topic));
    Ok((cluster, known.map(|(_, name)| name).collect()))
}

/// Where what belongs to an orphan can be removed: for the slot of a standby on its primary, unless that has the task's slot
/// itself.
fn home<'a>(asked: &'a [Asked], host: &'a Asked, slot: &str) -> Option<&'a Asked> {
    if !host.is_standby {
        return Some(host);
    }
    let id = host.session.server().system_id;
    let primary = asked.iter().find(|it| !it.is_standby && it.session.server().system_id == id)?;
    primary.slots.iter().all(|it| it.name != slot).then_some(primary)
}

/// The slot, and what belongs to it.
async fn remove(host: &Asked, home: Option<&Asked>, slot: &str) -> Result<(), postgres::Error> {
    host.session.drop_slot(slot).await?;
    let Some(home) = home else { return Ok(()) };
    home.session.drop_ddl_capture(slot).await?;
    home.session.drop_publication(slot).await
}

fn row(host: &str, slot: &Slot, task: Option<&str>, kind: Kind, note: String) -> SlotRow {
    SlotRow {
        host: host.to_owned(),
        slot: slot.name.clone(),
        kind,
        task: task.map(|life| config::streams::task_of_life(life).to_owned()),
        database: slot.database.clone(),
        active: slot.active_pid.is_some(),
        retained_bytes: slot.retained_bytes,
        lost: slot.lost,
        dropped: false,
        note,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            retained_bytes: 0,
            temporary: false,
            failover: false,
            synced: false,
        }
    }

    const OURS: Facts<'static> = Facts {
        prefix: "distributary_",
        database: "shop",
        record: Some("ours"),
        expected: Some("ours"),
        has_task: false,
        is_left_behind: false,
    };

    #[track_caller]
    fn check(slot: &Slot, facts: &Facts<'_>, expected: Kind) {
        assert_eq!(judge(slot, facts).0, expected, "{slot:?} {facts:?}");
    }

    #[test]
    fn only_what_is_ours_unused_and_without_a_task_is_an_orphan() {
        check(&slot(), &OURS, Kind::Orphan);
        check(&slot(), &Facts { has_task: true, ..OURS }, Kind::Task);
        check(&Slot { active_pid: Some(7), ..slot() }, &OURS, Kind::Task);
        check(&slot(), &Facts { record: None, ..OURS }, Kind::Foreign);
        check(&slot(), &Facts { record: Some("another's"), ..OURS }, Kind::Foreign);
        check(&slot(), &Facts { prefix: "dts_", ..OURS }, Kind::Foreign);
        check(&slot(), &Facts { database: "other", ..OURS }, Kind::Foreign);
        check(&Slot { plugin: "wal2json".into(), ..slot() }, &OURS, Kind::Foreign);
        check(&Slot { temporary: true, ..slot() }, &OURS, Kind::Foreign);
        check(&Slot { synced: true, ..slot() }, &OURS, Kind::Copy);
    }

    #[test]
    fn what_a_switchover_left_behind_is_an_orphan_too() {
        let left = Facts { has_task: true, is_left_behind: true, ..OURS };
        check(&slot(), &left, Kind::Orphan);
        check(&Slot { active_pid: Some(7), ..slot() }, &left, Kind::Task);
    }
}
