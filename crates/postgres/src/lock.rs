//! Locks on users' tables: waited for a moment, several times, never for long.
//!
//! Whoever waits for a strong lock makes everybody wait who comes after.

use crate::{Error, Session};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tracing::info;

/// More than `deadlock_timeout`, after which an automatic vacuum in the way is ended by the server.
pub(crate) const WAIT: &str = "1500ms";
const ATTEMPTS_MAX: u32 = 8;
/// Users get this long to go on between two attempts; longer each time.
const PAUSE: Duration = Duration::from_millis(250);

/// What a statement does, for whom it may have to wait, and what it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Locking<'a> {
    /// For people, e.g. `adding to publication x`.
    pub(crate) doing: &'a str,
    /// The tables, for people.
    pub(crate) tables: &'a str,
    /// What lets the role do it.
    pub(crate) remedy: &'a str,
}

impl Session {
    /// Runs statements as one transaction. Either all of them take effect, or none.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] when users hold the tables all the time; whatever the server refuses.
    pub(crate) async fn with_short_locks(
        &self,
        what: Locking<'_>,
        statements: &str,
    ) -> Result<(), Error> {
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            match self.with_short_locks_once(what, statements).await {
                Err(Error::LockTimeout { .. }) if attempt < ATTEMPTS_MAX => {
                    info!(attempt, tables = what.tables, "{} waits for users", what.doing);
                }
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(Duration::from_secs(2));
        }
        Err(Error::lock_timeout(what.doing, what.tables))
    }

    /// One attempt of [`Self::with_short_locks`].
    pub(crate) async fn with_short_locks_once(
        &self,
        what: Locking<'_>,
        statements: &str,
    ) -> Result<(), Error> {
        // Several statements in one message are one transaction: nothing stays open when it fails
        // or when nobody waits for it any more.
        let statements = format!("SET LOCAL lock_timeout = '{WAIT}'; {statements}");
        let Err(error) = self.client().batch_execute(&statements).await else { return Ok(()) };
        let code = error.code();
        let is_busy = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        if code.is_some_and(|code| is_busy.contains(code)) {
            return Err(Error::lock_timeout(what.doing, what.tables));
        }
        if code == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            let reason = error.as_db_error().map(tokio_postgres::error::DbError::message);
            let doing = format!("{} ({})", what.doing, reason.unwrap_or("not allowed"));
            return Err(Error::NotAuthorized { doing, remedy: what.remedy.to_owned() });
        }
        if code == Some(&SqlState::UNDEFINED_TABLE) {
            return Err(Error::TableMissing { table: what.tables.to_owned() });
        }
        Err(Error::reading("statement")(error))
    }
}
