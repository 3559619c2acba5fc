//! The control log: the state of a cluster, in one compacted partition (delivery-protocol.md,
//! section 10). One leader writes it, every node reads it.
//!
//! * [`ControlSettings`]: where it is. [`ensure_control`]: makes and checks its topic.
//! * [`Leadership`]: who writes. [`ControlReader`]: what was written, in order.

mod leadership;
mod reader;
mod succession;

use crate::Error;
use crate::lookup::Lookup;
use crate::names::Seat;
use crate::read::{Entry, Reader};
use crate::settings::Settings;
use crate::topics::{Admin, Internal};
pub use leadership::Leadership;
pub use reader::ControlReader;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tracing::warn;

pub use crate::checkpoint::FENCE_KEY;
/// Key of the leader's heartbeat.
pub const LEADER_KEY: &str = "leader";
/// Version of the layout of fences and heartbeats.
pub const VERSION: u32 = 1;

/// Where the control log of a cluster is and how to reach it. Cheap to clone; shows no secret.
#[derive(Clone, Debug)]
pub struct ControlSettings {
    settings: Settings,
    seat: Seat,
}

impl ControlSettings {
    /// The `control` part of a node spec; paths are relative to `folder`.
    ///
    /// # Errors
    /// A prefix that Kafka refuses, a secret that is not there, a file that cannot be read.
    pub fn new(
        brokers: &[String],
        prefix: &str,
        security: &config::Security,
        folder: &Path,
    ) -> Result<Self, Error> {
        let invalid = |error| Error::Config(format!("control.prefix: {error}"));
        let seat = Seat::of_leader(prefix).map_err(invalid)?;
        Ok(Self { settings: Settings::control(brokers, security, folder)?, seat })
    }

    /// Name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.seat.topic
    }
}

/// Creates the topic where it is missing, and checks how it is kept. Blocks.
///
/// # Errors
/// When it cannot be created, or has settings under which the state could be lost.
pub fn ensure_control(settings: &ControlSettings) -> Result<(), Error> {
    let admin = Admin::new(&settings.settings)?;
    let topic = settings.topic();
    admin.ensure(&Internal {
        name: topic.to_owned(),
        partitions: 1,
        holds: "the state of the cluster",
        remedy: "use another `control.prefix`",
        copied: true,
    })?;
    if admin.is_weak(topic)? {
        warn!(
            topic,
            "fewer than 3 copies, or 2 in step: a lost broker can lose the state of the cluster"
        );
    }
    Ok(())
}

/// Whether nobody has ever led: nothing was written. A leader that is about to be the first may go
/// unseen; who takes over then is fenced like every other one. Blocks.
///
/// # Errors
/// Kafka does not answer, or the topic is not there.
pub fn is_unled(settings: &ControlSettings) -> Result<bool, Error> {
    let lookup = Lookup::new(&settings.settings)?;
    Ok(lookup.with_records(&[settings.topic().to_owned()])?.is_empty())
}

/// The newest record that can be seen now; `None`: there is none. For what is shown only: a leader may be
/// about to commit. Blocks.
///
/// # Errors
/// Kafka does not answer, or the topic is not there.
pub fn newest(settings: &ControlSettings) -> Result<Option<i64>, Error> {
    let entries = Reader::new(&settings.settings, &settings.seat)?.to_end()?;
    Ok(entries.last().map(|entry| entry.offset))
}

/// A record of the control log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControlEntry {
    pub offset: i64,
    pub key: String,
    /// `None`: the key was deleted.
    pub value: Option<Vec<u8>>,
}

impl From<Entry> for ControlEntry {
    fn from(Entry { offset, key, value }: Entry) -> Self {
        // Whatever has a value has JSON, which is never empty.
        Self { offset, key, value: Some(value).filter(|value| !value.is_empty()) }
    }
}

/// A new leader, under [`FENCE_KEY`]. The offset of its first one is its term; it writes the same again
/// whenever it opens its producer again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaderFence {
    pub v: u32,
    pub node: String,
    /// Where the other nodes reach it.
    pub address: String,
    /// Version of the program.
    pub ver: String,
    /// Tells this leadership from every other one, also of the same node.
    pub owner: String,
}

/// The leader is alive, under [`LEADER_KEY`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Heartbeat {
    pub v: u32,
    pub term: i64,
    pub node: String,
    pub address: String,
    /// Grows by 1 within a term.
    pub beat: u64,
    /// As in the fence.
    pub owner: String,
    /// The last one of a leader that steps down by itself: nobody needs to wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resigned: bool,
}

/// A topic from which something was taken away holds nobody's state any more.
fn in_doubt(error: Error) -> Error {
    let Error::TopicTruncated { topic, end, written, .. } = error else { return error };
    let reason = format!(
        "it ends at offset {end}, but offset {written} was written: it was deleted, truncated or \
         created anew; {REMEDY}"
    );
    Error::InternalTopic { topic, reason }
}

const REMEDY: &str = "find out by whom before a node is started again";

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: nodes of other releases read this.
    #[test]
    fn the_bytes_of_fences_and_heartbeats_do_not_change() {
        let [node, address, owner] = ["c1", "c1:7420", "run-7-9/0"].map(str::to_owned);
        let fence = LeaderFence {
            v: VERSION,
            node: node.clone(),
            address: address.clone(),
            ver: "0.1.0".into(),
            owner: owner.clone(),
        };
        let beat =
            Heartbeat { v: VERSION, term: 70, node, address, beat: 3, owner, resigned: false };
        assert_eq!(
            serde_json::to_string(&fence).expect("JSON"),
            r#"{"v":1,"node":"c1","address":"c1:7420","ver":"0.1.0","owner":"run-7-9/0"}"#
        );
        assert_eq!(
            serde_json::to_string(&beat).expect("JSON"),
            r#"{"v":1,"term":70,"node":"c1","address":"c1:7420","beat":3,"owner":"run-7-9/0"}"#
        );
        let last = serde_json::to_string(&Heartbeat { resigned: true, ..beat }).expect("JSON");
        assert!(last.ends_with(r#","owner":"run-7-9/0","resigned":true}"#), "{last}");
    }

    #[test]
    fn what_is_wrong_is_named_as_the_node_spec_names_it() {
        let new = |prefix, security: &config::Security| {
            ControlSettings::new(&["127.0.0.1:1".into()], prefix, security, Path::new("."))
                .expect_err("refused")
                .to_string()
        };
        let plain = config::Security::default();
        assert!(new("a b", &plain).starts_with("control.prefix: "));
        let user = config::Security { user: Some("shop".into()), ..plain };
        assert!(new("distributary", &user).starts_with("control.security.user: is not used"));
    }
}
