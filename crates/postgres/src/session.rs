//! SQL sessions.

mod login;

pub(crate) use login::UnsafeLogin;

use crate::Error;
use crate::catalog::Memory;
use crate::hosts::{self, Role};
use crate::replication::Line;
use crate::settings::Settings;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use wal::Lsn;

/// For statements of the task itself; an unattended one must not wait for ever.
const LIMITS: &[(&str, &str)] = &[
    ("lock_timeout", "10000"),
    ("statement_timeout", "300000"),
    ("idle_in_transaction_session_timeout", "0"),
];
/// For snapshots: they read for hours, and write nothing.
const UNLIMITED: &[(&str, &str)] = &[
    ("lock_timeout", "10000"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("default_transaction_read_only", "on"),
];

/// One SQL connection. Dropping it closes the connection.
pub struct Session {
    client: Client,
    /// What carries it.
    connection: tokio::task::AbortHandle,
    server: Server,
    memory: Memory,
}

/// The server at the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// `host:port`
    pub host: String,
    /// `server_version_num`
    pub version: u32,
    /// Stays the same as long as the data directory and its standbys do.
    pub system_id: u64,
    /// Grows by a promotion; 0 on a standby.
    pub timeline: u32,
    /// Of the database.
    pub encoding: String,
    pub is_polardb: bool,
}

impl Server {
    /// The line of WAL that it is on.
    #[must_use]
    pub fn line(&self) -> Line {
        Line { system_id: self.system_id, timeline: self.timeline }
    }
}

/// Where the sizes of tables come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sizes {
    /// Their files, as they are. Waits for whoever alters a table, or waits to.
    Now,
    /// The last vacuum or analyze.
    Noted,
}

impl Session {
    /// Connects to the read-write host.
    ///
    /// # Errors
    /// When there is none, or it refuses.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        Self::connect_read_write(settings, LIMITS).await
    }

    /// Connects to the host that has the task's slot, or shall have it: the read-write one, or a standby
    /// (`source.read_from`).
    ///
    /// # Errors
    /// When no host can be told to be that one, or it refuses.
    pub async fn connect_slot(settings: &Settings) -> Result<Self, Error> {
        Self::connect_of_slot(settings, LIMITS).await
    }

    /// As [`Self::connect_slot`], for reading a snapshot that was exported there: read-only, and statements may take long.
    ///
    /// # Errors
    /// As [`Self::connect_slot`].
    pub async fn connect_snapshot(settings: &Settings) -> Result<Self, Error> {
        Self::connect_of_slot(settings, UNLIMITED).await
    }

    /// As [`Self::connect`], for reading chunks: read-only, and statements may take long. Never a standby:
    /// `pg_current_snapshot()` leaves out there what is in progress.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_chunks(settings: &Settings) -> Result<Self, Error> {
        Self::connect_read_write(settings, UNLIMITED).await
    }

    /// Connects to the first host that answers, a standby too.
    ///
    /// # Errors
    /// When none answers, or it refuses.
    pub async fn connect_any(settings: &Settings) -> Result<Self, Error> {
        let any = async |host: &_| {
            let (session, _) = login::login(settings, host, LIMITS).await?;
            Ok((session, Role::ReadWrite))
        };
        hosts::read_write(settings, any).await
    }

    async fn connect_of_slot(
        settings: &Settings,
        limits: &'static [(&'static str, &'static str)],
    ) -> Result<Self, Error> {
        let connect = async |host: &_| login::login(settings, host, limits).await;
        let has_slot = async |session: &mut Self| session.has_slot(&settings.0.slot).await;
        hosts::of_slot(settings, connect, has_slot).await
    }

    async fn connect_read_write(
        settings: &Settings,
        limits: &'static [(&'static str, &'static str)],
    ) -> Result<Self, Error> {
        let connect = async |host: &_| login::login(settings, host, limits).await;
        hosts::read_write(settings, connect).await
    }

    /// The client, for statements.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Closes the connection at once, whatever the server still sends.
    pub(crate) fn abandon(&self) {
        self.connection.abort();
    }

    /// The server, as it was when the session began.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether the server is in recovery now.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn is_standby(&self) -> Result<bool, Error> {
        let doing = "asking the server for its role";
        let row = self.client.query_typed_one("SELECT pg_is_in_recovery()", &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(Error::reading(doing))
    }

    /// A position that everything committed before the call lies below, also what was committed with
    /// `synchronous_commit = off` and is not on disk yet: it is brought there.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn wal_end(&self) -> Result<Lsn, Error> {
        // A commit flushes only when its transaction has written something: this is the least that
        // can be. It needs no rights; where the server is read-only nothing is left to flush.
        let flush = "BEGIN; SET LOCAL synchronous_commit = local; \
             SELECT pg_logical_emit_message(true, 'distributary.flush', ''); COMMIT";
        if let Err(error) = self.client.batch_execute(flush).await {
            self.client.batch_execute("ROLLBACK").await.map_err(Error::reading("rolling back"))?;
            tracing::debug!(error = %Error::reading("flushing the WAL")(error), "WAL not flushed");
        }
        self.wal_flushed().await
    }

    /// The server's time in UTC, for people.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn now(&self) -> Result<String, Error> {
        let statement = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"')";
        let row = self.client.query_typed_one(statement, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(Error::reading("asking for the time"))
    }

    /// Those of the tables that take at least so many bytes, with what inherits from them.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn larger_than(
        &self,
        oids: &[u32],
        bytes_min: u64,
        sizes: Sizes,
    ) -> Result<Vec<u32>, Error> {
        let doing = "asking for the size of tables";
        let size = match sizes {
            Sizes::Now => "coalesce(pg_table_size(t.oid), 0)",
            Sizes::Noted => {
                "8192::bigint * (SELECT coalesce(sum(p.relpages), 0) FROM pg_class c, pg_class p \
                 WHERE c.oid = t.oid AND p.oid IN (c.oid, c.reltoastrelid))"
            }
        };
        let statement = &format!(
            "WITH RECURSIVE tree (root, oid) AS ( \
               SELECT o, o FROM unnest($1::oid[]) o UNION ALL \
               SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid ) \
             SELECT root FROM tree t GROUP BY root HAVING $2 <= sum({size})"
        );
        let bytes_min = i64::try_from(bytes_min).unwrap_or(i64::MAX);
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&oids, Type::OID_ARRAY), (&bytes_min, Type::INT8)];
        let rows = self.query(doing, statement, &parameters).await?;
        let oid = |row: &tokio_postgres::Row| row.try_get(0);
        rows.iter().map(oid).collect::<Result<_, _>>().map_err(Error::reading(doing))
    }

    /// The end of the WAL that is on disk.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn wal_flushed(&self) -> Result<Lsn, Error> {
        let statement = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
             ELSE pg_current_wal_flush_lsn() END::text";
        let row = self.client.query_typed_one(statement, &[]).await;
        let text: String = row
            .and_then(|row| row.try_get(0))
            .map_err(Error::reading("asking for the end of the WAL"))?;
        text.parse().map_err(|error: wal::lsn::InvalidLsn| Error::protocol(error.to_string()))
    }
}
