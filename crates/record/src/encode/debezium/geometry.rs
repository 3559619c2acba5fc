//! Points, PostGIS geometries and pgvector vectors.

use super::kind::Beyond;
use super::numeric;
use super::values::Work;
use crate::encode::ValueError;
use crate::encode::bytea::unhex;
use crate::encode::number::parse_float;
use crate::json;

/// Writes `(x,y)` as Debezium's `Point`, with its well-known binary form.
pub(super) fn point(text: &[u8], beyond: Beyond, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (x, y) = coordinates(text)?;
    let wkb = wkb(parse_float(x)?, parse_float(y)?);
    out.extend_from_slice(b"{\"x\":");
    numeric::float(x, beyond, out)?;
    out.extend_from_slice(b",\"y\":");
    numeric::float(y, beyond, out)?;
    out.extend_from_slice(b",\"wkb\":");
    json::base64(&wkb, out);
    out.extend_from_slice(b",\"srid\":null}");
    Ok(())
}

/// The two numbers of `(x,y)`, as texts.
pub(super) fn coordinates(text: &[u8]) -> Result<(&[u8], &[u8]), ValueError> {
    let inner = text.strip_prefix(b"(").and_then(|text| text.strip_suffix(b")"));
    let inner = inner.ok_or(ValueError::Malformed)?;
    let comma = inner.iter().position(|&byte| byte == b',').ok_or(ValueError::Malformed)?;
    Ok((&inner[..comma], &inner[comma + 1..]))
}

/// The well-known binary form of a point.
pub(super) fn wkb(x: f64, y: f64) -> [u8; 21] {
    // Little-endian, geometry type 1.
    let mut wkb = [0; 21];
    wkb[0] = 1;
    wkb[1] = 1;
    wkb[5..13].copy_from_slice(&x.to_le_bytes());
    wkb[13..].copy_from_slice(&y.to_le_bytes());
    wkb
}

/// Flag of EWKB's geometry type: an SRID follows (PostGIS, `ST_AsEWKB`).
const EWKB_SRID: u32 = 0x2000_0000;

/// Writes PostGIS's hexadecimal EWKB as Debezium's `Geometry`: the bytes as they are, and the SRID.
pub(super) fn geometry(text: &[u8], work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    unhex(text, &mut work.inner)?;
    let ewkb = work.inner.as_slice();
    out.extend_from_slice(b"{\"wkb\":");
    json::base64(ewkb, out);
    out.extend_from_slice(b",\"srid\":");
    match srid(ewkb).ok_or(ValueError::Malformed)? {
        Some(srid) => json::integer(srid, out),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    Ok(())
}

/// The SRID of an EWKB geometry, where it has one; `None`: it is no EWKB.
pub(super) fn srid(ewkb: &[u8]) -> Option<Option<i32>> {
    let (&order, rest) = ewkb.split_first()?;
    let (type_, rest) = rest.split_first_chunk::<4>()?;
    let little = match order {
        0 => false,
        1 => true,
        _ => return None,
    };
    let type_ = if little { u32::from_le_bytes(*type_) } else { u32::from_be_bytes(*type_) };
    if type_ & EWKB_SRID == 0 {
        return Some(None);
    }
    let srid = rest.first_chunk::<4>()?;
    Some(Some(if little { i32::from_le_bytes(*srid) } else { i32::from_be_bytes(*srid) }))
}

/// Writes pgvector's `[1,2,3]`.
pub(super) fn vector(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    out.push(b'[');
    for (index, item) in items(text)?.enumerate() {
        if 0 < index {
            out.push(b',');
        }
        numeric::float(item, Beyond::Text, out)?;
    }
    out.push(b']');
    Ok(())
}

/// The items of `[1,2,3]`, as texts.
pub(super) fn items(text: &[u8]) -> Result<impl Iterator<Item = &[u8]>, ValueError> {
    let inner = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]"));
    Ok(inner.ok_or(ValueError::Malformed)?.split(|&byte| byte == b','))
}

/// Writes pgvector's `{1:1.5,3:2}/5`. Connect's JSON has maps with other keys than strings as arrays
/// of pairs. `is_narrow`: its numbers must fit the 16 bits of Debezium's schema.
pub(super) fn sparse_vector(
    text: &[u8],
    is_narrow: bool,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let (dimensions, entries) = sparse(text, is_narrow)?;
    out.extend_from_slice(b"{\"dimensions\":");
    json::integer(dimensions, out);
    out.extend_from_slice(b",\"vector\":[");
    for (count, entry) in entries.enumerate() {
        let (index, value) = entry?;
        out.extend_from_slice(if count == 0 { b"[" } else { b",[" });
        json::integer(index, out);
        out.push(b',');
        numeric::float(value, Beyond::Text, out)?;
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

/// Debezium's schema has 16 bits for dimensions and indexes.
const NARROW_MAX: u32 = i16::MAX.unsigned_abs() as u32;

/// An entry of a sparse vector: its index, and its value as text.
type Entry<'a> = Result<(u32, &'a [u8]), ValueError>;

/// Dimensions and entries of `{1:1.5,3:2}/5`. No index is above the dimensions (pgvector, `CheckIndex`).
pub(super) fn sparse(
    text: &[u8],
    is_narrow: bool,
) -> Result<(u32, impl Iterator<Item = Entry<'_>>), ValueError> {
    let text = std::str::from_utf8(text).map_err(|_| ValueError::NotUtf8)?;
    let (entries, dimensions) = text
        .strip_prefix('{')
        .and_then(|text| text.split_once("}/"))
        .ok_or(ValueError::Malformed)?;
    let dimensions = dimensions.parse().map_err(|_| ValueError::Malformed)?;
    if is_narrow && NARROW_MAX < dimensions {
        return Err(ValueError::OutOfRange(
            "a sparse vector of more than 32,767 dimensions has no schema",
        ));
    }
    let entries = entries.split(',').filter(|entry| !entry.is_empty()).map(|entry| {
        let (index, value) = entry.split_once(':').ok_or(ValueError::Malformed)?;
        Ok((index.parse().map_err(|_| ValueError::Malformed)?, value.as_bytes()))
    });
    Ok((dimensions, entries))
}
