//! Which of several hosts: the read-write one.

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
