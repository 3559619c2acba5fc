//! Any bytes as a message of the plug-in. The first byte picks protocol version and place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wal::message::{Context, Message, Protocol};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let versions = [Protocol::V1, Protocol::V2, Protocol::V3, Protocol::V4];
    let protocol = versions[usize::from(choice & 3)];
    match Message::parse(bytes, Context { protocol, in_stream: choice & 4 != 0 }) {
        Ok(Message::Relation(relation)) => {
            assert_eq!(relation.columns.iter().count(), relation.columns.len());
        }
        Ok(Message::Insert(insert)) => assert_eq!(insert.new.iter().count(), insert.new.len()),
        Ok(_) | Err(_) => {}
    }
});
