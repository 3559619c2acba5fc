//! The replication connection: slots and the logical stream (PostgreSQL, "Streaming Replication
//! Protocol").

mod history;
mod pace;
mod stream;

pub use history::TimelineHistory;
pub use stream::{Received, WalStream};

use crate::Error;
use crate::connection::Connection;
use crate::ddl::MESSAGES_SINCE;
use crate::hosts::{self, Role};
use crate::quote::{identifier, literal};
use crate::settings::{self, Settings};
use crate::slot;
use config::Choice;
use std::time::Duration;
use tracing::debug;
use wal::Lsn;

/// Failover slots, and the new form of the options of CREATE_REPLICATION_SLOT.
pub(crate) const FAILOVER_SINCE: u32 = 170_000;
/// Transactions in progress.
pub(crate) const STREAMING_SINCE: u32 = 140_000;
const NEW_SYNTAX_SINCE: u32 = 150_000;
/// What a server may hold back of a transaction in progress comes behind its commit, before the first record: 64 MB, where
/// nobody has said otherwise. Spooled here it costs less than in the walsender's own files, so 4 MB are enough.
const SENT_BEFORE: &str = "SELECT set_config(name, '4MB', false) FROM pg_settings \
     WHERE name = 'logical_decoding_work_mem' AND source = 'default'";
/// `undefined_file`
const NO_SUCH_FILE: &str = "58P01";
/// Reports at least this often.
const STATUS_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// A walsender that waits for a command.
#[derive(Debug)]
pub struct Replication {
    connection: Connection,
    version: u32,
    role: Role,
    /// `wal_sender_timeout`; zero: none.
    sender_timeout: Duration,
}

/// What IDENTIFY_SYSTEM says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    pub system_id: u64,
    pub timeline: u32,
    /// End of the flushed WAL.
    pub wal_end: Lsn,
}

/// By which way a connection has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Way {
    /// Nothing in between has logged in for us.
    pub(crate) is_direct: bool,
    /// When the server was started, in its own words.
    pub(crate) started: String,
    /// Our settings have arrived.
    pub(crate) has_settings: bool,
}

/// A line of WAL: what has the same one has the same records at the same positions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Line {
    pub system_id: u64,
    pub timeline: u32,
}

impl Line {
    /// Compares the line that a server was found on with the one that it should be on.
    ///
    /// # Errors
    /// [`Error::ServerChanged`]
    pub fn is(self, wanted: Self) -> Result<(), Error> {
        let Self { timeline, .. } = self;
        if self == wanted { Ok(()) } else { Err(Error::ServerChanged { timeline }) }
    }
}

/// A slot that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreatedSlot {
    /// What commits above it is streamed.
    pub consistent_point: Lsn,
    /// Name of the exported snapshot, which shows what committed up to there. It lives as long as the
    /// connection does nothing else.
    pub snapshot: String,
}

/// How to stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamOptions {
    pub slot: String,
    /// Not below what the slot has confirmed.
    pub from: Lsn,
    /// What was decided holds for a server on this line only. `None`: nothing was.
    pub line: Option<Line>,
    pub publications: Vec<String>,
    /// `proto_version` of pgoutput.
    pub protocol: u32,
    /// Messages of `pg_logical_emit_message`; none come from older servers than 14.
    pub messages: bool,
    /// Values in binary form (14+).
    pub binary: bool,
    /// Large transactions while they are in progress (14+, protocol 2).
    pub streaming: bool,
}

