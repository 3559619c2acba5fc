//! What can go wrong with a PostgreSQL server, and what to do about it.
//!
//! No text here holds a secret or a row value: of a server's message only the primary line is
//! taken, never its detail.

mod sqlstate;

pub(crate) use sqlstate::STREAMING;

use std::error::Error as _;
use wal::Lsn;

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("PostgreSQL at {host} cannot be used now: {reason}")]
    Unreachable { host: String, reason: String },
    #[error(
        "PostgreSQL refuses the login: {reason}; check source.user, source.password and the \
         server's pg_hba.conf"
    )]
    Authentication { reason: String },
    #[error("TLS with {host} failed: {reason}; check source.tls and the server's certificate")]
    Tls { host: String, reason: String },
    #[error(
        "none of {hosts} is the read-write server, all are in recovery; add the primary to \
         source.hosts, or wait for the end of the failover"
    )]
    NoPrimary { hosts: String },
    #[error(
        "none of {hosts} is a standby, and `source.read_from` wants one; add it to source.hosts, or set \
         `source.read_from: primary`"
    )]
    NoStandby { hosts: String },
    #[error(
        "the standby has replayed WAL up to {replayed} and not up to {wanted}: it lags, or has lost its primary; \
         look at pg_stat_wal_receiver there"
    )]
    StandbyBehind { replayed: wal::Lsn, wanted: wal::Lsn },
    /// What PgBouncer says to whoever connects as this does.
    #[error(
        "a pooler answers there, not PostgreSQL ({reason}): name the server itself in `source.hosts`, with its own port; \
         a task needs sessions of its own and a replication connection to the same server"
    )]
    Pooler { reason: String },
    #[error("{reason}; check source.database")]
    DatabaseMissing { reason: String },
    #[error("not allowed: {doing}; {remedy}")]
    NotAuthorized { doing: String, remedy: String },
    #[error("{reason}; set wal_level = logical in the server's configuration and restart it")]
    WalLevel { reason: String },
    #[error(
        "{reason}; drop a replication slot that nobody uses, or raise max_replication_slots and \
         restart the server"
    )]
    NoFreeSlot { reason: String },
    #[error(
        "replication slot `{slot}` is in use by process {pid} ({application}); stop it, or run \
         this task under another name"
    )]
    SlotInUse { slot: String, pid: i32, application: String },
    /// This task's own walsender of before, or one that has not told its name yet.
    #[error(
        "replication slot `{slot}` is still held by process {pid}, which is about to end; the slot is \
         waited for"
    )]
    SlotBusy { slot: String, pid: i32 },
    #[error(
        "replication slot `{slot}` does not exist; someone dropped it, or it is on another server: \
         begin again with --reseed"
    )]
    SlotMissing { slot: String },
    #[error(
        "the server no longer keeps the WAL of the replication slot: {reason}; begin again with \
         --reseed, and raise max_slot_wal_keep_size"
    )]
    SlotLost { reason: String },
    #[error(
        "replication slot `{slot}` was advanced to {confirmed} by someone else, behind it \
         {requested} is lost; begin again with --reseed"
    )]
    SlotAhead { slot: String, confirmed: Lsn, requested: Lsn },
    #[error(
        "the server's WAL ends at {end}, before {requested}: it is another server, or it was \
         restored to an earlier time; begin again with --reseed"
    )]
    ServerBehind { requested: Lsn, end: Lsn },
    #[error(
        "another server, on timeline {timeline}, has taken the place of the one that was asked"
    )]
    ServerChanged { timeline: u32 },
    #[error(
        "publication missing: {reason}; rows written while it is missing are lost to the slot, \
         so begin again with --reseed"
    )]
    PublicationMissing { reason: String },
    #[error("table {table} does not exist any more; it was dropped or renamed")]
    TableMissing { table: String },
    #[error(
        "table {table} was rewritten or truncated since the snapshot was taken; the snapshot must \
         be taken again"
    )]
    TableRewritten { table: String },
    #[error(
        "{doing}: others held a lock on {tables} for too long; it is tried again; if it does not \
         pass, end the transaction that holds it (pg_stat_activity, pg_prepared_xacts)"
    )]
    LockTimeout { doing: String, tables: String },
    #[error("PostgreSQL answered what is no answer: {reason}")]
    Protocol { reason: String },
    /// A text that UTF-8 has no equivalent for, or that is none in its database's encoding.
    #[error(
        "the server cannot send a text as UTF-8: {reason}; mend the row before it is written (what is in \
         the WAL already stays so), or set `source.sql_ascii` to the database's encoding, so that texts \
         are decoded here and `sink.unrepresentable` says what becomes of such a row"
    )]
    Untranslatable { reason: String },
    /// A type within a type of a column cannot be sent in binary form.
    #[error(
        "the server cannot send a value in binary form: {reason}; set `source.wire` to auto or text"
    )]
    NoBinaryForm { reason: String },
    /// A change that is larger than a message of the server may be, 1 GiB.
    #[error(
        "the server cannot send a change of more than 1 GiB: {reason}; what is in the WAL already stays so: run with \
         --reseed, and set `source.replica_identity: keep` and an identity by key for its table, so that no old row is \
         sent; `source.wire: binary` sends a `bytea` in half of its text"
    )]
    ChangeTooLarge { reason: String },
    #[error("{doing}: PostgreSQL reports {code}: {message}")]
    Server { code: String, message: String, doing: String },
    #[error("{0}")]
    Config(String),
    #[error("the connection to PostgreSQL ended: {reason}")]
    Closed { reason: String },
    #[error("the replication stream is damaged: {0}")]
    Damaged(#[from] wal::frame::Error),
    #[error("not supported: {what}")]
    Unsupported { what: String },
}

