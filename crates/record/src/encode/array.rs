//! Arrays in the server's text form, taken apart, and as JSON.

use super::ValueError;

/// PostgreSQL's `MAXDIM`.
const DIMENSIONS_MAX: usize = 6;

/// What comes next in an array.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step<'a> {
    /// A dimension begins.
    Open,
    /// Another item of the same dimension follows.
    Next,
    /// A dimension ends.
    Close,
    Null,
    /// The text of an element, without quotes.
    Element(&'a [u8]),
}

/// Whether the array says where its dimensions begin: `[0:2]={…}`.
pub(crate) fn has_bounds(text: &[u8]) -> bool {
    text.starts_with(b"[")
}

/// Why an array of more than one dimension is refused.
pub(crate) const NESTED: &str = "an array of more than one dimension has no schema";

/// Whether the array has more than one dimension. An element that begins with a brace is quoted.
pub(crate) fn is_nested(text: &[u8]) -> bool {
    let equals = has_bounds(text).then(|| text.iter().position(|&byte| byte == b'=')).flatten();
    equals.map_or(text, |equals| &text[equals + 1..]).starts_with(b"{{")
}

/// Walks through an array (PostgreSQL, "Array Input and Output Syntax"). Lower bounds are passed over.
/// `unquoted` is a buffer.
///
/// # Errors
/// When the text is no array, or `visit` refuses a step.
pub(crate) fn walk(
    text: &[u8],
    delimiter: u8,
    unquoted: &mut Vec<u8>,
    visit: &mut impl FnMut(Step<'_>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let text = if has_bounds(text) {
        let equals = text.iter().position(|&byte| byte == b'=').ok_or(ValueError::Malformed)?;
        &text[equals + 1..]
    } else {
        text
    };
    let mut reader = Reader { rest: text, delimiter };
    reader.array(DIMENSIONS_MAX, unquoted, visit)?;
    if reader.rest.is_empty() { Ok(()) } else { Err(ValueError::Malformed) }
}

/// Writes an array as JSON: dimensions as arrays in arrays, elements by `write`.
///
/// # Errors
/// As [`walk`].
pub(crate) fn write_json(
    text: &[u8],
    delimiter: u8,
    unquoted: &mut Vec<u8>,
    out: &mut Vec<u8>,
    write: &mut impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    walk(text, delimiter, unquoted, &mut |step| {
        match step {
            Step::Open => out.push(b'['),
            Step::Next => out.push(b','),
            Step::Close => out.push(b']'),
            Step::Null => out.extend_from_slice(b"null"),
            Step::Element(text) => write(text, out)?,
        }
        Ok(())
    })
}

struct Reader<'a> {
    rest: &'a [u8],
    delimiter: u8,
}

impl Reader<'_> {
    fn take(&mut self) -> Result<u8, ValueError> {
        let (&first, rest) = self.rest.split_first().ok_or(ValueError::Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    fn array(
        &mut self,
        dimensions_left: usize,
        unquoted: &mut Vec<u8>,
        visit: &mut impl FnMut(Step<'_>) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        if dimensions_left == 0 || self.take()? != b'{' {
            return Err(ValueError::Malformed);
        }
        visit(Step::Open)?;
        if self.rest.first() == Some(&b'}') {
            self.take()?;
            return visit(Step::Close);
        }
        loop {
            match self.rest.first() {
                Some(b'{') => self.array(dimensions_left - 1, unquoted, visit)?,
                Some(b'"') => {
                    self.unquote(unquoted)?;
                    visit(Step::Element(unquoted))?;
                }
                Some(_) | None => self.plain(visit)?,
            }
            match self.take()? {
                b'}' => return visit(Step::Close),
                byte if byte == self.delimiter => visit(Step::Next)?,
                _ => return Err(ValueError::Malformed),
            }
        }
    }

    fn unquote(&mut self, unquoted: &mut Vec<u8>) -> Result<(), ValueError> {
        unquoted.clear();
        self.take()?;
        loop {
            match self.take()? {
                b'"' => return Ok(()),
                b'\\' => unquoted.push(self.take()?),
                byte => unquoted.push(byte),
            }
        }
    }

    fn plain(
        &mut self,
        visit: &mut impl FnMut(Step<'_>) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let ends = |&byte: &u8| byte == self.delimiter || byte == b'}';
        let end = self.rest.iter().position(ends).ok_or(ValueError::Malformed)?;
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        match value {
            b"NULL" => visit(Step::Null),
            // The server quotes empty elements.
            b"" => Err(ValueError::Malformed),
            _ => visit(Step::Element(value)),
        }
    }
}
