//! What the contract calls things ↔ what the pipeline calls them.

use pipeline::Failure;
use pipeline::hosts::OpenLane;
use pipeline::planner::Pins;
use rpc::{Code, Error, v1};
use std::sync::Arc;
use supervision::FailureClass;
use wal::{Lsn, Position};

pub(super) fn position_out(position: Position) -> v1::Position {
    v1::Position { commit_lsn: position.commit_lsn.0, ordinal: position.ordinal }
}

pub(super) fn position_in(position: Option<v1::Position>) -> Position {
    position.map_or(Position::ZERO, |it| Position {
        commit_lsn: Lsn(it.commit_lsn),
        ordinal: it.ordinal,
    })
}

pub(super) fn failure_out(failure: Failure) -> v1::Failed {
    let class = match failure.class {
        FailureClass::Connection => v1::failed::Class::Connection,
        FailureClass::Transient => v1::failed::Class::Transient,
        FailureClass::Fenced => v1::failed::Class::Fenced,
        FailureClass::Poison => v1::failed::Class::Poison,
        FailureClass::Fatal => v1::failed::Class::Fatal,
    };
    v1::Failed { class: class.into(), cause: failure.cause }
}

/// A class of a later release is tried again.
pub(super) fn failure_in(node: &str, failed: &v1::Failed) -> Failure {
    let class = match failed.class() {
        v1::failed::Class::Connection => FailureClass::Connection,
        v1::failed::Class::Fenced => FailureClass::Fenced,
        v1::failed::Class::Poison => FailureClass::Poison,
        v1::failed::Class::Fatal => FailureClass::Fatal,
        v1::failed::Class::Unspecified | v1::failed::Class::Transient => FailureClass::Transient,
    };
    Failure { class, cause: format!("on node {node}: {}", failed.cause) }
}

/// What only the caller's node knows of a life of a lane.
#[derive(Clone, Debug)]
pub struct Caller {
    pub node: String,
    pub placement_rev: u64,
}

pub(super) fn refused(cause: impl Into<String>) -> Error {
    Error::new(Code::Argument, cause, "run one release everywhere")
}

pub(super) fn spec_out(spec: &config::Task) -> Result<Vec<u8>, Failure> {
    let mut spec = spec.clone();
    // Only the leader's business, and a node of an older release would refuse a setting that it does not know.
    spec.placement.snapshot = None;
    serde_json::to_vec(&spec)
        .map_err(|error| Failure::fatal(format!("the spec cannot be written as JSON: {error}")))
}

pub(super) fn spec_in(spec: &[u8], task: &str) -> Result<config::Task, Error> {
    let spec: config::Task = serde_json::from_slice(spec)
        .map_err(|error| refused(format!("the spec of task `{task}` cannot be read: {error}")))?;
    if spec.task != task {
        return Err(refused(format!("the spec of task `{task}` is that of `{}`", spec.task)));
    }
    Ok(spec)
}

pub(super) fn open_out(open: &OpenLane, caller: &Caller) -> Result<v1::OpenLane, Failure> {
    Ok(v1::OpenLane {
        // As the call says.
        protocol: 0,
        task: open.spec.task.clone(),
        lane: u32::from(open.lane),
        life: open.life,
        revision: open.revision,
        placement_rev: caller.placement_rev,
        floor: Some(position_out(open.floor)),
        anew: open.anew,
        routed: u32::from(open.routed),
        pins: open.pins.all().into_iter().collect(),
        spec: spec_out(&open.spec)?,
        owner: caller.node.clone(),
        server_version: open.server_version,
    })
}

pub(super) fn open_in(open: v1::OpenLane) -> Result<OpenLane, Error> {
    let number = |what: &str, value: u32| {
        u8::try_from(value)
            .ok()
            .filter(|it| *it <= 64)
            .ok_or_else(|| refused(format!("{what} {value} is none: a task has 64 lanes at most")))
    };
    let spec = spec_in(&open.spec, &open.task)?;
    Ok(OpenLane {
        lane: number("lane", open.lane)?,
        routed: number("a number of lanes of", open.routed)?,
        spec: Arc::new(spec),
        life: open.life,
        revision: open.revision,
        floor: position_in(open.floor),
        anew: open.anew,
        server_version: open.server_version,
        pins: Pins::new(open.pins.into_iter().collect()),
        // The call says it, and whoever opens it here.
        traceparent: None,
    })
}
