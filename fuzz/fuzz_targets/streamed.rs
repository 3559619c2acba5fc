//! Any bytes as buffers of a stream of transactions in progress: what is to be written is where the spool ends.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use wal::streamed::{Replay, Step, Streamed};

fuzz_target!(|data: &[u8]| {
    let Some((&middle, data)) = data.split_first() else { return };
    let (first, second) = data.split_at(data.len().min(middle.into()));
    let mut core = Streamed::new(1 << 20);
    let mut spools: HashMap<u32, u64> = HashMap::new();
    for buffer in [first, second] {
        let Ok(steps) = core.take(&Bytes::copy_from_slice(buffer)) else { return };
        for step in steps {
            match step {
                Step::Pass(_) => {}
                Step::Write { xid, at, bytes } => {
                    let spool = spools.entry(xid).or_default();
                    assert_eq!(*spool, at);
                    *spool += bytes.len() as u64;
                }
                Step::Cut { xid, to } => assert!(to <= spools.insert(xid, to).unwrap_or(0)),
                Step::Drop { xid } => drop(spools.remove(&xid)),
                Step::Replay(Replay { xid, bytes, .. }) => {
                    assert_eq!(spools.remove(&xid).unwrap_or(0), bytes);
                }
            }
        }
        assert_eq!(core.bytes(), spools.values().sum::<u64>());
    }
});
