//! What `task status -o json` says.

use serde_json::Value;
use std::fmt;

/// A task as its cluster sees it.
#[derive(Clone, Debug)]
pub struct Status(Value);

/// A table of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableStatus {
    pub table: String,
    pub snapshot: String,
    pub state: String,
    pub cause: String,
    pub rows: u64,
}

impl Status {
    /// Tables of snapshots, as far as they are told.
    #[must_use]
    pub fn tables(&self) -> Vec<TableStatus> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let table = |it: &Value| TableStatus {
            table: text(&it["table"]),
            snapshot: text(&it["snapshot"]),
            state: text(&it["state"]),
            cause: text(&it["cause"]),
            rows: it["rows"].as_u64().unwrap_or_default(),
        };
        self.0["tables"].as_array().into_iter().flatten().map(table).collect()
    }

    /// # Panics
    /// When it is no JSON.
    #[must_use]
    pub fn parse(json: &str) -> Self {
        Self(serde_json::from_str(json).expect("JSON"))
    }

    /// A text of it, empty where it has none.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// A number of it.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        self.0[key].as_f64()
    }

    /// Whether the stream is read.
    #[must_use]
    pub fn streams(&self) -> bool {
        ["synchronizing", "catching-up"].contains(&self.text("state"))
    }

    /// The task's state.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.0["state"].as_str()
    }

    /// Node and state of each lane.
    #[must_use]
    pub fn lanes(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let lanes = self.0["lanes"].as_array().cloned().unwrap_or_default();
        lanes.iter().map(|lane| (text(&lane["node"]), text(&lane["state"]))).collect()
    }

    /// Records of each lane, as far as they are known.
    #[must_use]
    pub fn records(&self) -> Vec<u64> {
        let lanes = self.0["lanes"].as_array().cloned().unwrap_or_default();
        lanes.iter().map(|lane| lane["records"].as_u64().unwrap_or_default()).collect()
    }

    /// Nodes that have lanes, in order.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        let mut nodes: Vec<_> = self.lanes().into_iter().map(|(node, _)| node).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }

    /// Where the front runs.
    #[must_use]
    pub fn front(&self) -> String {
        self.node_of("reader")
    }

    /// Where a stage of the front runs.
    #[must_use]
    pub fn node_of(&self, stage: &str) -> String {
        self.0["placement"][stage].as_str().unwrap_or_default().to_owned()
    }

    /// Whether rows come through: the stream is read, and every lane is open.
    #[must_use]
    pub fn flows(&self) -> bool {
        self.streams() && self.lanes().iter().all(|lane| lane.1 == "running")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
