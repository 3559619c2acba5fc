//! The records of the control topic as JSON (delivery-protocol.md, sections 3 and 10).
//!
//! Keys and fields of a later release are left alone by this one. What an older release must not
//! misread raises [`VERSION`].

use crate::task_state::TaskState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Version of the layout. Readers refuse newer ones.
pub const VERSION: u32 = 1;
/// Changes that a task's state record remembers.
pub const HISTORY_MAX: usize = 50;
/// Longer causes are cut in the history.
const PAST_CAUSE_BYTES_MAX: usize = 500;

/// Offset of a leader's fence record.
pub type Term = i64;

/// Key of a record.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Key {
    Task(String),
    Placement(String),
    State(String),
    Node(String),
    Connection(String),
    /// Tables of a task that are to be read again.
    Copies(String),
    /// The leader's fence; its offset is the term.
    Fence,
    /// The leader's heartbeat.
    Leader,
}

impl Key {
    /// `None`: a key of a later release.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        match key.split_once('/') {
            Some(("task", name)) => Some(Self::Task(name.into())),
            Some(("placement", name)) => Some(Self::Placement(name.into())),
            Some(("state", name)) => Some(Self::State(name.into())),
            Some(("node", name)) => Some(Self::Node(name.into())),
            Some(("connection", name)) => Some(Self::Connection(name.into())),
            Some(("copies", name)) => Some(Self::Copies(name.into())),
            Some(_) => None,
            None if key == "f" => Some(Self::Fence),
            None if key == "leader" => Some(Self::Leader),
            None => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(name) => write!(f, "task/{name}"),
            Self::Placement(name) => write!(f, "placement/{name}"),
            Self::State(name) => write!(f, "state/{name}"),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Connection(name) => write!(f, "connection/{name}"),
            Self::Copies(name) => write!(f, "copies/{name}"),
            Self::Fence => f.write_str("f"),
            Self::Leader => f.write_str("leader"),
        }
    }
}

/// `f`: a new leader. Written before it knows its term.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fence {
    pub v: u32,
    pub node: String,
    /// Where its gRPC listens.
    pub address: String,
    /// Version of the program.
    pub ver: String,
}

impl Fence {
    /// The record's value.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json(self)
    }
}

/// `leader`: a sign of life.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Heartbeat {
    pub node: String,
    pub address: String,
    /// Grows by 1 with each.
    pub beat: u64,
    /// The last one of a leader that steps down by itself: nobody needs to wait.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resigned: bool,
}

/// What a person wants of a task.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    Running,
    Suspended,
    Released,
}

impl Desired {
    /// In the words of the control topic and the contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Released => "released",
        }
    }
}

/// `task/<name>`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Task {
    /// A spec that stands alone: what a worker carries out.
    pub spec: String,
    /// As it was applied, where it names connections: `spec` has their settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// What ran before `spec`, until that is in force: it goes on where `spec` cannot be carried out. Earlier releases
    /// did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Grows with each apply.
    pub spec_rev: u64,
    pub desired: Desired,
    /// Grows with each `task restart`.
    pub restarts: u64,
    /// Grows with each `task reseed`.
    pub reseeds: u64,
    /// The `reseeds` that have begun anew: what is above was asked for, and is not yet done.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reseeded: u64,
    /// The last reseed goes on with the gap.
    pub accept_gap: bool,
    pub created_ms: i64,
    /// Who made the last change.
    pub changed_by: String,
}

impl Task {
    /// One that was just applied, and not started.
    #[must_use]
    pub fn new(spec: String) -> Self {
        Self {
            spec,
            applied: None,
            kept: None,
            spec_rev: 1,
            desired: Desired::Suspended,
            restarts: 0,
            reseeds: 0,
            reseeded: 0,
            accept_gap: false,
            created_ms: 0,
            changed_by: String::new(),
        }
    }

    /// The spec as a person wrote it.
    #[must_use]
    pub fn as_applied(&self) -> &str {
        self.applied.as_deref().unwrap_or(&self.spec)
    }

    /// The spec, with the names of its connections.
    ///
    /// # Errors
    /// It cannot be read by this release.
    pub fn read(&self) -> Result<config::Task, config::Problems> {
        let spec = config::Task::parse(&self.spec)?;
        match &self.applied {
            Some(applied) => Ok(spec.named_as(&config::Task::parse(applied)?)),
            None => Ok(spec),
        }
    }

    /// The spec that goes on where the newest one cannot be carried out, if there is one that can be read.
    #[must_use]
    pub fn read_kept(&self) -> Option<config::Task> {
        self.kept.as_deref().and_then(|it| config::Task::parse(it).ok())
    }
}

/// `placement/<task>`: where a task runs, in one record, so that nobody sees half of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Placement {
    /// Grows with each change.
    pub rev: u64,
    /// Where the reader runs, and the decoder and the router unless they are parted from it.
    pub front: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// Owner of each lane.
    pub lanes: Vec<Option<String>>,
    /// Who reads tables while the task streams, sorted; `None`: the router's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Vec<String>>,
    /// Where the nodes that are named here listen.
    pub addresses: BTreeMap<String, String>,
    /// Where the router ran before, on a worker that lived when it was moved: it is asked to hand over first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Who had lanes before and is taken for dead: nobody waits until it has ended them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Lanes that a person has moved, and where to: they stay there while that worker may have them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pinned: BTreeMap<usize, String>,
}

