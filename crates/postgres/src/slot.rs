//! Replication slots: what they hold, who uses them, and getting rid of them.

use crate::quote::literal;
use crate::replication::FAILOVER_SINCE;
use crate::{Error, Session};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tracing::{info, warn};
use wal::Lsn;

/// First version that says whether WAL which a slot needs was removed.
pub(crate) const STATUS_SINCE: u32 = 130_000;

/// How long a walsender may take to end after it was told, or after its client has gone.
const INACTIVE_MAX: Duration = Duration::from_secs(10);
/// Between two looks at a slot that is still in use.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A replication slot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slot {
    pub name: String,
    /// Output plugin; empty for a physical slot.
    pub plugin: String,
    /// Empty for a physical slot.
    pub database: String,
    /// The walsender that uses it.
    pub active_pid: Option<i32>,
    /// Who is connected to that walsender.
    pub application: Option<String>,
    /// Zero for a physical slot.
    pub confirmed_flush: Lsn,
    pub restart_lsn: Option<Lsn>,
    /// The server has removed WAL that the slot needs: it can never be read again.
    pub lost: bool,
    /// It is lost because the primary of this standby has removed rows of the catalog that it needs (16+).
    pub conflicting: bool,
    /// WAL that the server keeps for it.
    pub retained_bytes: u64,
    pub temporary: bool,
    /// Standbys copy it (17+).
    pub failover: bool,
    /// It is such a copy (17+).
    pub synced: bool,
}

