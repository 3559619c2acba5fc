//! How a task's slot fares on its server: what may become of the WAL that it needs, and who holds it back.

use crate::replication::FAILOVER_SINCE;
use crate::slot::STATUS_SINCE;
use crate::{Error, Session};
use std::time::Duration;
use tokio_postgres::types::Type;

/// At one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SlotHealth {
    /// WAL that the server keeps for the slot.
    pub retained_bytes: u64,
    pub wal: WalStatus,
    /// WAL that may still be written until the slot is in danger (`safe_wal_size`); `None`: no limit.
    pub safe_bytes: Option<u64>,
    /// `max_slot_wal_keep_size`; `None`: no limit.
    pub keep_bytes_max: Option<u64>,
    /// The transaction that has written and is open for longest, which the slot cannot pass.
    pub oldest: Option<OldTransaction>,
    /// Standbys that the slot waits for and that are not connected (design.md, server fact 11).
    pub standbys_missing: Vec<String>,
}

/// `wal_status` of `pg_replication_slots`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WalStatus {
    /// `reserved`, `extended`, or a server that does not say it and removes nothing.
    #[default]
    Kept,
    /// The next checkpoint may remove what the slot needs.
    Unreserved,
    /// It is removed.
    Lost,
}

/// An open transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldTransaction {
    /// For people; no statement.
    pub who: String,
    pub age: Duration,
}

impl Session {
    /// How the slot fares; `None`: there is none of this name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn slot_health(&self, slot: &str) -> Result<Option<SlotHealth>, Error> {
        let version = self.server().version;
        let wal = if version < STATUS_SINCE {
            "NULL::text, NULL::int8, NULL::int8"
        } else {
            "s.wal_status::text, s.safe_wal_size, (SELECT setting::int8 FROM pg_settings \
             WHERE name = 'max_slot_wal_keep_size')"
        };
        // A slot that has standbys copy it gives out nothing that these standbys do not have.
        let missing = if version < FAILOVER_SINCE {
            "NULL::text[]"
        } else {
            "(SELECT array_agg(w.name) FROM (SELECT trim(both ' \"' from n) AS name FROM \
              unnest(string_to_array(nullif((SELECT setting FROM pg_settings \
                WHERE name = 'synchronized_standby_slots'), ''), ',')) n) w \
              WHERE s.failover AND NOT EXISTS (SELECT FROM pg_replication_slots p \
                WHERE p.slot_name = w.name AND p.active))"
        };
        let statement = format!(
            "SELECT greatest(coalesce(pg_wal_lsn_diff(e.lsn, s.restart_lsn), 0), 0)::int8, {wal}, \
               o.who, o.age::int8, {missing} \
             FROM pg_replication_slots s, \
               (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                       ELSE pg_current_wal_lsn() END AS lsn) e \
               LEFT JOIN LATERAL (SELECT who, age FROM ( \
                 SELECT concat('pid ', a.pid, ' (', a.usename, ', ', a.application_name, ')') AS who, \
                   extract(epoch FROM clock_timestamp() - a.xact_start) AS age \
                 FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.xact_start IS NOT NULL \
                 UNION ALL \
                 SELECT concat('prepared transaction ', quote_literal(p.gid)), \
                   extract(epoch FROM clock_timestamp() - p.prepared) FROM pg_prepared_xacts p \
               ) t ORDER BY age DESC LIMIT 1) o ON true \
             WHERE s.slot_name = $1"
        );
        let rows = self.query("slot health", &statement, &[(&slot, Type::TEXT)]).await?;
        let read = || -> Result<Option<SlotHealth>, tokio_postgres::Error> {
            let Some(row) = rows.first() else { return Ok(None) };
            let bytes = |it: i64| u64::try_from(it).unwrap_or(0);
            let wal = match row.try_get::<_, Option<String>>(1)?.as_deref() {
                Some("unreserved") => WalStatus::Unreserved,
                Some("lost") => WalStatus::Lost,
                Some(_) | None => WalStatus::Kept,
            };
            // MiB; -1: no limit.
            let keep = row.try_get::<_, Option<i64>>(3)?.filter(|mib| 0 <= *mib);
            let age = row.try_get::<_, Option<i64>>(5)?.map(|it| Duration::from_secs(bytes(it)));
            let who: Option<String> = row.try_get(4)?;
            Ok(Some(SlotHealth {
                retained_bytes: bytes(row.try_get(0)?),
                wal,
                safe_bytes: row.try_get::<_, Option<i64>>(2)?.map(bytes),
                keep_bytes_max: keep.map(|mib| bytes(mib) << 20),
                oldest: who.zip(age).map(|(who, age)| OldTransaction { who, age }),
                standbys_missing: row.try_get::<_, Option<Vec<String>>>(6)?.unwrap_or_default(),
            }))
        };
        read().map_err(Error::reading("slot health"))
    }
}
