//! Any messages from another node, in frames whose checksums are right: to a lane, a router and a decoder. Of each message the
//! first byte is its version, the next two say how much of it is the head.
#![no_main]

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use pipeline::hosts::OpenLane;
use pipeline::link::Receiver;
use pipeline::link::upstream::{TableReceiver, UpReceiver};
use pipeline::planner::Pins;
use record::plan::TaskPlan;
use std::sync::Arc;

fn receiver() -> Receiver {
    let object = config::Object { table: "public.*".into(), ..config::Object::default() };
    let spec =
        config::Task { task: "shop".into(), objects: vec![object], ..config::Task::default() };
    let plan = TaskPlan::new(&spec, "appdb").expect("a plan");
    let open = OpenLane {
        spec: Arc::new(spec),
        lane: 0,
        life: 1,
        revision: 1,
        floor: wal::Position::ZERO,
        server_version: 0,
        anew: false,
        routed: 1,
        pins: Pins::default(),
    };
    Receiver::new(&open, plan)
}

/// The last frame of a message.
fn frame(number: u32, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32_le(number);
    frame.put_u32_le(crc32c::crc32c(message));
    frame.put_slice(message);
    frame.freeze()
}

fn message(part: &[u8]) -> Option<Vec<u8>> {
    let (&[version, high, low], rest) = part.split_first_chunk()?;
    let head = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let length = u32::try_from(head).ok()?.to_le_bytes();
    Some([&[version], &length[..], rest].concat())
}

fuzz_target!(|data: &[u8]| {
    let _ = receiver().take(Bytes::copy_from_slice(data));
    let (mut lane, mut router, mut decoder) =
        (receiver(), UpReceiver::default(), TableReceiver::default());
    let messages = data.split(|&byte| byte == 0xFF).filter_map(message);
    for (number, message) in (0..).zip(messages) {
        let frame = frame(number, &message);
        let _ = lane.take(frame.clone());
        let _ = router.take(frame.clone());
        let _ = decoder.take(frame);
    }
});
