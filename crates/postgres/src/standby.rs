//! A standby as the source of the stream (`source.read_from: standby`): what its primary must do for it.
//!
//! A slot can be made on a standby since PostgreSQL 16. It begins where the primary has written down its running
//! transactions, which an idle primary does not do by itself.

use crate::replication::{CreatedSlot, Replication};
use crate::{Error, Session};
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tracing::info;
use wal::Lsn;

/// First version whose standbys decode.
pub(crate) const STANDBY_SINCE: u32 = 160_000;
/// Makes the primary write down its running transactions; only superusers may, unless it was granted to others.
pub(crate) const LOG_RUNNING: &str = "pg_log_standby_snapshot()";
/// Between two records of running transactions: a slot needs several where transactions are open.
const RECORD_EVERY: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A standby that lags for longer is told of.
const REPLAY_MAX: Duration = Duration::from_secs(60);

/// Makes a slot as [`Replication::create_slot`] does; where that is a standby, `primary` writes what the slot waits for.
///
/// # Errors
/// As [`Replication::create_slot`]; when the primary does not answer.
pub async fn create_slot(
    replication: &mut Replication,
    primary: &Session,
    name: &str,
    failover: bool,
    temporary: bool,
) -> Result<CreatedSlot, Error> {
    if !replication.is_standby() {
        return replication.create_slot(name, failover, temporary).await;
    }
    // It cannot be copied to other standbys.
    let created = replication.create_slot(name, false, temporary);
    tokio::select! {
        created = created => created,
        Err(error) = primary.log_running() => Err(error),
    }
}

impl Session {
    /// Waits until this standby has replayed everything below `lsn`.
    ///
    /// # Errors
    /// [`Error::StandbyBehind`] after a minute; when the server does not answer.
    pub async fn await_replayed(&self, lsn: Lsn) -> Result<(), Error> {
        let until = Instant::now() + REPLAY_MAX;
        loop {
            let replayed = self.wal_flushed().await?;
            if lsn <= replayed {
                return Ok(());
            }
            if until < Instant::now() {
                return Err(Error::StandbyBehind { replayed, wanted: lsn });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Has this primary write down its running transactions again and again.
    async fn log_running(&self) -> Result<Infallible, Error> {
        let statement = format!("SELECT {LOG_RUNNING}::text");
        let mut may_ask = true;
        loop {
            if may_ask && let Err(error) = self.client().query_typed(&statement, &[]).await {
                may_ask = error.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE);
                if may_ask {
                    return Err(Error::reading("asking for running transactions")(error));
                }
                info!(
                    "the role may not execute {LOG_RUNNING}: the new slot waits for the primary, which writes down \
                     its running transactions every 15 s"
                );
            }
            if !may_ask {
                // The server does so only where something was written since.
                self.wal_end().await?;
            }
            tokio::time::sleep(RECORD_EVERY).await;
        }
    }
}
