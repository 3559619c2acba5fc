//! What `task status -o json` says.

use serde_json::Value;

/// A task as its cluster sees it.
#[derive(Clone, Debug)]
pub struct Status(Value);

impl Status {
    /// # Panics
    /// When it is no JSON.
    pub(crate) fn parse(json: &str) -> Self {
        Self(serde_json::from_str(json).expect("JSON"))
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
        self.0["placement"]["reader"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether rows come through: the stream is read, and every lane is open.
    #[must_use]
    pub fn flows(&self) -> bool {
        let streams = ["synchronizing", "catching-up"].map(Some).contains(&self.state());
        streams && self.lanes().iter().all(|lane| lane.1 == "running")
    }
}
