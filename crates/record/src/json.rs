//! JSON written straight into a byte buffer.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};

/// The bytes are not UTF-8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotUtf8;

/// Writes `text` as a JSON string with its quotes.
///
/// # Errors
/// When `text` is not UTF-8; `out` is then as it was, but for a quote.
pub(crate) fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotUtf8> {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        escaped(text, out)?;
    }
    out.push(b'"');
    Ok(())
}

/// Writes the inside of a JSON string.
fn escaped(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotUtf8> {
    let mut rest = std::str::from_utf8(text).map_err(|_| NotUtf8)?.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
        out.extend_from_slice(&rest[..at]);
        escape(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Writes a text of ours as a JSON string.
pub(crate) fn str(text: &str, out: &mut Vec<u8>) {
    // A `str` is UTF-8: the error cannot come.
    let _ = string(text.as_bytes(), out);
}

/// Writes a text of ours as a part of a JSON string, without quotes.
pub(crate) fn inner(text: &str, out: &mut Vec<u8>) {
    // A `str` is UTF-8: the error cannot come.
    let _ = escaped(text.as_bytes(), out);
}

/// Writes an array of strings.
pub(crate) fn strings<'a>(texts: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (count, text) in texts.enumerate() {
        if 0 < count {
            out.push(b',');
        }
        str(text, out);
    }
    out.push(b']');
}

/// Writes an integer.
pub(crate) fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Up to so many bytes a plain loop is quicker than the library.
const BASE64_SHORT_MAX: usize = 24;

/// Writes bytes as a base64 string, as Kafka Connect's JSON converter does.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    if BASE64_SHORT_MAX < bytes.len() {
        return base64_by(&STANDARD, bytes, out);
    }
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digit = |shift: u32| DIGITS[(bits >> shift & 0x3F) as usize];
        let mut digits = [digit(18), digit(12), digit(6), digit(0)];
        digits[group.len() + 1..].fill(b'=');
        out.extend_from_slice(&digits);
    }
    out.push(b'"');
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

/// Whether the text is ASCII and needs no escape; eight bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        let mut padded = [b' '; 8];
        padded[..text.len()].copy_from_slice(text);
        return special(u64::from_le_bytes(padded)) == 0;
    };
    // The last chunk overlaps the one before it.
    let (chunks, _) = text.as_chunks::<8>();
    let found = |found, chunk: &[u8; 8]| found | special(u64::from_le_bytes(*chunk));
    chunks.iter().fold(special(u64::from_le_bytes(*last)), found) == 0
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