impl Error {
    /// Whether the server may be well again without anybody doing anything to the task: a lost or
    /// refused connection, a server that starts, stops or changes its role.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NoPrimary { .. }
            | Self::NoStandby { .. }
            | Self::StandbyBehind { .. }
            | Self::Closed { .. }
            | Self::ServerChanged { .. } => true,
            Self::Authentication { .. }
            | Self::Pooler { .. }
            | Self::Tls { .. }
            | Self::DatabaseMissing { .. }
            | Self::NotAuthorized { .. }
            | Self::WalLevel { .. }
            | Self::NoFreeSlot { .. }
            | Self::SlotInUse { .. }
            | Self::SlotBusy { .. }
            | Self::SlotMissing { .. }
            | Self::SlotLost { .. }
            | Self::SlotAhead { .. }
            | Self::ServerBehind { .. }
            | Self::PublicationMissing { .. }
            | Self::TableMissing { .. }
            | Self::TableRewritten { .. }
            | Self::LockTimeout { .. }
            | Self::Protocol { .. }
            | Self::Untranslatable { .. }
            | Self::NoBinaryForm { .. }
            | Self::ChangeTooLarge { .. }
            | Self::Server { .. }
            | Self::Config(_)
            | Self::Damaged(_)
            | Self::Unsupported { .. } => false,
        }
    }

    /// For `map_err`: what a statement was for, with what the server or the client said.
    pub(crate) fn reading(doing: impl Into<String>) -> impl Fn(tokio_postgres::Error) -> Self {
        let doing = doing.into();
        move |error| Self::from_client(&error, &doing)
    }

    pub(crate) fn table_gone(oid: u32) -> Self {
        Self::TableMissing { table: format!("with oid {oid}") }
    }

    pub(crate) fn lock_timeout(doing: impl Into<String>, tables: impl Into<String>) -> Self {
        Self::LockTimeout { doing: doing.into(), tables: tables.into() }
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol { reason: reason.into() }
    }

    pub(crate) fn closed(reason: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self::Closed { reason: reason.to_string() }
    }

    /// An error of the SQL client on an open session.
    pub(crate) fn from_client(error: &tokio_postgres::Error, doing: &str) -> Self {
        if let Some(refused) = error.as_db_error() {
            return Self::from_server(refused.code().code(), refused.message(), doing);
        }
        let Some(cause) = error.source() else {
            return if error.is_closed() {
                Self::closed(error)
            } else {
                Self::protocol(format!("{doing}: {error}"))
            };
        };
        if cause.is::<std::io::Error>() {
            return Self::closed(cause);
        }
        Self::protocol(format!("{doing}: {error}: {cause}"))
    }

    /// An `ErrorResponse` of the server.
    pub(crate) fn from_server(code: &str, message: &str, doing: &str) -> Self {
        sqlstate::error(code, message, doing)
    }
}
