//! Avro's binary encoding (specification 1.12, "Binary Encoding"), written straight into a byte buffer.

/// Writes an `int`, a `long`, the number of a union's branch or of an enum's symbol: zig-zag, then
/// seven bits a byte, the lowest first.
pub(crate) fn long(value: i64, out: &mut Vec<u8>) {
    varint((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned(), out);
}

/// Writes seven bits a byte, the lowest first. Protobuf's varint is the same.
pub(crate) fn varint(mut rest: u64, out: &mut Vec<u8>) {
    while 0x80 <= rest {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Writes the length of `bytes` or `string`, or the number of items of a block.
pub(crate) fn length(length: usize, out: &mut Vec<u8>) {
    // No buffer is longer than an `i64` counts.
    long(i64::try_from(length).unwrap_or(i64::MAX), out);
}

/// Writes `bytes`, or a `string` that is known to be UTF-8.
pub(crate) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    length(value.len(), out);
    out.extend_from_slice(value);
}

pub(crate) fn string(value: &str, out: &mut Vec<u8>) {
    bytes(value.as_bytes(), out);
}

pub(crate) fn double(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(value: i64, expected: &[u8]) {
        let mut out = Vec::new();
        long(value, &mut out);
        assert_eq!(out, expected, "{value}");
    }

    #[test]
    fn numbers_are_those_of_the_specification() {
        check(0, &[0x00]);
        check(-1, &[0x01]);
        check(1, &[0x02]);
        check(-2, &[0x03]);
        check(-64, &[0x7f]);
        check(64, &[0x80, 0x01]);
        check(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn a_string_has_its_length_before_it() {
        let mut out = Vec::new();
        string("foo", &mut out);
        assert_eq!(out, [0x06, 0x66, 0x6f, 0x6f]);
    }

    proptest! {
        #[test]
        fn an_independent_reader_gets_every_number_back(value: i64) {
            let mut out = Vec::new();
            long(value, &mut out);
            let read = apache_avro::from_avro_datum(
                &apache_avro::Schema::Long, &mut out.as_slice(), None,
            );
            prop_assert_eq!(read.expect("a long"), apache_avro::types::Value::Long(value));
        }
    }
}
