//! One value → JSON, by its [`Kind`].

use super::kind::{Beyond, Kind};
use super::{geometry, hstore, interval, numeric, time};
use crate::encode::{ValueError, array, bytea, number};
use crate::json;
use config::Hstore;

/// Buffers that rendering uses again and again.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// An array element without its quotes.
    pub(in crate::encode) element: Vec<u8>,
    /// A value before it is written as a string.
    pub(in crate::encode) inner: Vec<u8>,
}

/// Writes a value that the server sent as `text`.
///
/// # Errors
/// When `text` is no value of the kind, or does not fit; `out` then ends somewhere in it.
pub(super) fn write(
    kind: &Kind,
    text: &[u8],
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match kind {
        Kind::Bool => boolean(text, b"t", b"f", out),
        Kind::BitBool => boolean(text, b"1", b"0", out),
        Kind::Integer => integer(text, out),
        Kind::Float { beyond, .. } => numeric::float(text, *beyond, out),
        Kind::Text => Ok(json::string(text, out)?),
        Kind::Bytes(mode) => bytea::write(text, *mode, &mut work.inner, out),
        Kind::Bits => bits(text, work, out),
        Kind::Decimal { scale, beyond } => numeric::fixed(text, *scale, *beyond, out),
        Kind::VariableDecimal { beyond, scale } => numeric::variable(text, *scale, *beyond, out),
        Kind::DecimalDouble { beyond } => numeric::double(text, *beyond, out),
        Kind::DecimalWord => Ok(json::string(numeric::word(text), out)?),
        Kind::Money(mode) => numeric::money(text, *mode, work, out),
        Kind::Date { iso, beyond } => time::date(text, *iso, *beyond, out),
        Kind::Time(unit) => time::time(text, *unit, out),
        Kind::Timestamp { unit, beyond } => time::timestamp(text, *unit, *beyond, out),
        Kind::TimeTz => time::time_tz(text, out),
        Kind::TimestampTz { digits } => time::timestamp_tz(text, *digits, out),
        Kind::Interval { mode, beyond } => interval::write(text, *mode, *beyond, out),
        Kind::Hstore(Hstore::Map) => hstore::map(text, work, out),
        Kind::Hstore(Hstore::Json) => hstore::json(text, work, out),
        Kind::Point { beyond } => geometry::point(text, *beyond, out),
        Kind::Geometry => geometry::geometry(text, work, out),
        Kind::Vector { .. } => geometry::vector(text, out),
        Kind::SparseVector { is_narrow } => geometry::sparse_vector(text, *is_narrow, out),
        Kind::Array { is_flat: true, .. } if array::is_nested(text) => {
            Err(ValueError::OutOfRange(array::NESTED))
        }
        Kind::Array { element, delimiter, .. } => {
            // Debezium knows one dimension. Lower bounds are left out: JSON has no place for them.
            let mut unquoted = std::mem::take(&mut work.element);
            let item = &mut |text: &[u8], out: &mut Vec<u8>| write(element, text, work, out);
            let result = array::write_json(text, *delimiter, &mut unquoted, out, item);
            work.element = unquoted;
            result
        }
    }
}

/// Writes what stands for a value that was not logged, as Debezium does: the placeholder as text, as
/// bytes, or as the bytes' numbers.
///
/// # Errors
/// Where the type has room for none of these, and `beyond` says that nothing else may stand there.
pub(super) fn unavailable(
    kind: &Kind,
    placeholder: &str,
    beyond: Beyond,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    match kind {
        Kind::Text | Kind::DecimalWord => json::str(placeholder, out),
        Kind::Hstore(Hstore::Map) => pair(placeholder, out),
        Kind::Hstore(Hstore::Json) => {
            let mut inner = Vec::new();
            pair(placeholder, &mut inner);
            // Made of a `str`: the error cannot come.
            let _ = json::string(&inner, out);
        }
        Kind::Bytes(mode) => bytea::write_bytes(placeholder.as_bytes(), *mode, out),
        Kind::Bits => json::base64(placeholder.as_bytes(), out),
        Kind::Array { element, .. } if **element == Kind::Integer => {
            out.push(b'[');
            for (index, byte) in placeholder.bytes().enumerate() {
                if 0 < index {
                    out.push(b',');
                }
                json::integer(byte.cast_signed(), out);
            }
            out.push(b']');
        }
        Kind::Array { element, .. } => {
            out.push(b'[');
            unavailable(element, placeholder, beyond, out)?;
            out.push(b']');
        }
        Kind::Bool
        | Kind::BitBool
        | Kind::Integer
        | Kind::Float { .. }
        | Kind::Decimal { .. }
        | Kind::VariableDecimal { .. }
        | Kind::DecimalDouble { .. }
        | Kind::Money(_)
        | Kind::Date { .. }
        | Kind::Time(_)
        | Kind::Timestamp { .. }
        | Kind::TimeTz
        | Kind::TimestampTz { .. }
        | Kind::Interval { .. }
        | Kind::Point { .. }
        | Kind::Geometry
        | Kind::Vector { .. }
        | Kind::SparseVector { .. } => match beyond {
            Beyond::Strict => out.extend_from_slice(b"null"),
            Beyond::Text => json::str(placeholder, out),
            Beyond::Refused => return Err(ValueError::OutOfRange(UNAVAILABLE)),
        },
    }
    Ok(())
}

/// Why a value that was not logged is refused.
pub(super) const UNAVAILABLE: &str = "it is unchanged and was not logged, and its type has no room to say \
     so (with REPLICA IDENTITY FULL it is logged)";

/// `{"text":"text"}`.
pub(super) fn pair(text: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    json::str(text, out);
    out.push(b':');
    json::str(text, out);
    out.push(b'}');
}

fn boolean(text: &[u8], yes: &[u8], no: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.extend_from_slice(match text {
        text if text == yes => b"true",
        text if text == no => b"false",
        // An empty varbit(1).
        b"" => b"null",
        _ => return Err(ValueError::Malformed),
    });
    Ok(())
}

fn integer(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    number::check_integer(text)?;
    out.extend_from_slice(text);
    Ok(())
}

fn bits(text: &[u8], work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    unbits(text, &mut work.inner)?;
    json::base64(&work.inner, out);
    Ok(())
}

/// Bits of the text, the last one lowest, as little-endian bytes, in place of what `bytes` held; bytes
/// above the highest set bit are left out, as Debezium does.
pub(super) fn unbits(text: &[u8], bytes: &mut Vec<u8>) -> Result<(), ValueError> {
    bytes.clear();
    for group in text.rchunks(8) {
        let mut byte = 0;
        for &bit in group {
            byte = byte << 1
                | match bit {
                    b'0' => 0,
                    b'1' => 1,
                    _ => return Err(ValueError::Malformed),
                };
        }
        bytes.push(byte);
    }
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(())
}
