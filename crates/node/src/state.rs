//! What the control topic holds, folded record by record. Pure: coordinators and workers read the
//! topic and call [`ClusterState::apply`]; only what it answers with `Ok` is obeyed (I8).
//!
//! In:    records of the control topic in the order of their offsets, from its beginning.
//! Out:   [`Changed`]: what to look at again; [`Unusable`]: a record that is not obeyed.
//! Holds: the last obeyed record of each key.
//! Never: obeys a record of a lower term than the highest one seen.
//!
//! A tombstone carries no term. That no deposed leader's tombstone comes after its successor's fence
//! rests on the epoch of the leader's producer alone.

pub mod record;

pub use record::{
    Change, Connection, Copies, CopyOrder, Desired, Fence, HISTORY_MAX, Heartbeat, Key, Node,
    Placement, State, Task, Term, VERSION, write,
};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// The leader as the control topic shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leader {
    pub term: Term,
    pub node: String,
    pub address: String,
    /// Version of its program.
    pub ver: String,
    /// Its last heartbeat, unless it has just taken over.
    pub beat: Option<u64>,
    /// It has stepped down by itself.
    pub resigned: bool,
}

/// What a record has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Changed {
    Task(String),
    Placement(String),
    State(String),
    Node(String),
    Connection(String),
    Copies(String),
    /// Another leader, of this term.
    Fence(Term),
    /// A sign of life of the leader.
    Beat(Term),
    /// Read before, or a key of a later release.
    Nothing,
}

/// A record that is not obeyed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unusable {
    #[error("record `{key}` is of term {term}, but term {highest} has begun (I8)")]
    Stale { key: String, term: Term, highest: Term },
    #[error("record `{key}` at offset {offset} is of term {term}, which cannot have begun")]
    Impossible { key: String, term: Term, offset: i64 },
    #[error(
        "record `{key}` has layout {v}; this program reads up to {VERSION}: bring this node to the \
         release of the others"
    )]
    Newer { key: String, v: u32 },
    #[error("record `{key}` cannot be read: {reason}")]
    Unreadable { key: String, reason: String },
    #[error("the leader's record `{key}` was deleted by someone else")]
    Deleted { key: String },
}

/// The cluster as of the last record applied.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterState {
    pub tasks: BTreeMap<String, Task>,
    pub placements: BTreeMap<String, Placement>,
    pub states: BTreeMap<String, State>,
    pub nodes: BTreeMap<String, Node>,
    pub connections: BTreeMap<String, Connection>,
    /// What is to be read again, by task.
    pub copies: BTreeMap<String, Copies>,
    pub leader: Option<Leader>,
    /// Tasks whose router has another node than before, of which no state was written since then.
    moved: BTreeSet<String>,
    /// The highest term seen.
    term: Option<Term>,
    /// Offset of the next record.
    next: i64,
}

impl From<&Placement> for rpc::v1::Placement {
    fn from(placement: &Placement) -> Self {
        let node = |it: Option<&str>| it.unwrap_or_default().to_owned();
        Self {
            placement_rev: placement.rev,
            reader: node(placement.front.as_deref()),
            decoder: node(placement.decoder()),
            router: node(placement.router()),
            lanes: placement.lanes.iter().map(|it| node(it.as_deref())).collect(),
            snapshot: placement.snapshot.clone().unwrap_or_default(),
        }
    }
}

