//! `bytea` in `bytea_output = hex` → bytes, and bytes → JSON strings.

use super::ValueError;
use crate::json;
use base64::engine::general_purpose::URL_SAFE;
use config::Binary;

/// Writes a `bytea` as a JSON string. `bytes` is a buffer.
///
/// # Errors
/// When the text is not of that form.
pub(super) fn write(
    text: &[u8],
    mode: Binary,
    bytes: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let digits = text.strip_prefix(b"\\x").ok_or(ValueError::Malformed)?;
    if mode == Binary::Hex {
        // Already what is wanted: lower-case hexadecimal.
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ValueError::Malformed);
        }
        out.push(b'"');
        out.extend_from_slice(digits);
        out.push(b'"');
        return Ok(());
    }
    unhex(digits, bytes)?;
    write_bytes(bytes, mode, out);
    Ok(())
}

/// Writes bytes as a JSON string.
pub(super) fn write_bytes(bytes: &[u8], mode: Binary, out: &mut Vec<u8>) {
    match mode {
        Binary::Bytes | Binary::Base64 => json::base64(bytes, out),
        Binary::Base64UrlSafe => json::base64_by(&URL_SAFE, bytes, out),
        Binary::Hex => hex(bytes, out),
        Binary::Latin1 => latin1(bytes, out),
    }
}

/// A character for each byte.
fn latin1(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in bytes {
        json::inner(char::from(byte).encode_utf8(&mut [0; 2]), out);
    }
    out.push(b'"');
}

/// Hexadecimal digits → bytes, in place of what `bytes` held.
pub(super) fn unhex(digits: &[u8], bytes: &mut Vec<u8>) -> Result<(), ValueError> {
    fn nibble(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            b'A'..=b'F' => Some(digit - b'A' + 10),
            _ => None,
        }
    }
    bytes.clear();
    bytes.reserve(digits.len() / 2);
    for pair in digits.chunks(2) {
        let &[high, low] = pair else { return Err(ValueError::Malformed) };
        let (Some(high), Some(low)) = (nibble(high), nibble(low)) else {
            return Err(ValueError::Malformed);
        };
        bytes.push(high << 4 | low);
    }
    Ok(())
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 0xF)]);
    }
    out.push(b'"');
}
