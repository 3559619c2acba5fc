//! Any bytes as what is read back from internal topics: checkpoints, descriptions of tables, what a cluster writes down.
#![no_main]

use kafka::checkpoint::Checkpoint;
use kafka::names::{LaneId, Names};
use libfuzzer_sys::fuzz_target;
use node::state::ClusterState;

const KEYS: [&str; 8] =
    ["f", "leader", "task/t", "placement/t", "state/t", "node/n", "connection/c", "copies/t"];

fuzz_target!(|data: &[u8]| {
    let names = Names::new("p", "t").expect("names");
    let _ = Checkpoint::parse(data, &names, LaneId::Lane(0));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = pipeline::link::kept::read(text);
    }
    let mut state = ClusterState::default();
    let records = data.split(|&byte| byte == b'\n');
    for (offset, record) in (0..).zip(records) {
        let Some((&choice, value)) = record.split_first() else { continue };
        let key = KEYS[usize::from(choice) % KEYS.len()];
        let _ = state.apply(offset, key, (choice < 128).then_some(value));
    }
});
