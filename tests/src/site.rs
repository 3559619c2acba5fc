//! Where the nodes of a cluster run, and how they are reached: on loopback in plaintext, or each on a
//! host of its own with mutual TLS.

use crate::lan::{Cable, Lan};
use crate::servers::repository;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the system gives to outgoing connections.
const LOOPBACK_PORTS: std::ops::Range<u16> = 26_000..27_500;
/// Of every node that has a host of its own.
const GRPC: u16 = 7420;
/// Of every node that has a host of its own: only there.
const HTTP: &str = "127.0.0.1:7421";

/// The ground of a cluster.
#[derive(Debug)]
pub enum Site<'a> {
    Loopback,
    Lan(Hosts<'a>),
}

/// Hosts with the certificates of their nodes.
#[derive(Debug)]
pub struct Hosts<'a> {
    lan: &'a Lan,
    certificates: PathBuf,
    /// Database and brokers as hosts see them.
    database: String,
    brokers: String,
}

impl<'a> Hosts<'a> {
    /// Makes certificates, below `folder`, for coordinators `c…` and workers `w…` of these names.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn new(
        lan: &'a Lan,
        nodes: &[&str],
        folder: &Path,
        database: String,
        brokers: String,
    ) -> Self {
        let certificates = folder.join("certificates");
        let member = |name: &&str| {
            let role = if name.starts_with('c') { "coordinator" } else { "worker" };
            format!("{name}={role}")
        };
        let output = Command::new(repository().join("cluster/tls/make-certificates"))
            .arg(&certificates)
            .args(nodes.iter().map(member))
            .arg("--keep-tokens")
            .stdin(Stdio::null())
            .output()
            .expect("the script can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "certificates cannot be made: {said}");
        Self { lan, certificates, database, brokers }
    }
}

impl Site<'_> {
    /// Where a node listens for other nodes; on loopback another address each time.
    #[must_use]
    pub fn address(&self, node: &str) -> String {
        match self {
            Self::Loopback => free_address(),
            Self::Lan(hosts) => format!("{}:{GRPC}", hosts.lan.address(node, Cable::Peers)),
        }
    }

    /// Where its status page is.
    #[must_use]
    pub fn http(&self) -> String {
        match self {
            Self::Loopback => free_address(),
            Self::Lan(_) => HTTP.into(),
        }
    }

    /// Database and brokers as nodes see them; `None`: as everybody does.
    #[must_use]
    pub fn servers(&self) -> Option<(&str, &str)> {
        match self {
            Self::Loopback => None,
            Self::Lan(hosts) => Some((&hosts.database, &hosts.brokers)),
        }
    }

    /// Lines of a node's spec that say who it is.
    #[must_use]
    pub fn identity(&self, node: &str) -> String {
        match self {
            Self::Loopback => String::new(),
            Self::Lan(hosts) => {
                let folder = hosts.certificates.display();
                format!(
                    "tls: {{ca: {folder}/ca.pem, cert: {folder}/{node}.pem, key: {folder}/{node}.key}}\n\
                     auth: {{tokens_file: {folder}/tokens.yaml}}\n"
                )
            }
        }
    }

    /// Words before the command of a node.
    #[must_use]
    pub fn launcher<'b>(&self, node: &'b str) -> Vec<&'b str> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Lan(_) => Lan::on(node).to_vec(),
        }
    }

    /// Options of the command line that reach these coordinators.
    #[must_use]
    pub fn access(&self, coordinators: &[String]) -> Vec<String> {
        match self {
            Self::Loopback => vec!["--coordinator".into(), coordinators.join(",")],
            Self::Lan(hosts) => {
                let file = |name: &str| hosts.certificates.join(name).display().to_string();
                let all: Vec<_> = coordinators.iter().map(|it| format!("https://{it}")).collect();
                vec![
                    "--coordinator".into(),
                    all.join(","),
                    "--ca".into(),
                    file("ca.pem"),
                    "--token-file".into(),
                    file("admin.token"),
                ]
            }
        }
    }
}

/// An address where nobody listens.
#[must_use]
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Suites run side by side: each begins elsewhere.
        let offset = (std::process::id() as u16).wrapping_mul(31);
        let count = LOOPBACK_PORTS.end - LOOPBACK_PORTS.start;
        let next = offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let address = format!("127.0.0.1:{}", LOOPBACK_PORTS.start + next);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}
