//! `hstore` → a JSON object, or the text of one.

use super::values::Work;
use crate::encode::ValueError;
use crate::json;

/// Writes an object: `{"a":"1","b":null}`.
pub(super) fn map(text: &[u8], work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut unquoted = std::mem::take(&mut work.element);
    let result = object(text, &mut unquoted, out);
    work.element = unquoted;
    result
}

/// Writes a string that holds the object, as Debezium does by default.
pub(super) fn json(text: &[u8], work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
    // An array of hstore lends its own element buffer out, so this one is free.
    let mut unquoted = std::mem::take(&mut work.element);
    let mut inner = std::mem::take(&mut work.inner);
    inner.clear();
    let result = object(text, &mut unquoted, &mut inner)
        .and_then(|()| json::string(&inner, out).map_err(ValueError::from));
    work.element = unquoted;
    work.inner = inner;
    result
}

/// Writes the object, in the order of the server.
pub(super) fn object(
    text: &[u8],
    unquoted: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let start = out.len();
    walk(text, unquoted, &mut |step| {
        match step {
            Step::Key(key) => {
                out.push(if out.len() == start { b'{' } else { b',' });
                json::string(key, out)?;
                out.push(b':');
            }
            Step::Null => out.extend_from_slice(b"null"),
            Step::Value(value) => json::string(value, out)?,
        }
        Ok(())
    })?;
    out.extend_from_slice(if out.len() == start { b"{}" } else { b"}" });
    Ok(())
}

/// What comes next: a key, then its value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step<'a> {
    Key(&'a [u8]),
    Null,
    Value(&'a [u8]),
}

/// Walks through `"key"=>"value", "other"=>NULL`.
pub(super) fn walk(
    text: &[u8],
    unquoted: &mut Vec<u8>,
    visit: &mut impl FnMut(Step<'_>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let mut rest = text;
    while !rest.is_empty() {
        rest = quoted(rest, unquoted)?;
        visit(Step::Key(unquoted))?;
        rest = rest.strip_prefix(b"=>").ok_or(ValueError::Malformed)?;
        if let Some(after) = rest.strip_prefix(b"NULL") {
            visit(Step::Null)?;
            rest = after;
        } else {
            rest = quoted(rest, unquoted)?;
            visit(Step::Value(unquoted))?;
        }
        if rest.is_empty() {
            break;
        }
        rest = rest
            .strip_prefix(b", ")
            .filter(|rest| !rest.is_empty())
            .ok_or(ValueError::Malformed)?;
    }
    Ok(())
}

/// Takes a quoted text off the front; returns what follows.
fn quoted<'a>(text: &'a [u8], unquoted: &mut Vec<u8>) -> Result<&'a [u8], ValueError> {
    unquoted.clear();
    let mut bytes = text.strip_prefix(b"\"").ok_or(ValueError::Malformed)?.iter();
    loop {
        match bytes.next() {
            Some(b'"') => return Ok(bytes.as_slice()),
            Some(b'\\') => unquoted.push(*bytes.next().ok_or(ValueError::Malformed)?),
            Some(&byte) => unquoted.push(byte),
            None => return Err(ValueError::Malformed),
        }
    }
}
