//! A row as the server sent it: pgoutput's TupleData, not copied, checked once.

/// One value of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Datum<'a> {
    Null,
    /// An unchanged TOAST value, not sent. In an old key tuple PostgreSQL never uses it.
    Unchanged,
    /// In the text form of the type's output function, under the session's settings.
    Text(&'a [u8]),
    /// In the form of the type's send function.
    Binary(&'a [u8]),
}

/// TupleData that [`Tuple::check`] has accepted.
///
/// Layout (PostgreSQL, "Logical Replication Message Formats"): Int16 number of columns, then per
/// column Byte1 `n`, `u`, `t` or `b`; for `t` and `b` an Int32 length and so many bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tuple<'a> {
    columns: u16,
    data: &'a [u8],
}

/// The bytes are no TupleData.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TupleError {
    #[error("tuple ends inside column {column}")]
    Short { column: u16 },
    #[error("unknown kind {kind:#04x} of column {column}")]
    UnknownKind { column: u16, kind: u8 },
}

impl<'a> Tuple<'a> {
    /// Checks the tuple at the start of `bytes`; returns it and the number of bytes it takes.
    ///
    /// # Errors
    /// When the bytes end early or hold an unknown kind. Allocates nothing.
    pub fn check(bytes: &'a [u8]) -> Result<(Self, usize), TupleError> {
        let Some((head, mut rest)) = bytes.split_first_chunk::<2>() else {
            return Err(TupleError::Short { column: 0 });
        };
        let columns = u16::from_be_bytes(*head);
        for column in 0..columns {
            let short = TupleError::Short { column };
            let (&kind, after) = rest.split_first().ok_or(short)?;
            rest = match kind {
                b'n' | b'u' => after,
                b't' | b'b' => {
                    let (length, after) = after.split_first_chunk::<4>().ok_or(short)?;
                    let length = u32::from_be_bytes(*length) as usize;
                    after.get(length..).ok_or(short)?
                }
                kind => return Err(TupleError::UnknownKind { column, kind }),
            };
        }
        let taken = bytes.len() - rest.len();
        Ok((Self { columns, data: &bytes[2..taken] }, taken))
    }

    /// The tuple over bytes that [`Tuple::check`] accepted before (a change's span). Bytes that it
    /// would refuse read as a tuple with fewer columns: wrong, never unsound.
    #[must_use]
    pub fn trusted(bytes: &'a [u8]) -> Self {
        match bytes.split_first_chunk::<2>() {
            Some((head, data)) => Self { columns: u16::from_be_bytes(*head), data },
            None => Self { columns: 0, data: &[] },
        }
    }

    /// Number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Number of bytes of the whole TupleData, with the number of columns.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        2 + self.data.len()
    }

    /// The values in column order.
    #[must_use]
    pub fn iter(&self) -> Data<'a> {
        Data { left: self.columns, rest: self.data }
    }
}

impl<'a> IntoIterator for Tuple<'a> {
    type Item = Datum<'a>;
    type IntoIter = Data<'a>;

    fn into_iter(self) -> Data<'a> {
        self.iter()
    }
}

/// Iterator over the values of a [`Tuple`].
#[derive(Clone, Debug)]
pub struct Data<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Data<'a> {
    type Item = Datum<'a>;

    fn next(&mut self) -> Option<Datum<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (&kind, rest) = self.rest.split_first()?;
        match kind {
            b'n' | b'u' => {
                self.rest = rest;
                Some(if kind == b'n' { Datum::Null } else { Datum::Unchanged })
            }
            _ => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                self.rest = rest;
                Some(if kind == b'b' { Datum::Binary(value) } else { Datum::Text(value) })
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}
