//! Protobuf's binary encoding (protobuf.dev, "Encoding"), written straight into a byte buffer.

use super::avro::varint;

/// How the value of a field is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wire {
    Varint = 0,
    Fixed64 = 1,
    /// Texts, bytes, messages.
    Length = 2,
    Fixed32 = 5,
}

pub(crate) fn tag(number: u32, wire: Wire, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire as u64, out);
}

/// Writes an `int32` or `int64`: a negative one has ten bytes.
pub(crate) fn int(number: u32, value: i64, out: &mut Vec<u8>) {
    tag(number, Wire::Varint, out);
    varint(value.cast_unsigned(), out);
}

/// Writes `bytes`, a message, or a `string` that is known to be UTF-8.
pub(crate) fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    tag(number, Wire::Length, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Writes a field of a length that is known when it has been written.
pub(crate) fn nested<E>(
    number: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    tag(number, Wire::Length, out);
    let start = out.len();
    // Enough for the length of most rows, which then need not be moved.
    out.extend_from_slice(&[0; 2]);
    write(out)?;
    let length = out.len() - start - 2;
    if (0x80..0x4000).contains(&length) {
        let [low, high, ..] = length.to_le_bytes();
        out[start] = low | 0x80;
        out[start + 1] = high << 1 | low >> 7;
        return Ok(());
    }
    let end = out.len();
    varint(length as u64, out);
    // The length goes from behind the field to its begin.
    let bytes = out.len() - end;
    let mut head = [0; 10];
    head[..bytes].copy_from_slice(&out[end..]);
    out.truncate(end);
    out.splice(start..start + 2, head[..bytes].iter().copied());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[track_caller]
    fn check(length: usize, head: &[u8]) {
        let mut out = vec![7];
        let Ok(()) = nested(3, &mut out, |out| {
            out.extend(std::iter::repeat_n(9, length));
            Ok::<(), Infallible>(())
        });
        assert_eq!(out[..2], [7, 0x1a]);
        assert_eq!(&out[2..2 + head.len()], head, "{length}");
        assert!(out[2 + head.len()..].iter().all(|&byte| byte == 9));
        assert_eq!(out.len(), 2 + head.len() + length);
        let mut known = vec![7];
        bytes(3, &vec![9; length], &mut known);
        assert_eq!(out, known);
    }

    #[test]
    fn a_length_stands_before_what_it_is_of() {
        check(0, &[0]);
        check(127, &[0x7f]);
        check(128, &[0x80, 1]);
        check(300, &[0xac, 2]);
        check(16_383, &[0xff, 0x7f]);
        check(16_384, &[0x80, 0x80, 1]);
        check(3_000_000, &[0xc0, 0x8d, 0xb7, 1]);
    }

    #[test]
    fn a_negative_number_has_ten_bytes() {
        let mut out = Vec::new();
        int(1, -1, &mut out);
        assert_eq!(out, [8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }
}