impl Replication {
    /// Connects to the host that has the task's slot, or shall have it: the one that accepts writes, or a standby
    /// (`source.read_from`).
    ///
    /// # Errors
    /// When no host can be told to be that one, or the login is refused.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let connect =
            async |host: &_| Self::over(settings, Connection::open(settings, host).await?).await;
        let statement = slot::own_slot(&settings.0.slot)?;
        let has_slot = async |it: &mut Self| {
            Ok(!it.connection.query("looking for the slot", &statement).await?.is_empty())
        };
        hosts::of_slot(settings, connect, has_slot).await
    }

    async fn over(settings: &Settings, mut connection: Connection) -> Result<(Self, Role), Error> {
        let doing = "asking the server what it is";
        let asked = "SELECT pg_is_in_recovery(), current_setting('server_version_num'), \
             (SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'), \
             current_setting('server_encoding')";
        let rows = connection.query(doing, asked).await?;
        let [Some(is_in_recovery), Some(version), Some(timeout_ms), Some(encoding)] =
            one_row(&rows)?
        else {
            return Err(Error::protocol("the server does not say what it is"));
        };
        let wrong = |_| Error::protocol("the server's version or timeout is no number");
        let version = version.parse().map_err(wrong)?;
        let sender_timeout = Duration::from_millis(timeout_ms.parse().map_err(wrong)?);
        let unlimited = settings::unlimited(version);
        if !unlimited.is_empty() {
            connection.query(doing, unlimited).await?;
        }
        if settings.takes_bytes(encoding) {
            connection.query(doing, settings::BYTES).await?;
        }
        debug!(version, ?sender_timeout, "replication connection opened");
        let role = Role::new(is_in_recovery == "t");
        Ok((Self { connection, version, role, sender_timeout }, role))
    }

    /// Whether the server was in recovery when the connection was opened.
    pub(crate) fn is_standby(&self) -> bool {
        self.role == Role::Standby
    }

    /// What is told by the way here: whether the process that answers is the one that was logged in to, and
    /// when its server was started.
    ///
    /// # Errors
    /// When the connection ends.
    pub(crate) async fn way(&mut self) -> Result<Way, Error> {
        let asked = "SELECT pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time()), \
             current_setting('search_path') = 'pg_catalog'";
        let rows = self.connection.query("asking the server for its process", asked).await?;
        let [Some(process), Some(started), Some(has_settings)] = one_row(&rows)? else {
            return Err(Error::protocol("the server does not say which process it is"));
        };
        let is_direct = process.parse() == Ok(self.connection.process_id);
        Ok(Way { is_direct, started: started.to_owned(), has_settings: has_settings == "t" })
    }

    /// Who the server is and where its WAL ends.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn identify(&mut self) -> Result<Identity, Error> {
        let rows = self.connection.query("IDENTIFY_SYSTEM", "IDENTIFY_SYSTEM").await?;
        let wrong = || Error::Protocol { reason: "IDENTIFY_SYSTEM answered something else".into() };
        let [Some(system_id), Some(timeline), Some(wal_end), ..] = one_row::<4>(&rows)? else {
            return Err(wrong());
        };
        Ok(Identity {
            system_id: system_id.parse().map_err(|_| wrong())?,
            timeline: timeline.parse().map_err(|_| wrong())?,
            wal_end: wal_end.parse().map_err(|_| wrong())?,
        })
    }

    /// Where the server's `timeline` left the older ones. `None`: the server has no such file, as for
    /// the first one.
    ///
    /// # Errors
    /// When the file is damaged, or the connection ends.
    pub async fn timeline_history(
        &mut self,
        timeline: u32,
    ) -> Result<Option<TimelineHistory>, Error> {
        let command = format!("TIMELINE_HISTORY {timeline}");
        let rows = match self.connection.query("TIMELINE_HISTORY", &command).await {
            Ok(rows) => rows,
            Err(Error::Server { code, .. }) if code == NO_SUCH_FILE => return Ok(None),
            Err(error) => return Err(error),
        };
        let [_, Some(text)] = one_row(&rows)? else {
            return Err(Error::protocol("TIMELINE_HISTORY answered something else"));
        };
        TimelineHistory::parse(text).map(Some)
    }

    /// Makes a logical slot of `pgoutput` and exports its snapshot. A temporary slot ends with the
    /// connection.
    ///
    /// # Errors
    /// [`Error::NoFreeSlot`], [`Error::WalLevel`], [`Error::NotAuthorized`], a slot of that name, or
    /// the connection ends.
    pub async fn create_slot(
        &mut self,
        name: &str,
        failover: bool,
        temporary: bool,
    ) -> Result<CreatedSlot, Error> {
        let statement = create_statement(name, failover, temporary, self.version)?;
        let doing = "creating a replication slot";
        let rows = self.connection.query(doing, &statement).await?;
        let [_, Some(point), Some(snapshot), _] = one_row(&rows)? else {
            return Err(Error::Protocol { reason: "the new slot has no snapshot".into() });
        };
        let consistent_point = point
            .parse()
            .map_err(|error: wal::lsn::InvalidLsn| Error::Protocol { reason: error.to_string() })?;
        Ok(CreatedSlot { consistent_point, snapshot: snapshot.clone() })
    }

    /// Makes a slot one that standbys copy, or the other way round. Nobody may use it.
    ///
    /// # Errors
    /// [`Error::SlotMissing`], a slot in use, a server that is a standby or older than 17, or the connection
    /// ends.
    pub async fn set_failover(&mut self, slot: &str, failover: bool) -> Result<(), Error> {
        let statement =
            format!("ALTER_REPLICATION_SLOT {} (FAILOVER {failover})", identifier(slot)?);
        self.connection.query("changing a replication slot", &statement).await?;
        Ok(())
    }

    /// Starts the stream. The server may be another one than was asked before, so its line is compared.
    /// The position is compared before: below what the slot has confirmed the
    /// server jumps forward, above its end it sends nothing, both in silence (design.md, server fact 1).
    ///
    /// # Errors
    /// [`Error::ServerChanged`], [`Error::SlotAhead`], [`Error::ServerBehind`], [`Error::SlotMissing`], [`Error::SlotInUse`], [`Error::SlotBusy`],
    /// [`Error::SlotLost`], [`Error::PublicationMissing`], or the connection ends.
    pub async fn start(mut self, options: &StreamOptions) -> Result<WalStream, Error> {
        let Identity { system_id, timeline, wal_end: end } = self.identify().await?;
        if let Some(line) = options.line {
            Line { system_id, timeline }.is(line)?;
        }
        if end < options.from {
            return Err(Error::ServerBehind { requested: options.from, end });
        }
        self.compare_slot(options).await?;
        self.compare_publications(options).await?;
        let statement = start_statement(options, self.version)?;
        if options.streaming {
            self.connection.query("asking for pieces of transactions", SENT_BEFORE).await?;
        }
        self.connection.copy_both("starting the stream", &statement).await?;
        let third = self.sender_timeout / 3;
        let interval =
            if third.is_zero() { STATUS_INTERVAL_MAX } else { third.min(STATUS_INTERVAL_MAX) };
        Ok(WalStream::new(self.connection, interval, options.from))
    }

    async fn compare_slot(&mut self, options: &StreamOptions) -> Result<(), Error> {
        let statement = format!(
            "SELECT confirmed_flush_lsn, active_pid, application_name, \
               application_name = current_setting('application_name') \
             FROM pg_replication_slots LEFT JOIN pg_stat_activity \
               ON pid = active_pid AND pid <> pg_backend_pid() \
             WHERE slot_name = {}",
            literal(&options.slot)?
        );
        let rows = self.connection.query("reading the slot", &statement).await?;
        let slot = options.slot.clone();
        let Some(row) = rows.first() else { return Err(Error::SlotMissing { slot }) };
        let [confirmed, pid, application, is_ours] = row.as_slice() else {
            return Err(Error::protocol("the slot's row has other columns"));
        };
        // Whether somebody else has it; a temporary slot belongs to this very connection.
        if let (Some(pid), Some(application)) = (pid, application) {
            let pid = pid.parse().unwrap_or_default();
            if is_ours.as_deref() == Some("t") {
                return Err(Error::SlotBusy { slot, pid });
            }
            return Err(Error::SlotInUse { slot, pid, application: application.clone() });
        }
        let Some(confirmed) = confirmed.as_deref().and_then(|text| text.parse().ok()) else {
            return Ok(());
        };
        if options.from < confirmed {
            return Err(Error::SlotAhead { slot, confirmed, requested: options.from });
        }
        Ok(())
    }

    /// Server fact 3: 18 only warns of a missing publication and skips its rows for ever; older ones
    /// fail at the same place for ever.
    async fn compare_publications(&mut self, options: &StreamOptions) -> Result<(), Error> {
        for publication in &options.publications {
            let statement =
                format!("SELECT 1 FROM pg_publication WHERE pubname = {}", literal(publication)?);
            if self.connection.query("reading the publication", &statement).await?.is_empty() {
                return Err(Error::PublicationMissing {
                    reason: format!("publication `{publication}` does not exist"),
                });
            }
        }
        Ok(())
    }
}

