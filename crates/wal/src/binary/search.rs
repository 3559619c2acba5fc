//! Types of full text search.

use super::Fault;
use super::read::Reader;
use super::text::Text;

/// The low bits of a lexeme's position are the place, the two above its weight.
const PLACE_BITS: u32 = 14;
/// By weight; the lowest prints as nothing in a vector, and as its letter in a query.
const WEIGHTS: [u8; 4] = *b"DCBA";
/// What a position takes at most: `16383A,`.
const POSITION_TEXT_MAX: usize = 7;

/// Int32 number of lexemes; of each its text, which a zero ends, Int16 number of positions, and these.
pub(super) fn tsvector(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let count = usize::try_from(value.int32()?).map_err(|_| Fault::Malformed)?;
    out.separated(0..count, b' ', |out, _| {
        operand(value.until_zero()?, out)?;
        let positions = usize::from(value.uint16()?);
        if positions == 0 {
            return Ok(());
        }
        out.room(1 + POSITION_TEXT_MAX * positions)?;
        out.push(b':');
        out.separated(0..positions, b',', |out, _| {
            let position = value.uint16()?;
            out.number(position & ((1 << PLACE_BITS) - 1));
            match position >> PLACE_BITS {
                0 => {}
                weight => out.push(WEIGHTS[usize::from(weight)]),
            }
            Ok(())
        })
    })
}

/// A text between quotes; quotes and backslashes within are doubled.
fn operand(text: &[u8], out: &mut Text) -> Result<(), Fault> {
    let is_doubled = |byte: u8| matches!(byte, b'\'' | b'\\');
    let doubled = text.iter().filter(|byte| is_doubled(**byte)).count();
    out.room(2 + text.len() + doubled)?;
    out.push(b'\'');
    for part in text.split_inclusive(|byte| is_doubled(*byte)) {
        out.extend(part);
        if let Some(last) = part.last().filter(|last| is_doubled(**last)) {
            out.push(*last);
        }
    }
    out.push(b'\'');
    Ok(())
}

/// What stands at one place of a query.
#[derive(Clone, Copy)]
enum Item<'a> {
    Operand { text: &'a [u8], weights: u8, is_prefix: bool },
    Not,
    And,
    Or,
    Phrase { distance: i16 },
}

impl<'a> Item<'a> {
    fn read(value: &mut Reader<'a>) -> Result<Self, Fault> {
        match value.byte()? {
            1 => {
                let (weights, is_prefix) = (value.byte()?, value.byte()? != 0);
                Ok(Self::Operand { text: value.until_zero()?, weights, is_prefix })
            }
            2 => match value.byte()? {
                1 => Ok(Self::Not),
                2 => Ok(Self::And),
                3 => Ok(Self::Or),
                4 => Ok(Self::Phrase { distance: value.uint16()?.cast_signed() }),
                _ => Err(Fault::Malformed),
            },
            _ => Err(Fault::Malformed),
        }
    }

    /// How tightly it holds its operands.
    const fn priority(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Phrase { .. } => 3,
            Self::Not => 4,
            Self::Operand { .. } => 5,
        }
    }
}

/// What is still to be printed of a query.
#[derive(Clone, Copy)]
enum Part {
    /// The item and what belongs to it.
    Tree {
        index: u32,
        around: u8,
        is_right_of_phrase: bool,
    },
    Operator {
        index: u32,
    },
    Close,
}

/// An item, and the index of the one after all that belongs to it.
type Placed<'a> = (Item<'a>, u32);

/// What printing takes beside the text for each item: its place, and as often as an operator leaves parts of it for later.
const ITEM_BYTES: usize = size_of::<Placed<'_>>() + 4 * size_of::<Part>();
/// An operator of one operand.
const ITEM_WIRE_BYTES_MIN: usize = 2;

/// Int32 number of items; each operator stands before its operands, the right one first.
///
/// Without recursion: how deep a query is, is decided outside.
pub(super) fn tsquery(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let count = usize::try_from(value.int32()?).map_err(|_| Fault::Malformed)?;
    if value.len() / ITEM_WIRE_BYTES_MIN < count {
        return Err(Fault::Malformed);
    }
    out.room(ITEM_BYTES.saturating_mul(count))?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push((Item::read(value)?, 0));
    }
    place(&mut items)?;
    let mut parts = Vec::new();
    if count != 0 {
        parts.push(Part::Tree { index: 0, around: 0, is_right_of_phrase: false });
    }
    while let Some(part) = parts.pop() {
        match part {
            Part::Tree { index, around, is_right_of_phrase } => {
                let Some((item, _)) = items.get(index as usize) else {
                    return Err(Fault::Malformed);
                };
                let is_phrase = matches!(item, Item::Phrase { .. });
                let is_closed = item.priority() < around || is_phrase && is_right_of_phrase;
                if is_closed {
                    out.extend(b"( ");
                    parts.push(Part::Close);
                }
                begin(&items, index, out, &mut parts)?;
            }
            Part::Operator { index } => operator(items[index as usize].0, out),
            Part::Close => out.extend(b" )"),
        }
        out.room(0)?;
    }
    Ok(())
}

/// Finds the end of what belongs to each item.
fn place(items: &mut [Placed<'_>]) -> Result<(), Fault> {
    for index in (0..items.len()).rev() {
        let after = |items: &[Placed<'_>], index: usize| match items.get(index) {
            Some((_, end)) => Ok(*end as usize),
            None => Err(Fault::Malformed),
        };
        let end = match items[index].0 {
            Item::Operand { .. } => index + 1,
            Item::Not => after(items, index + 1)?,
            Item::And | Item::Or | Item::Phrase { .. } => after(items, after(items, index + 1)?)?,
        };
        items[index].1 = u32::try_from(end).map_err(|_| Fault::Malformed)?;
    }
    match items.first() {
        Some((_, end)) if *end as usize != items.len() => Err(Fault::Malformed),
        Some(_) | None => Ok(()),
    }
}

/// Prints an operand, or what stands before the first one of an operator, and leaves the rest for later.
fn begin(
    items: &[Placed<'_>],
    index: u32,
    out: &mut Text,
    parts: &mut Vec<Part>,
) -> Result<(), Fault> {
    let item = items[index as usize].0;
    let (first, around) = (index + 1, item.priority());
    let tree = |index, is_right_of_phrase| Part::Tree { index, around, is_right_of_phrase };
    match item {
        Item::Operand { text, weights, is_prefix } => {
            operand(text, out)?;
            if weights != 0 || is_prefix {
                out.push(b':');
            }
            if is_prefix {
                out.push(b'*');
            }
            for weight in (0..WEIGHTS.len()).rev().filter(|weight| weights >> weight & 1 != 0) {
                out.push(WEIGHTS[weight]);
            }
        }
        Item::Not => {
            out.push(b'!');
            parts.push(tree(first, false));
        }
        Item::And | Item::Or | Item::Phrase { .. } => {
            let left = items[first as usize].1;
            parts.push(tree(first, matches!(item, Item::Phrase { .. })));
            parts.push(Part::Operator { index });
            parts.push(tree(left, false));
        }
    }
    Ok(())
}

fn operator(item: Item<'_>, out: &mut Text) {
    match item {
        Item::Operand { .. } | Item::Not => {}
        Item::And => out.extend(b" & "),
        Item::Or => out.extend(b" | "),
        Item::Phrase { distance: 1 } => out.extend(b" <-> "),
        Item::Phrase { distance } => {
            out.extend(b" <");
            out.number(distance);
            out.extend(b"> ");
        }
    }
}