impl Session {
    /// The slot of this name, on whatever database.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn slot(&self, name: &str) -> Result<Option<Slot>, Error> {
        let slots = self.slots_where("s.slot_name = $1", name).await?;
        Ok(slots.into_iter().next())
    }

    /// Whether the server has a logical slot of this name that is no copy of its primary's.
    pub(crate) async fn has_slot(&self, name: &str) -> Result<bool, Error> {
        let statement = own_slot(name)?;
        let rows = self.query("replication slots", &statement, &[]).await?;
        Ok(!rows.is_empty())
    }

    /// Slots whose names begin so, by name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn slots(&self, prefix: &str) -> Result<Vec<Slot>, Error> {
        self.slots_where("left(s.slot_name::text, length($1)) = $1", prefix).await
    }

    async fn slots_where(&self, condition: &str, name: &str) -> Result<Vec<Slot>, Error> {
        let lost = if self.server().version < STATUS_SINCE {
            // The server never removes WAL of a slot here; without a position there is nothing to
            // read.
            "s.restart_lsn IS NULL AND s.slot_type = 'logical'"
        } else {
            "coalesce(s.wal_status = 'lost', s.slot_type = 'logical' AND s.restart_lsn IS NULL)"
        };
        let copied = if self.server().version < FAILOVER_SINCE {
            "false, false"
        } else {
            "s.failover, s.synced"
        };
        let statement = format!(
            "SELECT s.slot_name::text, s.plugin::text, s.database::text, s.active_pid, \
               a.application_name, (s.confirmed_flush_lsn - '0/0'::pg_lsn)::int8, \
               (s.restart_lsn - '0/0'::pg_lsn)::int8, {lost}, \
               greatest(coalesce(pg_wal_lsn_diff(e.lsn, s.restart_lsn), 0), 0)::int8, s.temporary, {copied}, \
               coalesce((to_jsonb(s) ->> 'conflicting')::bool, false) \
             FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                          ELSE pg_current_wal_lsn() END AS lsn) e, \
               pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
             WHERE {condition} ORDER BY 1"
        );
        let rows = self.query("replication slots", &statement, &[(&name, Type::TEXT)]).await?;
        rows.iter().map(slot).collect::<Result<_, _>>().map_err(Error::reading("replication slots"))
    }

    /// Drops a slot; one that is not there is fine. Waits a moment for whoever has just left it.
    ///
    /// # Errors
    /// [`Error::SlotInUse`] when it stays in use.
    pub async fn drop_slot(&self, name: &str) -> Result<(), Error> {
        let until = Instant::now() + INACTIVE_MAX;
        loop {
            let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
            let statement = "SELECT pg_drop_replication_slot($1::text::name)::text";
            let Err(error) = self.client().query_typed(statement, &parameters).await else {
                info!(slot = name, "replication slot dropped");
                return Ok(());
            };
            match error.code() {
                Some(code) if *code == SqlState::UNDEFINED_OBJECT => return Ok(()),
                Some(code) if *code == SqlState::OBJECT_IN_USE && Instant::now() < until => {}
                Some(code) if *code == SqlState::OBJECT_IN_USE => {
                    let slot = self.slot(name).await?;
                    return slot.map_or(Ok(()), |slot| Err(in_use(slot)));
                }
                Some(_) | None => return Err(Error::reading("dropping a replication slot")(error)),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Ends the walsender that uses the slot if its application is exactly this one, and waits
    /// until the slot is free. A slot that nobody uses is fine.
    ///
    /// # Errors
    /// [`Error::SlotInUse`] when somebody else uses it; [`Error::SlotBusy`] when it does not become
    /// free in time, which may pass; [`Error::SlotMissing`].
    pub async fn end_stale_walsender(&self, slot: &str, application: &str) -> Result<(), Error> {
        let until = Instant::now() + INACTIVE_MAX;
        let mut is_told = false;
        loop {
            let Some(found) = self.slot(slot).await? else {
                return Err(Error::SlotMissing { slot: slot.into() });
            };
            let Some(pid) = found.active_pid else { return Ok(()) };
            // The slot can be held a moment longer than the walsender is shown.
            let is_other = found.application.as_deref().is_some_and(|it| it != application);
            if is_other {
                return Err(in_use(found));
            }
            // A walsender in the middle of a long decoding can take its time.
            if until < Instant::now() {
                return Err(Error::SlotBusy { slot: slot.into(), pid });
            }
            if !is_told && found.application.is_some() {
                warn!(slot, pid, "ending a walsender that an earlier process has left behind");
                self.terminate(slot, application).await?;
                is_told = true;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Looks and ends in one statement: by then the number may belong to somebody else's process.
    async fn terminate(&self, slot: &str, application: &str) -> Result<(), Error> {
        let statement = "SELECT pg_terminate_backend(a.pid) FROM pg_replication_slots s \
                         JOIN pg_stat_activity a ON a.pid = s.active_pid \
                         WHERE s.slot_name = $1 AND a.application_name = $2";
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&slot, Type::TEXT), (&application, Type::TEXT)];
        let Err(error) = self.client().query_typed(statement, &parameters).await else {
            return Ok(());
        };
        if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            return Err(Error::NotAuthorized {
                doing: format!("ending the walsender of slot `{slot}`"),
                remedy: "connect as the role that started it, or GRANT pg_signal_backend".into(),
            });
        }
        Err(Error::reading("ending a walsender")(error))
    }
}

/// Finds a logical slot that is no copy of the primary's (17+: what a standby copies has no use there before it is promoted).
pub(crate) fn own_slot(name: &str) -> Result<String, Error> {
    Ok(format!(
        "SELECT s.slot_name::text FROM pg_replication_slots s \
         WHERE s.slot_name = {} AND s.slot_type = 'logical' \
           AND NOT (pg_is_in_recovery() AND coalesce((to_jsonb(s) ->> 'synced')::bool, false))",
        literal(name)?
    ))
}

fn slot(row: &Row) -> Result<Slot, tokio_postgres::Error> {
    let text = |index| row.try_get::<_, Option<String>>(index).map(Option::unwrap_or_default);
    let lsn = |index| {
        row.try_get::<_, Option<i64>>(index).map(|lsn| lsn.map(|lsn| Lsn(lsn.cast_unsigned())))
    };
    let retained: i64 = row.try_get(8)?;
    Ok(Slot {
        name: row.try_get(0)?,
        plugin: text(1)?,
        database: text(2)?,
        active_pid: row.try_get(3)?,
        application: row.try_get(4)?,
        confirmed_flush: lsn(5)?.unwrap_or(Lsn::ZERO),
        restart_lsn: lsn(6)?,
        lost: row.try_get(7)?,
        retained_bytes: u64::try_from(retained).unwrap_or(0),
        temporary: row.try_get(9)?,
        failover: row.try_get(10)?,
        synced: row.try_get(11)?,
        conflicting: row.try_get(12)?,
    })
}

fn in_use(slot: Slot) -> Error {
    Error::SlotInUse {
        slot: slot.name,
        pid: slot.active_pid.unwrap_or_default(),
        application: slot.application.unwrap_or_default(),
    }
}
