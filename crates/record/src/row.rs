//! One side of a change: what was sent of a row, and what the other tuple of the change adds.

use wal::tuple::Data;
use wal::{Datum, Tuple};

/// An old or new row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    sent: Tuple<'a>,
    /// Fills what was not sent.
    other: Option<Tuple<'a>>,
    is_key: bool,
}

impl<'a> Row<'a> {
    pub(crate) fn new(sent: Tuple<'a>, other: Option<Tuple<'a>>) -> Self {
        Self { sent, other, is_key: false }
    }

    /// An old key: identity columns only.
    pub(crate) fn key(sent: Tuple<'a>, other: Option<Tuple<'a>>) -> Self {
        Self { sent, other, is_key: true }
    }

    /// Whether only identity columns were sent: null then says nothing of the others.
    pub(crate) fn is_key(&self) -> bool {
        self.is_key
    }

    /// Value of a column; one that was not sent is taken from the other tuple. `Unchanged`: neither
    /// says it.
    ///
    /// Null there says nothing: it stands for "not part of the key", and no unchanged value was null.
    pub(crate) fn value(&self, index: usize) -> Datum<'a> {
        match self.sent.iter().nth(index).unwrap_or(Datum::Null) {
            Datum::Unchanged => from_other(self.other.and_then(|it| it.iter().nth(index))),
            sent @ (Datum::Null | Datum::Text(_) | Datum::Binary(_)) => sent,
        }
    }

    /// What [`Self::value`] says of each column, in their order.
    pub(crate) fn values(&self) -> Values<'a> {
        let other = self.other.map(|other| other.iter());
        Values { sent: self.sent.iter(), other, behind: 0, null_is_unknown: false }
    }

    /// As [`Self::values`], with `Unchanged` for every column of which nothing is known.
    pub(crate) fn known_values(&self) -> Values<'a> {
        Values { null_is_unknown: self.is_key, ..self.values() }
    }
}

fn from_other(datum: Option<Datum<'_>>) -> Datum<'_> {
    datum.filter(|&datum| datum != Datum::Null).unwrap_or(Datum::Unchanged)
}

/// Iterator over the values of a [`Row`].
#[derive(Clone, Debug)]
pub(crate) struct Values<'a> {
    sent: Data<'a>,
    other: Option<Data<'a>>,
    /// So many values of `other` were not looked at yet.
    behind: usize,
    null_is_unknown: bool,
}

impl<'a> Iterator for Values<'a> {
    type Item = Datum<'a>;

    // Once per column: a call of its own costs as much as many a value.
    #[inline(always)]
    fn next(&mut self) -> Option<Datum<'a>> {
        let value = match self.sent.next()? {
            Datum::Unchanged => return Some(self.filled()),
            Datum::Null if self.null_is_unknown => Datum::Unchanged,
            sent @ (Datum::Null | Datum::Text(_) | Datum::Binary(_)) => sent,
        };
        self.behind += 1;
        Some(value)
    }
}

impl<'a> Values<'a> {
    /// What the other tuple says of a value that was not sent.
    #[cold]
    fn filled(&mut self) -> Datum<'a> {
        let behind = std::mem::take(&mut self.behind);
        from_other(self.other.as_mut().and_then(|it| it.nth(behind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple(values: &[Option<&str>]) -> Vec<u8> {
        let mut bytes = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
        for value in values {
            match value {
                None => bytes.push(b'n'),
                Some("") => bytes.push(b'u'),
                Some(text) => {
                    bytes.push(b't');
                    bytes.extend_from_slice(&u32::try_from(text.len()).expect("few").to_be_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn values_one_after_the_other_are_the_values_by_index(
            pairs in prop::collection::vec(
                (prop::option::of("[ab]?"), prop::option::of("[ab]?")), 0..8
            ),
            has_other: bool,
        ) {
            let sent: Vec<_> = pairs.iter().map(|(sent, _)| sent.as_deref()).collect();
            let other: Vec<_> = pairs.iter().map(|(_, other)| other.as_deref()).collect();
            let (sent, other) = (tuple(&sent), tuple(&other));
            let other = has_other.then(|| Tuple::trusted(&other));
            let row = Row::new(Tuple::trusted(&sent), other);
            let by_index: Vec<_> = (0..pairs.len()).map(|index| row.value(index)).collect();
            prop_assert_eq!(row.values().collect::<Vec<_>>(), by_index);
        }
    }

    #[test]
    fn null_says_nothing_in_an_old_key() {
        let bytes = tuple(&[Some("7"), None]);
        let row = Row::key(Tuple::trusted(&bytes), None);
        assert_eq!(row.values().collect::<Vec<_>>(), [Datum::Text(b"7"), Datum::Null]);
        assert_eq!(row.known_values().collect::<Vec<_>>(), [Datum::Text(b"7"), Datum::Unchanged]);
    }
}