impl ClusterState {
    /// Takes the next record of the control topic. A record that was applied before changes nothing.
    ///
    /// # Errors
    /// The record is not obeyed, and nothing has changed.
    pub fn apply(
        &mut self,
        offset: i64,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<Changed, Unusable> {
        if offset < self.next {
            return Ok(Changed::Nothing);
        }
        self.next = offset + 1;
        let Some(parsed) = Key::parse(key) else {
            return Ok(Changed::Nothing);
        };
        let Some(value) = value else {
            return self.remove(&parsed);
        };
        match parsed {
            Key::Fence => self.fence(offset, value),
            Key::Leader => self.beat(offset, value),
            Key::Task(name) => {
                let task = self.read(offset, key, value)?;
                self.tasks.insert(name.clone(), task);
                Ok(Changed::Task(name))
            }
            Key::Placement(name) => {
                let placement: Placement = self.read(offset, key, value)?;
                self.place(name.clone(), placement);
                Ok(Changed::Placement(name))
            }
            Key::State(name) => {
                let state = self.read(offset, key, value)?;
                self.moved.remove(&name);
                self.states.insert(name.clone(), state);
                Ok(Changed::State(name))
            }
            Key::Node(name) => {
                let node = self.read(offset, key, value)?;
                self.nodes.insert(name.clone(), node);
                Ok(Changed::Node(name))
            }
            Key::Connection(name) => {
                let connection = self.read(offset, key, value)?;
                self.connections.insert(name.clone(), connection);
                Ok(Changed::Connection(name))
            }
            Key::Copies(name) => {
                let copies = self.read(offset, key, value)?;
                self.copies.insert(name.clone(), copies);
                Ok(Changed::Copies(name))
            }
        }
    }

    /// The highest term seen: what is of a lower one is not obeyed.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// Offset of the next record that may change anything.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// Whether the task's state is still that of the front before: its router has moved, and the new front has said
    /// nothing yet.
    #[must_use]
    pub fn front_is_silent(&self, task: &str) -> bool {
        self.moved.contains(task)
    }

    fn place(&mut self, name: String, placement: Placement) {
        let router = placement.router().map(str::to_owned);
        let before = self.placements.insert(name.clone(), placement);
        let before = before.as_ref().and_then(Placement::router);
        if before.is_some_and(|before| Some(before) != router.as_deref()) {
            self.moved.insert(name);
        }
    }

    fn remove(&mut self, key: &Key) -> Result<Changed, Unusable> {
        match key {
            Key::Task(name) => {
                self.tasks.remove(name);
                Ok(Changed::Task(name.clone()))
            }
            Key::Placement(name) => {
                self.placements.remove(name);
                self.moved.remove(name);
                Ok(Changed::Placement(name.clone()))
            }
            Key::State(name) => {
                self.states.remove(name);
                Ok(Changed::State(name.clone()))
            }
            Key::Node(name) => {
                self.nodes.remove(name);
                Ok(Changed::Node(name.clone()))
            }
            Key::Connection(name) => {
                self.connections.remove(name);
                Ok(Changed::Connection(name.clone()))
            }
            Key::Copies(name) => {
                self.copies.remove(name);
                Ok(Changed::Copies(name.clone()))
            }
            Key::Fence | Key::Leader => Err(Unusable::Deleted { key: key.to_string() }),
        }
    }

    fn fence(&mut self, offset: i64, value: &[u8]) -> Result<Changed, Unusable> {
        check_version("f", value)?;
        let Fence { v: _, node, address, ver } = parse("f", value)?;
        self.term = Some(offset);
        self.leader =
            Some(Leader { term: offset, node, address, ver, beat: None, resigned: false });
        Ok(Changed::Fence(offset))
    }

    fn beat(&mut self, offset: i64, value: &[u8]) -> Result<Changed, Unusable> {
        let read: Heartbeat = self.read(offset, "leader", value)?;
        let term = self.term.unwrap_or(offset);
        let ver = self.leader.take().map(|it| it.ver).unwrap_or_default();
        let Heartbeat { node, address, beat, resigned } = read;
        self.leader = Some(Leader { term, node, address, ver, beat: Some(beat), resigned });
        Ok(Changed::Beat(term))
    }

    /// Reads a record that carries its leader's term, and takes note of the term.
    fn read<T: DeserializeOwned>(
        &mut self,
        offset: i64,
        key: &str,
        value: &[u8],
    ) -> Result<T, Unusable> {
        #[derive(Deserialize)]
        struct OfTerm {
            term: Term,
        }
        check_version(key, value)?;
        let OfTerm { term } = parse(key, value)?;
        if offset <= term {
            return Err(Unusable::Impossible { key: key.into(), term, offset });
        }
        if let Some(highest) = self.term.filter(|&highest| term < highest) {
            return Err(Unusable::Stale { key: key.into(), term, highest });
        }
        let body = parse(key, value)?;
        // Compaction keeps the last fence only: a term can show first in a record.
        self.term = Some(term);
        Ok(body)
    }
}

fn check_version(key: &str, value: &[u8]) -> Result<(), Unusable> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = parse(key, value)?;
    if VERSION < v { Err(Unusable::Newer { key: key.into(), v }) } else { Ok(()) }
}

fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Unusable> {
    let unreadable = |error: serde_json::Error| Unusable::Unreadable {
        key: key.into(),
        reason: error.to_string(),
    };
    serde_json::from_slice(value).map_err(unreadable)
}

#[cfg(test)]
mod tests;
