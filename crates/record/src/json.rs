//! JSON written straight into a byte buffer.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};

/// The bytes are not UTF-8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotUtf8;

/// Writes `text` as a JSON string with its quotes.
///
/// # Errors
/// When `text` is not UTF-8; `out` then ends in the middle of the string.
pub(crate) fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotUtf8> {
    out.push(b'"');
    escaped(text, out)?;
    out.push(b'"');
    Ok(())
}

/// Writes the inside of a JSON string.
///
/// # Errors
/// As [`string`].
pub(crate) fn escaped(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotUtf8> {
    let plain = plain_prefix(text);
    out.extend_from_slice(&text[..plain]);
    let rest = &text[plain..];
    if rest.is_empty() {
        return Ok(());
    }
    // The prefix is ASCII, so the rest begins where a character begins.
    let rest = std::str::from_utf8(rest).map_err(|_| NotUtf8)?.as_bytes();
    let mut from = 0;
    for (at, &byte) in rest.iter().enumerate() {
        if needs_escape(byte) {
            out.extend_from_slice(&rest[from..at]);
            escape(byte, out);
            from = at + 1;
        }
    }
    out.extend_from_slice(&rest[from..]);
    Ok(())
}

/// Writes a text of ours as a JSON string.
pub(crate) fn str(text: &str, out: &mut Vec<u8>) {
    // A `str` is UTF-8: the error cannot come.
    let _ = string(text.as_bytes(), out);
}

/// Writes an integer.
pub(crate) fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Writes bytes as a base64 string, as Kafka Connect's JSON converter does.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    base64_by(&STANDARD, bytes, out);
}

/// Writes bytes as a string in the alphabet of `engine`.
pub(crate) fn base64_by(engine: &GeneralPurpose, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = engine.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    // Upper case, as Jackson writes it.
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 0xF));
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Length of the prefix that is ASCII and needs no escape, eight bytes at a time.
fn plain_prefix(text: &[u8]) -> usize {
    let mut words = text.chunks_exact(8);
    let mut plain = 0;
    for word in &mut words {
        let word = u64::from_le_bytes([
            word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
        ]);
        if special(word) != 0 {
            break;
        }
        plain += 8;
    }
    let tail = &text[plain..];
    let stop = |&byte: &u8| needs_escape(byte) || !byte.is_ascii();
    plain + tail.iter().take(8).position(stop).unwrap_or_else(|| tail.len().min(8))
}

/// Not zero when one of the eight bytes is a control character, a quote, a backslash or not ASCII.
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // False alarms of the borrow only ever come beside a true one.
    let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    (control | quote | backslash | word) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(text: &[u8]) -> Result<String, NotUtf8> {
        let mut out = Vec::new();
        string(text, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_json_forbids_is_escaped() {
        let text = "plain text, \"quoted\" \\ \n\r\t\u{8}\u{c}\u{1f}\u{7f} ä😀";
        let expected = r#""plain text, \"quoted\" \\ \n\r\t\b\f\u001F"#.to_owned();
        assert_eq!(written(text.as_bytes()), Ok(expected + "\u{7f} ä😀\""));
    }

    #[test]
    fn other_encodings_are_refused() {
        assert_eq!(written(b"plain text \xE4"), Err(NotUtf8));
        assert_eq!(written(b"\xED\xA0\x80"), Err(NotUtf8));
    }

    proptest! {
        #[test]
        fn every_text_round_trips(text: String) {
            let json = written(text.as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn ascii_round_trips(bytes in prop::collection::vec(0u8..0x80, 0..40)) {
            let json = written(&bytes).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap().into_bytes(), bytes);
        }

        #[test]
        fn bytes_round_trip(bytes: Vec<u8>) {
            let mut out = Vec::new();
            base64(&bytes, &mut out);
            let text = &out[1..out.len() - 1];
            prop_assert_eq!(STANDARD.decode(text).unwrap(), bytes);
        }
    }
}
