//! Real servers on loopback, by `cluster/local/servers`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The environment variable that gives the suites of one track servers of their own, so that several
/// tracks can run side by side.
pub const TRACK_VARIABLE: &str = "DISTRIBUTARY_TRACK";

/// A server that answers.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl Server {
    /// Starts a server, or finds it running, and waits until it answers.
    ///
    /// # Panics
    /// When it does not start, with what the script said.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// As [`Self::start`], with settings `KEY=VALUE` of its own.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(name: &str, settings: &[&str]) -> Self {
        let name = &of_track(name, std::env::var(TRACK_VARIABLE).ok().as_deref());
        Self::launch(&["start", name], settings);
        Self::known(name)
    }

    /// As [`Self::start_with`], on a port of one's choice.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_at(name: &str, port: u16, settings: &[&str]) -> Self {
        Self::launch(&["start", name, "--port", &port.to_string()], settings);
        Self::known(name)
    }

    fn launch(words: &[&str], settings: &[&str]) {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        servers(&words.iter().copied().chain(settings).collect::<Vec<_>>());
    }

    /// Starts the nodes of a cluster together; the first one listens on `port`.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_all_at(names: &[&str], port: u16) -> Vec<Self> {
        let port = port.to_string();
        let words = ["start"].into_iter().chain(names.iter().copied()).chain(["--port", &port]);
        servers(&words.collect::<Vec<_>>());
        names.iter().map(|name| Self::known(name)).collect()
    }

    /// One that somebody else has started.
    ///
    /// # Panics
    /// When the script knows no address of it.
    #[must_use]
    pub fn known(name: &str) -> Self {
        let address = ask("address", name);
        assert!(address.contains(':'), "servers address {name} printed `{address}`");
        Self { name: name.into(), address }
    }

    /// Host and port.
    ///
    /// # Panics
    /// Never: [`Self::start`] has looked.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        let (host, port) = self.address.rsplit_once(':').expect("an address has a colon");
        (host, port.parse().expect("a port is a number"))
    }

    /// Gives rights to the user of a broker that has an authorizer: `TYPE:PREFIX:OPERATION`, with commas between.
    ///
    /// # Panics
    /// When the script fails, with what it said.
    pub fn permit(&self, rights: &str) {
        servers(&["permit", &self.name, "--rights", rights]);
    }

    /// One verb of the script on this server: `start`, `stop`, `kill`, `restart`, `wipe`.
    ///
    /// # Panics
    /// When the script fails, with what it said.
    pub fn order(&self, verb: &str) {
        servers(&[verb, &self.name]);
    }
}

/// A name as the track has it. What has a port of its own ([`Server::start_at`]) is one for all.
fn of_track(name: &str, track: Option<&str>) -> String {
    match (track, name.contains(':')) {
        (None, _) => name.into(),
        (Some(track), false) => format!("{name}:{track}"),
        (Some(track), true) if name.ends_with(&format!("-{track}")) => name.into(),
        (Some(track), true) => format!("{name}-{track}"),
    }
}

/// What a verb of the script prints about a server, e.g. `tls`, `log`, `status`.
///
/// # Panics
/// When the script fails, with what it said.
#[must_use]
pub fn ask(verb: &str, name: &str) -> String {
    servers(&[verb, name]).trim().to_owned()
}

/// What a verb of two servers prints: `move`, `forget`.
///
/// # Panics
/// When the script fails, with what it said.
#[must_use]
pub fn ask_both(verb: &str, first: &str, second: &str) -> String {
    servers(&[verb, first, second]).trim().to_owned()
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where the scripts of `cluster/local/` keep what they install and start.
#[must_use]
pub fn state_folder() -> PathBuf {
    std::env::var_os("DISTRIBUTARY_LOCAL_DIR")
        .map_or_else(|| PathBuf::from("/var/tmp/distributary-local"), PathBuf::from)
}

fn servers(arguments: &[&str]) -> String {
    run("servers", arguments)
}

/// Runs a script of `cluster/local/`; what it has printed.
///
/// # Panics
/// When it fails, with what it said.
pub fn run(name: &str, arguments: &[&str]) -> String {
    let script = repository().join("cluster/local").join(name);
    let output = Command::new(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", script.display()));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name} {} failed ({}):\n{stdout}{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_has_servers_of_its_own() {
        assert_eq!(of_track("kafka", None), "kafka");
        assert_eq!(of_track("kafka", Some("b")), "kafka:b");
        assert_eq!(of_track("postgres-15:halt", Some("b")), "postgres-15:halt-b");
        assert_eq!(of_track("postgres-15:halt-b", Some("b")), "postgres-15:halt-b", "it is one");
    }
}