/// Whether a slot is to be one that standbys copy. `on` is refused by servers that have none.
#[must_use]
pub fn wants_failover(wanted: Choice, version: u32) -> bool {
    match wanted {
        Choice::Auto => FAILOVER_SINCE <= version,
        Choice::On => true,
        Choice::Off => false,
    }
}

/// The one row of an answer, its first columns.
fn one_row<const N: usize>(rows: &[Vec<Option<String>>]) -> Result<&[Option<String>; N], Error> {
    rows.first()
        .and_then(|row| row.first_chunk())
        .ok_or_else(|| Error::Protocol { reason: "an answer without its row".into() })
}

fn create_statement(
    name: &str,
    failover: bool,
    temporary: bool,
    version: u32,
) -> Result<String, Error> {
    let mut statement = format!("CREATE_REPLICATION_SLOT {}", identifier(name)?);
    if temporary {
        statement.push_str(" TEMPORARY");
    }
    statement.push_str(" LOGICAL pgoutput");
    if failover && version < FAILOVER_SINCE {
        return Err(Error::Unsupported {
            what: "`source.slot_failover: on` before PostgreSQL 17; set it to auto or off".into(),
        });
    }
    statement.push_str(match (NEW_SYNTAX_SINCE <= version, failover) {
        (true, true) => " (SNAPSHOT 'export', FAILOVER true)",
        (true, false) => " (SNAPSHOT 'export')",
        (false, _) => " EXPORT_SNAPSHOT",
    });
    Ok(statement)
}

