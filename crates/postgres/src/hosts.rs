//! Which of several hosts: the read-write one, or the one with the slot.

use crate::Error;
use crate::settings::{Host, Settings};

/// Tries the hosts in their order until `connect` finds one that is not in recovery.
pub(crate) async fn read_write<T>(
    settings: &Settings,
    connect: impl AsyncFn(&Host) -> Result<(T, Role), Error>,
) -> Result<T, Error> {
    let mut failures = Vec::new();
    let mut is_standby_seen = false;
    for host in &settings.0.hosts {
        match connect(host).await {
            Ok((connection, Role::ReadWrite)) => return Ok(connection),
            Ok((_, Role::Standby)) => is_standby_seen = true,
            Err(error) => failures.push(error),
        }
    }
    Err(verdict(settings, failures, is_standby_seen))
}

/// Finds the host of the task's slot: the read-write one, unless the spec says to read from a standby. Then it is the
/// one that has the slot, a standby before others; where none has it, the first standby; where there is none, the
/// read-write one.
pub(crate) async fn of_slot<T>(
    settings: &Settings,
    connect: impl AsyncFn(&Host) -> Result<(T, Role), Error>,
    has_slot: impl AsyncFn(&mut T) -> Result<bool, Error>,
) -> Result<T, Error> {
    if !settings.reads_standby() {
        return read_write(settings, connect).await;
    }
    let (mut failures, mut found) = (Vec::new(), Vec::new());
    for host in &settings.0.hosts {
        let asked = async {
            let (mut connection, role) = connect(host).await?;
            let has_slot = has_slot(&mut connection).await?;
            Ok((preference(has_slot, role), connection))
        };
        match asked.await {
            Ok((Preference::SlotOfStandby, connection)) => return Ok(connection),
            Ok(asked) => found.push(asked),
            Err(error) => failures.push(error),
        }
    }
    let best = found.into_iter().min_by_key(|(preference, _)| *preference);
    match best {
        // A host that is away may be the one with the slot.
        Some((preference, connection))
            if preference == Preference::SlotOfPrimary || failures.is_empty() =>
        {
            Ok(connection)
        }
        Some(_) | None => Err(slot_verdict(settings, failures)),
    }
}

/// From the best to the worst.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Preference {
    SlotOfStandby,
    /// A standby that was promoted keeps its slot.
    SlotOfPrimary,
    Standby,
    Primary,
}

fn preference(has_slot: bool, role: Role) -> Preference {
    match (has_slot, role) {
        (true, Role::Standby) => Preference::SlotOfStandby,
        (true, Role::ReadWrite) => Preference::SlotOfPrimary,
        (false, Role::Standby) => Preference::Standby,
        (false, Role::ReadWrite) => Preference::Primary,
    }
}

fn slot_verdict(settings: &Settings, mut failures: Vec<Error>) -> Error {
    if let Some(index) = failures.iter().position(|error| !error.is_connection()) {
        return failures.swap_remove(index);
    }
    let Some(last) = failures.pop() else {
        return Error::Config("source.hosts is empty; name at least one host:port".into());
    };
    Error::Unreachable {
        host: format!("one of {}", settings.hosts_text()),
        reason: format!(
            "it may be the standby with the slot, which none of the others has (take a host that is gone for good out \
             of source.hosts); the last failure: {last}"
        ),
    }
}

/// What a server is at this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    ReadWrite,
    Standby,
}

impl Role {
    pub(crate) fn new(is_in_recovery: bool) -> Self {
        if is_in_recovery { Self::Standby } else { Self::ReadWrite }
    }
}

/// A host that is away may be the read-write one. Only when every host that could be asked fails in
/// a way that does not pass by itself is that the answer.
fn verdict(settings: &Settings, mut failures: Vec<Error>, is_standby_seen: bool) -> Error {
    if settings.0.hosts.is_empty() {
        return Error::Config("source.hosts is empty; name at least one host:port".into());
    }
    if let Some(index) = failures.iter().position(|error| !error.is_connection()) {
        return failures.swap_remove(index);
    }
    match (failures.pop(), failures.is_empty()) {
        (None, _) => Error::NoPrimary { hosts: settings.hosts_text() },
        (Some(only), true) if !is_standby_seen => only,
        (Some(last), _) => Error::Unreachable {
            host: format!("one of {}", settings.hosts_text()),
            reason: format!("no read-write server among them; the last failure: {last}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Which host is taken: `p` and `s` for their roles, `+` with the slot, `?` away.
    async fn taken(hosts: &[&str]) -> Result<usize, Error> {
        let mut task = config::Task::default();
        task.source.read_from = config::ReadFrom::Standby;
        task.source.hosts = (0..hosts.len()).map(|index| format!("h:{}", index + 1)).collect();
        let settings = Settings::new(&task, Path::new(".")).expect("settings");
        let connect = async |host: &Host| {
            let index = usize::from(host.port) - 1;
            let away = || Error::Unreachable { host: host.to_string(), reason: "away".into() };
            match hosts[index].chars().next() {
                Some('p') => Ok((index, Role::ReadWrite)),
                Some('s') => Ok((index, Role::Standby)),
                _ => Err(away()),
            }
        };
        of_slot(&settings, connect, async |index| Ok(hosts[*index].ends_with('+'))).await
    }

    #[tokio::test]
    async fn the_slot_is_where_it_was_made() {
        assert_eq!(taken(&["p", "s", "s+"]).await.ok(), Some(2));
        assert_eq!(taken(&["p+", "s"]).await.ok(), Some(0), "it was promoted");
        assert_eq!(taken(&["p+", "s+"]).await.ok(), Some(1));
        assert_eq!(taken(&["p", "s", "s"]).await.ok(), Some(1));
        assert_eq!(taken(&["p"]).await.ok(), Some(0));
        assert_eq!(taken(&["?", "s+"]).await.ok(), Some(1));
        assert_eq!(taken(&["?", "p+"]).await.ok(), Some(1));
    }

    #[tokio::test]
    async fn a_host_that_is_away_may_have_it() {
        let error = taken(&["p", "?", "s"]).await.expect_err("not known");
        assert!(error.is_connection() && error.to_string().contains("with the slot"), "{error}");
        assert!(taken(&[]).await.is_err());
    }
}
