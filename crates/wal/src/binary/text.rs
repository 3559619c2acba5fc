//! The buffer of texts, and types whose bytes are nearly their text.

use super::Fault;
use super::read::Reader;
use bytes::Bytes;

pub(super) const HEX: &[u8; 16] = b"0123456789abcdef";
/// From this length on a value gets no more room than it needs.
const RESERVED_EXACTLY: usize = 4 << 20;

/// Bytes that grow up to a limit.
#[derive(Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    max: usize,
}

impl Text {
    /// For about `bytes` bytes, and never much more than `max`.
    #[must_use]
    pub fn new(bytes: usize, max: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes.min(max)), max }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    /// Appends bytes, if there is room.
    ///
    /// # Errors
    /// [`Fault::TooLong`]
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.room(bytes.len())?;
        self.reserve(bytes.len());
        self.extend(bytes);
        Ok(())
    }

    /// Whether so many bytes more stay below the limit: asked before anything whose length comes from outside.
    pub(super) fn room(&self, more: usize) -> Result<(), Fault> {
        match self.bytes.len().checked_add(more) {
            Some(length) if length <= self.max => Ok(()),
            Some(_) | None => Err(Fault::TooLong { max: self.max }),
        }
    }

    fn reserve(&mut self, more: usize) {
        if RESERVED_EXACTLY < more {
            self.bytes.reserve_exact(more);
        } else {
            self.bytes.reserve(more);
        }
    }

    /// A few bytes, which the caller looks after later.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// The same byte many times.
    pub(super) fn fill(&mut self, byte: u8, count: usize) -> Result<(), Fault> {
        self.room(count)?;
        self.bytes.resize(self.bytes.len() + count, byte);
        Ok(())
    }

    /// A decimal number.
    pub(super) fn number(&mut self, number: impl itoa::Integer) {
        self.extend(itoa::Buffer::new().format(number).as_bytes());
    }

    /// The last digits of a number, with zeros before them.
    pub(super) fn padded<const WIDTH: usize>(&mut self, mut number: u32) {
        let mut digits = [b'0'; WIDTH];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.extend(&digits);
    }

    pub(super) fn hex(&mut self, bytes: &[u8]) {
        let start = self.bytes.len();
        // Large values take the room that they need, and not twice as much.
        self.reserve(2 * bytes.len());
        self.bytes.resize(start + 2 * bytes.len(), 0);
        let (pairs, _) = self.bytes[start..].as_chunks_mut::<2>();
        for (pair, byte) in pairs.iter_mut().zip(bytes) {
            *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
    }

    /// A number in hexadecimal digits of this alphabet, as few as it takes.
    pub(super) fn hex_number(&mut self, number: u32, alphabet: &[u8; 16]) {
        let count = (u32::BITS - number.leading_zeros()).div_ceil(4).max(1);
        for place in (0..count).rev() {
            self.push(alphabet[(number >> (4 * place) & 15) as usize]);
        }
    }

    /// What `write` appends for each, with a byte in between.
    pub(super) fn separated<T>(
        &mut self,
        parts: impl IntoIterator<Item = T>,
        between: u8,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for (index, part) in parts.into_iter().enumerate() {
            if index != 0 {
                self.push(between);
            }
            write(self, part)?;
        }
        Ok(())
    }

    /// Int32 length, then what `write` appends.
    pub(super) fn sized(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let start = self.bytes.len();
        self.extend(&[0; 4]);
        write(self)?;
        let length = self.bytes.len() - start - 4;
        let length = u32::try_from(length).map_err(|_| Fault::TooLong { max: self.max })?;
        if let Some(place) = self.bytes.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// Puts what stands from `start` on between quotes, with an escape before each quote and backslash: that of
    /// `escape`, or the byte once more. In place: nothing is allocated beside.
    pub(super) fn quote(&mut self, start: usize, escape: Option<u8>) -> Result<(), Fault> {
        let is_escaped = |byte: u8| byte == b'"' || byte == b'\\';
        let end = self.bytes.len();
        let escapes = self.bytes[start..].iter().filter(|byte| is_escaped(**byte)).count();
        self.fill(b'"', escapes + 2)?;
        let mut to = self.bytes.len() - 1;
        for from in (start..end).rev() {
            let byte = self.bytes[from];
            to -= 1;
            self.bytes[to] = byte;
            if is_escaped(byte) {
                to -= 1;
                self.bytes[to] = escape.unwrap_or(byte);
            }
        }
        self.bytes[start] = b'"';
        Ok(())
    }
}

/// Types whose two forms are the same: the server has converted both to our encoding.
pub(super) fn whole(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.append(value.rest())
}

/// A version, 1, and the text.
pub(super) fn versioned(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    if value.byte()? != 1 {
        return Err(Fault::Malformed);
    }
    out.append(value.rest())
}

pub(super) fn bytea(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let bytes = value.rest();
    out.room(2 + 2 * bytes.len())?;
    out.extend(b"\\x");
    out.hex(bytes);
    Ok(())
}

/// Zero prints as nothing.
pub(super) fn char_raw(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    match value.byte()? {
        0 => {}
        byte => out.push(byte),
    }
    Ok(())
}

pub(super) fn char_octal(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    match value.byte()? {
        0 => {}
        byte @ 128.. => {
            out.push(b'\\');
            let digit = |shift: u8| b'0' + (byte >> shift & 7);
            out.extend(&[digit(6), digit(3), digit(0)]);
        }
        byte => out.push(byte),
    }
    Ok(())
}

pub(super) fn uuid(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.separated([4, 2, 2, 2, 6], b'-', |out, length| {
        out.hex(value.slice(length)?);
        Ok(())
    })
}

/// Int32 number of bits, then bytes whose first bit is the highest.
pub(super) fn bits(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let count = usize::try_from(value.int32()?).map_err(|_| Fault::Malformed)?;
    let bytes = value.slice(count.div_ceil(8))?;
    out.room(count)?;
    for index in 0..count {
        out.push(b'0' + (bytes[index / 8] >> (7 - index % 8) & 1));
    }
    Ok(())
}