impl Placement {
    /// Where the decoder runs.
    #[must_use]
    pub fn decoder(&self) -> Option<&str> {
        self.decoder.as_deref().or(self.front.as_deref())
    }

    /// Where the router runs.
    #[must_use]
    pub fn router(&self) -> Option<&str> {
        self.router.as_deref().or(self.front.as_deref())
    }

    /// Who is to hand the task over to its router, after `before`. It stays named until the router moves again, so that a
    /// change of something else that is read with the move does not hide it; who has nothing any more says so at once.
    #[must_use]
    pub fn handed_over_by(&self, before: &Self, lives: impl Fn(&str) -> bool) -> Option<String> {
        let now = self.router()?;
        match before.router()? {
            was if was == now => before.from.clone(),
            was => lives(was).then(|| was.to_owned()),
        }
    }

    /// Who has lost lanes since `before`, and does not live.
    pub fn gone_since(&self, before: &Self, lives: impl Fn(&str) -> bool) -> Vec<String> {
        let has_lost =
            |(lane, owner): &(usize, &Option<String>)| self.lanes.get(*lane) != Some(owner);
        let lost = before.lanes.iter().enumerate().filter(has_lost);
        let gone: BTreeSet<&String> =
            lost.filter_map(|(_, owner)| owner.as_ref()).filter(|node| !lives(node)).collect();
        gone.into_iter().cloned().collect()
    }

    /// Every node that has a stage of the front, once.
    pub fn front_nodes(&self) -> impl Iterator<Item = &str> {
        let nodes = [self.front.as_deref(), self.decoder(), self.router()];
        (0..nodes.len())
            .filter(move |&it| !nodes[..it].contains(&nodes[it]))
            .filter_map(move |it| nodes[it])
    }

    /// Every node that has a part, as often as it has one.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        let front = [&self.front, &self.decoder, &self.router];
        let readers = self.snapshot.iter().flatten().map(String::as_str);
        front.into_iter().chain(&self.lanes).filter_map(|it| it.as_deref()).chain(readers)
    }
}

/// One entry of a task's history.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    pub state: TaskState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Who has ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub since_ms: i64,
}

/// `state/<task>`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct State {
    pub state: TaskState,
    pub cause: Option<String>,
    pub remedy: Option<String>,
    /// Who has ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub since_ms: i64,
    /// What was before, oldest first.
    pub history: Vec<Change>,
}

impl State {
    #[must_use]
    pub fn new(state: TaskState, now_ms: i64) -> Self {
        let (cause, remedy, by) = (None, None, None);
        Self { state, cause, remedy, by, since_ms: now_ms, history: Vec::new() }
    }

    /// Notes who has ordered this state.
    #[must_use]
    pub fn ordered_by(self, person: &str) -> Self {
        Self { by: Some(person.to_owned()), ..self }
    }

    /// All that is known of the task's states, oldest first; the last one is the present one.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        self.history.iter().cloned().chain([self.change()])
    }

    fn change(&self) -> Change {
        let Self { state, cause, by, since_ms, .. } = self.clone();
        Change { state, cause, by, since_ms }
    }

    /// The state after this one, which joins the history. The same state with another cause keeps its
    /// beginning and adds nothing: a task that retries for a day must not forget what was before.
    #[must_use]
    pub fn followed_by(
        &self,
        state: TaskState,
        cause: Option<String>,
        remedy: Option<String>,
        now_ms: i64,
    ) -> Self {
        if self.state == state {
            return Self { state, cause, remedy, ..self.clone() };
        }
        let mut change = self.change();
        if let Some(cause) = &mut change.cause {
            cause.truncate(cause.floor_char_boundary(PAST_CAUSE_BYTES_MAX));
        }
        let kept = self.history.len().saturating_sub(HISTORY_MAX - 1);
        let history = self.history[kept..].iter().cloned().chain([change]).collect();
        Self { state, cause, remedy, by: None, since_ms: now_ms, history }
    }
}

/// `node/<id>`: what a person has said about a node.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Node {
    /// Gets nothing more.
    pub cordoned: bool,
    /// Loses what it has, too.
    pub draining: bool,
}

/// `connection/<name>`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Connection {
    /// `source` or `sink`.
    pub kind: String,
    /// YAML, as it was set.
    pub spec: String,
}

/// `copies/<task>`: tables that are to be read again while the task streams.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Copies {
    /// Number of the last order, which none after it has.
    pub last: u64,
    /// What is not done, oldest first.
    pub open: Vec<CopyOrder>,
}

/// One table that is to be read again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CopyOrder {
    pub number: u64,
    /// Id of the snapshot, in the header of each of its rows.
    pub snapshot: String,
    /// `schema.table`, quoted as in SQL.
    pub table: String,
    /// The rows, in the subset of SQL that specs know; empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
}

/// The value of a record of any key but `f`.
#[must_use]
pub fn write<T: Serialize>(term: Term, body: &T) -> Vec<u8> {
    #[derive(Serialize)]
    struct Written<'a, T> {
        v: u32,
        term: Term,
        #[serde(flatten)]
        body: &'a T,
    }
    json(&Written { v: VERSION, term, body })
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have text keys and no failing parts")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}
