//! The node spec: what a coordinator or a worker is told about itself. Field names are the keys of
//! the spec; defaults are those of the interface.

mod address;
mod check;

pub use address::is_loopback;

use crate::{Problems, Security};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One process of a cluster.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Name of the node, its own in the cluster: `[a-z][a-z0-9_-]{0,39}`.
    pub node: String,
    /// Where other nodes reach it by gRPC. Addresses other than loopback need `tls` and `auth`.
    pub listen: String,
    /// Metrics, health and the status page. Addresses other than loopback need `tls` and `auth`.
    pub http: String,
    pub control: Control,
    /// `host:port` each; workers need at least one.
    pub coordinators: Vec<String>,
    /// What `placement` of a task chooses by.
    pub labels: BTreeMap<String, String>,
    /// For the spools of transactions that are streamed before they commit (`source.streaming`), by readers on this
    /// node. The files have no name, and nothing of them is needed after a crash.
    pub data_dir: String,
    /// Secret files of tasks are read only below it.
    pub secrets_dir: String,
    pub tls: Option<Tls>,
    pub auth: Option<Auth>,
    /// Newest protocol that it speaks with other nodes: a renewed node can work as one of the release before until all
    /// are renewed. Unset: the newest that it knows.
    pub protocol_max: Option<u32>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            node: String::new(),
            listen: "127.0.0.1:7420".into(),
            http: "127.0.0.1:7421".into(),
            control: Control::default(),
            coordinators: Vec::new(),
            labels: BTreeMap::new(),
            data_dir: "/var/lib/distributary".into(),
            secrets_dir: "/run/secrets".into(),
            tls: None,
            auth: None,
            protocol_max: None,
        }
    }
}

/// Where the cluster keeps its own state.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// `host:port` each.
    pub brokers: Vec<String>,
    /// Names of the cluster's topics begin so.
    pub prefix: String,
    pub security: Security,
}

impl Default for Control {
    fn default() -> Self {
        Self { brokers: Vec::new(), prefix: "distributary".into(), security: Security::default() }
    }
}

/// Mutual TLS between nodes. PEM files, relative to the spec.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Who signs the certificates of all nodes.
    pub ca: String,
    pub cert: String,
    pub key: String,
}

/// Who may use the admin service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Hashed tokens with their roles; relative to the spec.
    pub tokens_file: String,
}

/// What a process is in its cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    Coordinator,
    Worker,
}

impl Role {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Node {
    /// Reads and checks a spec.
    ///
    /// # Errors
    /// Everything that is wrong with it for a node of that role, each with line and path.
    pub fn parse(text: &str, role: Role) -> Result<Self, Problems> {
        crate::text::parse(text, |node: &Self| node.problems(role))
    }

    /// Where other nodes find this one: where it listens, or, where it listens everywhere, its
    /// name as a host with the same port.
    #[must_use]
    pub fn address(&self) -> String {
        address::reachable(&self.listen, &self.node)
    }
}
