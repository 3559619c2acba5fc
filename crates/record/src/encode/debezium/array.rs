//! Arrays in the server's text form → JSON arrays.
//!
//! Debezium knows one dimension. More come out as arrays in arrays, lower bounds (`[0:2]={…}`) are
//! left out: JSON has no place for them.

use super::kind::Kind;
use super::values::{self, Work};
use crate::encode::ValueError;

/// PostgreSQL's `MAXDIM`.
const DIMENSIONS_MAX: usize = 6;

/// Writes an array (PostgreSQL, "Array Input and Output Syntax").
pub(super) fn write(
    text: &[u8],
    element: &Kind,
    delimiter: u8,
    work: &mut Work,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let text = match text {
        [b'[', ..] => {
            let equals = text.iter().position(|&byte| byte == b'=').ok_or(ValueError::Malformed)?;
            &text[equals + 1..]
        }
        _ => text,
    };
    let mut reader = Reader { rest: text, element, delimiter };
    let mut unquoted = std::mem::take(&mut work.element);
    let result = reader.array(DIMENSIONS_MAX, &mut unquoted, work, out);
    work.element = unquoted;
    result?;
    if reader.rest.is_empty() { Ok(()) } else { Err(ValueError::Malformed) }
}

struct Reader<'a> {
    rest: &'a [u8],
    element: &'a Kind,
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
        work: &mut Work,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        if dimensions_left == 0 || self.take()? != b'{' {
            return Err(ValueError::Malformed);
        }
        out.push(b'[');
        if self.rest.first() == Some(&b'}') {
            self.take()?;
            out.push(b']');
            return Ok(());
        }
        loop {
            match self.rest.first() {
                Some(b'{') => self.array(dimensions_left - 1, unquoted, work, out)?,
                Some(b'"') => {
                    self.unquote(unquoted)?;
                    values::write(self.element, unquoted, work, out)?;
                }
                Some(_) | None => self.plain(work, out)?,
            }
            match self.take()? {
                b'}' => break,
                byte if byte == self.delimiter => out.push(b','),
                _ => return Err(ValueError::Malformed),
            }
        }
        out.push(b']');
        Ok(())
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

    fn plain(&mut self, work: &mut Work, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let ends = |&byte: &u8| byte == self.delimiter || byte == b'}';
        let end = self.rest.iter().position(ends).ok_or(ValueError::Malformed)?;
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        match value {
            b"NULL" => out.extend_from_slice(b"null"),
            // The server quotes empty elements.
            b"" => return Err(ValueError::Malformed),
            _ => values::write(self.element, value, work, out)?,
        }
        Ok(())
    }
}
