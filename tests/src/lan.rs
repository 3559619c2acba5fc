//! A network of hosts that are network namespaces, whose cables can be pulled.
//!
//! A test that needs one starts itself anew ([`inside`]), as root, in network, mount and process
//! namespaces of its own. There it is the hub, with the servers that it starts; each host is a
//! namespace with two cables to the hub. Nothing reaches the machine's own network, and whichever way the
//! test ends, the kernel ends everything that it has started.

use crate::process;
use crate::servers::ask;
use std::env;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// Set where a test runs inside.
const INSIDE: &str = "DISTRIBUTARY_TEST_INSIDE";
/// Names of the namespaces are files in a folder, which is ours alone, too.
const SETTLE_IN: &str = "set -e; mount -t tmpfs hosts /run/netns; ip link set lo up; exec \"$@\"";

/// What a host is connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cable {
    /// The other hosts, and the database at the hub.
    Peers,
    /// The brokers at the hub.
    Brokers,
}

impl Cable {
    pub const ALL: [Self; 2] = [Self::Peers, Self::Brokers];

    const fn network(self) -> &'static str {
        match self {
            Self::Peers => "10.77.0",
            Self::Brokers => "10.78.0",
        }
    }

    const fn bridge(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Brokers => "brokers",
        }
    }

    /// Addresses of everybody on this network.
    #[must_use]
    pub fn subnet(self) -> String {
        format!("{}.0/24", self.network())
    }

    /// The hub's address.
    #[must_use]
    pub fn hub(self) -> String {
        format!("{}.1", self.network())
    }

    /// The hub's end of a cable.
    fn port(self, host: &str) -> String {
        format!("{}-{host}", &self.bridge()[..1])
    }
}

/// Runs `body` in namespaces of its own; `test` is the full name of the test that calls. `servers`: what it will
/// start there, from where nothing can be fetched.
///
/// # Panics
/// When the test does, or the namespaces cannot be made.
pub fn inside(test: &str, servers: &[&str], body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "{test} makes network namespaces and needs root: run it with sudo"
    );
    servers.iter().for_each(|name| drop(ask("install", name)));
    fs::create_dir_all("/run/netns").expect("/run can be written");
    let own = env::current_exe().expect("the test's own binary");
    // Ends with this process, and everything inside with it.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"])
        .args([
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            SETTLE_IN,
            "sh",
        ])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env(process::VARIABLE, process::binary())
        .stdin(Stdio::null())
        .status()
        .expect("setpriv and unshare (util-linux) are installed");
    assert!(status.success(), "{test} failed in its namespaces: {status}; see above");
}

/// The hosts. They are gone when the test has ended.
#[derive(Clone, Debug)]
pub struct Lan {
    hosts: Vec<String>,
}

impl Lan {
    /// Lays cables between the hub and hosts of these names.
    ///
    /// # Panics
    /// When it is not called [`inside`], or iproute2 is not installed.
    #[must_use]
    pub fn new(hosts: &[&str]) -> Self {
        assert!(env::var_os(INSIDE).is_some(), "a LAN is made inside namespaces of the test only");
        let mut lines = String::new();
        for cable in Cable::ALL {
            let (bridge, hub) = (cable.bridge(), cable.hub());
            lines += &format!(
                "link add {bridge} type bridge\naddress add {hub}/24 dev {bridge}\n\
                 link set {bridge} up\n"
            );
        }
        for host in hosts {
            lines += &format!("netns add {host}\n");
        }
        ip(&[], &lines);
        let lan = Self { hosts: hosts.iter().map(|&host| host.into()).collect() };
        for host in hosts {
            let mut lines = String::new();
            let mut own = String::from("link set lo up\n");
            for cable in Cable::ALL {
                let (port, bridge) = (cable.port(host), cable.bridge());
                let address = lan.address(host, cable);
                lines += &format!(
                    "link add {port} type veth peer name {bridge} netns {host}\n\
                     link set {port} master {bridge} up\n"
                );
                own += &format!("address add {address}/24 dev {bridge}\nlink set {bridge} up\n");
            }
            ip(&[], &lines);
            ip(&["-netns", host], &own);
        }
        lan
    }

    /// Where a host is found.
    ///
    /// # Panics
    /// When there is no such host.
    #[must_use]
    pub fn address(&self, host: &str, cable: Cable) -> String {
        let number = self.hosts.iter().position(|it| it == host).expect("a host of that name");
        format!("{}.{}", cable.network(), 11 + number)
    }

    /// Words that start a command on a host.
    #[must_use]
    pub fn on(host: &str) -> [&str; 4] {
        ["ip", "netns", "exec", host]
    }

    /// Nothing passes any more, and nobody is told.
    pub fn pull(&self, host: &str, cables: &[Cable]) {
        self.set(host, cables, "down");
    }

    pub fn plug(&self, host: &str, cables: &[Cable]) {
        self.set(host, cables, "up");
    }

    fn set(&self, host: &str, cables: &[Cable], state: &str) {
        let line = |cable: &Cable| format!("link set {} {state}\n", cable.port(host));
        ip(&[], &cables.iter().map(line).collect::<String>());
    }
}

/// Commands of `ip`, one a line.
fn ip(options: &[&str], lines: &str) {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ip (iproute2) is installed");
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("ip reads");
    let output = child.wait_with_output().expect("ip ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip failed: {said}\n{lines}");
}