/// The list of publications is quoted twice: identifiers inside a literal.
fn start_statement(options: &StreamOptions, version: u32) -> Result<String, Error> {
    let names =
        options.publications.iter().map(|name| identifier(name)).collect::<Result<Vec<_>, _>>()?;
    let mut statement = format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '{}', publication_names {}",
        identifier(&options.slot)?,
        options.from,
        options.protocol,
        literal(&names.join(","))?
    );
    // Older servers have no messages to send.
    let messages = options.messages && MESSAGES_SINCE <= version;
    for (option, wanted) in [("messages", messages), ("binary", options.binary)] {
        if wanted && version < MESSAGES_SINCE {
            return Err(Error::Unsupported { what: format!("`{option}` before PostgreSQL 14") });
        }
        if wanted {
            statement.push_str(&format!(", {option} 'true'"));
        }
    }
    if options.streaming {
        if version < STREAMING_SINCE {
            return Err(Error::Unsupported {
                what: "`source.streaming: on` before PostgreSQL 14; set it to off".into(),
            });
        }
        // Since 16 there is `parallel`, too.
        statement.push_str(", streaming 'on'");
    }
    statement.push(')');
    Ok(statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_gets_its_syntax() {
        let create = |failover, temporary, version| {
            create_statement("distributary_shop", failover, temporary, version).unwrap()
        };
        assert_eq!(
            create(false, false, 110_022),
            "CREATE_REPLICATION_SLOT \"distributary_shop\" LOGICAL pgoutput EXPORT_SNAPSHOT"
        );
        assert_eq!(
            create(false, true, 150_000),
            "CREATE_REPLICATION_SLOT \"distributary_shop\" TEMPORARY LOGICAL pgoutput \
             (SNAPSHOT 'export')"
        );
        assert_eq!(
            create(true, false, 180_000),
            "CREATE_REPLICATION_SLOT \"distributary_shop\" LOGICAL pgoutput \
             (SNAPSHOT 'export', FAILOVER true)"
        );
        assert!(create_statement("a", true, false, 160_000).is_err());
    }

    #[test]
    fn publications_are_quoted_twice() {
        let options = StreamOptions {
            slot: "s".into(),
            from: Lsn(0x16_B374_8000),
            line: None,
            publications: vec!["it's".into(), "a\"b".into()],
            protocol: 1,
            messages: false,
            binary: false,
            streaming: false,
        };
        assert_eq!(
            start_statement(&options, 150_000).unwrap(),
            "START_REPLICATION SLOT \"s\" LOGICAL 16/B3748000 (proto_version '1', \
             publication_names '\"it''s\",\"a\"\"b\"')"
        );
        let binary = StreamOptions { binary: true, messages: true, ..options };
        assert!(start_statement(&binary, 130_000).is_err());
        assert!(
            start_statement(&binary, 140_000)
                .unwrap()
                .ends_with(", messages 'true', binary 'true')")
        );
        let streaming = StreamOptions { streaming: true, protocol: 2, binary: false, ..binary };
        assert!(start_statement(&streaming, 130_000).is_err());
        assert!(
            start_statement(&streaming, 140_000)
                .unwrap()
                .ends_with(", messages 'true', streaming 'on')")
        );
    }
}
