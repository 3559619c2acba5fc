//! Values of values: their parts are written as texts of their own, then put between quotes where a reader would
//! take them for something else.

use super::read::Reader;
use super::text::Text;
use super::{Fault, Form, builtin};
use std::sync::Arc;

/// PostgreSQL's `MAXDIM`.
const DIMENSIONS_MAX: usize = 6;

/// Flags of a range.
mod flag {
    pub(super) const EMPTY: u8 = 0x01;
    pub(super) const LOWER_INCLUSIVE: u8 = 0x02;
    pub(super) const UPPER_INCLUSIVE: u8 = 0x04;
    pub(super) const LOWER_INFINITE: u8 = 0x08;
    pub(super) const UPPER_INFINITE: u8 = 0x10;
}

/// What the server's `isspace` takes for a blank.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

#[derive(Debug)]
pub(super) struct Array {
    /// Type of the elements.
    pub(super) oid: u32,
    pub(super) element: Arc<Form>,
    pub(super) delimiter: u8,
}

impl Array {
    /// Int32 number of dimensions, flags, the type of the elements; Int32 length and lower bound of each dimension;
    /// the elements, the last dimension first.
    pub(super) fn write(&self, value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
        let dimensions = usize::try_from(value.int32()?).map_err(|_| Fault::Malformed)?;
        value.int32()?;
        if value.uint32()? != self.oid || DIMENSIONS_MAX < dimensions {
            return Err(Fault::Malformed);
        }
        let mut bounds = [(0_i32, 0_i32); DIMENSIONS_MAX];
        let bounds = &mut bounds[..dimensions];
        for bound in bounds.iter_mut() {
            *bound = (value.int32()?, value.int32()?);
        }
        // So many elements are in each part that a brace of this dimension holds.
        let (mut parts, mut count) = ([0_usize; DIMENSIONS_MAX], 1_usize);
        for (part, (length, _)) in parts[..dimensions].iter_mut().zip(&*bounds).rev() {
            let length = usize::try_from(*length).map_err(|_| Fault::Malformed)?;
            count = count.checked_mul(length).ok_or(Fault::Malformed)?;
            *part = count;
        }
        if dimensions == 0 || count == 0 {
            out.extend(b"{}");
            return Ok(());
        }
        // Each element takes four bytes at least.
        if value.len() / 4 < count {
            return Err(Fault::Malformed);
        }
        lower_bounds(bounds, out);
        self.elements(value, &parts[..dimensions], count, out)
    }

    fn elements(
        &self,
        value: &mut Reader<'_>,
        parts: &[usize],
        count: usize,
        out: &mut Text,
    ) -> Result<(), Fault> {
        for index in 0..count {
            if index != 0 {
                out.push(self.delimiter);
            }
            for part in parts {
                if index.is_multiple_of(*part) {
                    out.push(b'{');
                }
            }
            self.element(value.part()?, out)?;
            for part in parts {
                if (index + 1).is_multiple_of(*part) {
                    out.push(b'}');
                }
            }
        }
        Ok(())
    }

    fn element(&self, value: Option<&[u8]>, out: &mut Text) -> Result<(), Fault> {
        let Some(value) = value else {
            out.extend(b"NULL");
            return Ok(());
        };
        let start = out.len();
        self.element.write(value, out)?;
        let is_special = |byte: &u8| {
            matches!(byte, b'"' | b'\\' | b'{' | b'}') || *byte == self.delimiter || is_space(*byte)
        };
        let text = &out.as_slice()[start..];
        if text.is_empty() || text.eq_ignore_ascii_case(b"NULL") || text.iter().any(is_special) {
            out.quote(start, Some(b'\\'))?;
        }
        Ok(())
    }
}

/// `[2:3][0:1]=`, where one is not 1.
fn lower_bounds(bounds: &[(i32, i32)], out: &mut Text) {
    if bounds.iter().all(|(_, lower)| *lower == 1) {
        return;
    }
    for (length, lower) in bounds {
        out.push(b'[');
        out.number(*lower);
        out.push(b':');
        out.number(lower.wrapping_add(*length).wrapping_sub(1));
        out.push(b']');
    }
    out.push(b'=');
}

#[derive(Debug)]
pub(super) struct Composite {
    /// With their types.
    pub(super) fields: Vec<(u32, Arc<Form>)>,
    pub(super) server_version: u32,
}

impl Composite {
    /// Int32 number of fields; of each the type, and its value. The stream does not say when the type was changed, so
    /// the value's own word counts.
    pub(super) fn write(&self, value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
        let count = usize::try_from(value.int32()?).map_err(|_| Fault::Malformed)?;
        out.push(b'(');
        out.separated(0..count, b',', |out, index| {
            let oid = value.uint32()?;
            let Some(field) = value.part()? else { return Ok(()) };
            let start = out.len();
            self.field(index, oid, field, out)?;
            let is_special =
                |byte: &u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || is_space(*byte);
            quote_if(start, is_special, out)
        })?;
        out.push(b')');
        Ok(())
    }

    fn field(&self, index: usize, oid: u32, value: &[u8], out: &mut Text) -> Result<(), Fault> {
        let here = self.fields.get(index).filter(|(type_, _)| *type_ == oid);
        let found = here.or_else(|| self.fields.iter().find(|(type_, _)| *type_ == oid));
        if let Some((_, form)) = found {
            return form.write(value, out);
        }
        match builtin(oid, self.server_version) {
            Some(scalar) => Form::Scalar(scalar).write(value, out),
            None => Err(Fault::NoDecoder { oid, name: "of a field that is new".into() }),
        }
    }
}

/// Puts the text from `start` on between quotes, which are doubled within, if it is empty or has such a byte.
fn quote_if(start: usize, is_special: impl Fn(&u8) -> bool, out: &mut Text) -> Result<(), Fault> {
    let text = &out.as_slice()[start..];
    if text.is_empty() || text.iter().any(is_special) {
        out.quote(start, None)?;
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct Range {
    pub(super) bound: Arc<Form>,
}

impl Range {
    /// Flags, then the bounds that there are.
    pub(super) fn write(&self, value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
        let flags = value.byte()?;
        let has = |flag| flags & flag != 0;
        if has(flag::EMPTY) {
            out.extend(b"empty");
            return Ok(());
        }
        out.push(if has(flag::LOWER_INCLUSIVE) { b'[' } else { b'(' });
        if !has(flag::LOWER_INFINITE) {
            self.bound(value, out)?;
        }
        out.push(b',');
        if !has(flag::UPPER_INFINITE) {
            self.bound(value, out)?;
        }
        out.push(if has(flag::UPPER_INCLUSIVE) { b']' } else { b')' });
        Ok(())
    }

    fn bound(&self, value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
        let bound = value.part()?.ok_or(Fault::Malformed)?;
        let start = out.len();
        self.bound.write(bound, out)?;
        let is_special = |byte: &u8| {
            matches!(byte, b'"' | b'\\' | b'(' | b')' | b'[' | b']' | b',') || is_space(*byte)
        };
        quote_if(start, is_special, out)
    }

    /// A multirange: Int32 number of ranges, and these, each with its length.
    pub(super) fn write_many(&self, value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
        let count = usize::try_from(value.int32()?).map_err(|_| Fault::Malformed)?;
        out.push(b'{');
        out.separated(0..count, b',', |out, _| {
            let mut range = Reader::new(value.part()?.ok_or(Fault::Malformed)?);
            self.write(&mut range, out)?;
            range.end()?;
            out.room(0)
        })?;
        out.push(b'}');
        Ok(())
    }
}
