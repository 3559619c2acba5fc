//! Any bytes as a value of any type in binary form. The first byte picks the type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use wal::Tuple;
use wal::binary::{Plan, Text};
use wal::types::{Field, Kind, Type};

/// Texts of a value stay below it.
const MAX: usize = 1 << 20;

fn own(oid: u32, kind: Kind) -> Arc<Type> {
    Arc::new(Type { oid, schema: "public".into(), name: "own".into(), kind })
}

/// A built-in type, or one of one or two levels over it.
fn type_(choice: u8, oid: u32) -> Arc<Type> {
    let base = Arc::new(Type::unknown(oid));
    let field = |type_| Field { name: "f".into(), type_, type_modifier: -1 };
    match choice % 5 {
        0 => base,
        1 => own(20_000, Kind::Array { element: base, delimiter: b',' }),
        2 => own(20_001, Kind::Composite { fields: vec![field(base.clone()), field(base)] }),
        3 => own(20_002, Kind::Range { subtype: base }),
        _ => {
            let range = own(20_002, Kind::Range { subtype: base });
            own(20_003, Kind::Multirange { range })
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[choice, high, low], value)) = data.split_first_chunk() else { return };
    let type_ = type_(choice, u32::from(u16::from_be_bytes([high, low])));
    let Ok(length) = u32::try_from(value.len()) else { return };
    let tuple = [&[0, 1, b'b'], &length.to_be_bytes()[..], value].concat();
    let (tuple, _) = Tuple::check(&tuple).expect("a tuple");
    let mut out = Text::new(0, MAX);
    if Plan::of([&*type_], 180_000).append(tuple, &mut out).is_ok() {
        let (tuple, taken) = Tuple::check(out.as_slice()).expect("what is written is a tuple");
        assert_eq!((tuple.len(), taken), (1, out.len()));
    }
});
