//! What the contract calls a stage before the router ↔ what the pipeline calls it.

use crate::link::convert::{Caller, refused, spec_in, spec_out};
use pipeline::Failure;
use pipeline::upstream::{Line, OpenStage, UpstreamStage};
use rpc::v1::open_stage::Stage;
use rpc::{Error, v1};
use std::sync::Arc;
use wal::Lsn;

pub(super) fn open_out(open: &OpenStage, caller: &Caller) -> Result<v1::OpenStage, Failure> {
    let stage = match open.stage {
        UpstreamStage::Reader => Stage::Reader,
        UpstreamStage::Decoder => Stage::Decoder,
    };
    Ok(v1::OpenStage {
        // As the call says.
        protocol: 0,
        task: open.spec.task.clone(),
        stage: stage.into(),
        generation: open.generation,
        placement_rev: caller.placement_rev,
        spec: spec_out(&open.spec)?,
        owner: caller.node.clone(),
        from_lsn: open.from.0,
        confirmed_lsn: open.confirmed.0,
        system_id: open.line.system_id,
        timeline: open.line.timeline,
        eager: open.eager,
        binary: open.binary.unwrap_or_default(),
    })
}

pub(super) fn open_in(open: &v1::OpenStage) -> Result<OpenStage, Error> {
    let stage = match open.stage() {
        Stage::Reader => UpstreamStage::Reader,
        Stage::Decoder => UpstreamStage::Decoder,
        Stage::Unspecified => return Err(refused("it is said of no stage that it is to begin")),
    };
    Ok(OpenStage {
        stage,
        spec: Arc::new(spec_in(&open.spec, &open.task)?),
        generation: open.generation,
        from: Lsn(open.from_lsn),
        line: Line { system_id: open.system_id, timeline: open.timeline },
        confirmed: Lsn(open.confirmed_lsn),
        eager: open.eager,
        binary: (open.binary != 0).then_some(open.binary),
    })
}
