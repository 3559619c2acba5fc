//! Any bytes as a line of COPY: what is accepted must be TupleData.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use wal::Tuple;
use wal::copy::append_tuple;

fuzz_target!(|data: &[u8]| {
    let Some((&columns, line)) = data.split_first() else { return };
    let mut out = BytesMut::new();
    match append_tuple(line, u16::from(columns), &mut out) {
        Ok(_) => {
            let (tuple, taken) = Tuple::check(&out).expect("an accepted line gives a tuple");
            assert_eq!((tuple.len(), taken), (usize::from(columns), out.len()));
        }
        Err(_) => assert!(out.is_empty()),
    }
});
