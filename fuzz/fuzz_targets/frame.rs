//! Any bytes as a receive buffer: what `scan` calls whole, `Frames` must read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wal::frame::{Frames, scan};

fuzz_target!(|data: &[u8]| {
    let _ = Frames::new(data).count();
    if let Ok(found) = scan(data) {
        assert!(Frames::new(&data[..found.complete]).all(|frame| frame.is_ok()));
        if let Some(other) = found.other {
            assert!(found.complete + other.total() <= data.len());
            assert!(other.body.end <= data.len());
        }
    }
});
