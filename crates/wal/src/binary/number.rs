//! Numbers.

use super::Fault;
use super::read::Reader;
use super::text::Text;

/// `sign` of a numeric.
mod sign {
    pub(super) const POSITIVE: u16 = 0x0000;
    pub(super) const NEGATIVE: u16 = 0x4000;
    pub(super) const NAN: u16 = 0xC000;
    pub(super) const INFINITY: u16 = 0xD000;
    pub(super) const MINUS_INFINITY: u16 = 0xF000;
}

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
/// Decimal digits in a digit of a numeric.
const GROUP: usize = 4;

pub(super) fn boolean(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.push(if value.byte()? == 0 { b'f' } else { b't' });
    Ok(())
}

pub(super) fn int2(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.number(value.take().map(i16::from_be_bytes)?);
    Ok(())
}

pub(super) fn int4(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.number(value.int32()?);
    Ok(())
}

pub(super) fn int8(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.number(value.int64()?);
    Ok(())
}

pub(super) fn uint4(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.number(value.uint32()?);
    Ok(())
}

pub(super) fn uint8(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.number(value.take().map(u64::from_be_bytes)?);
    Ok(())
}

/// Block and line pointer.
pub(super) fn tid(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.push(b'(');
    out.number(value.uint32()?);
    out.push(b',');
    out.number(value.uint16()?);
    out.push(b')');
    Ok(())
}

pub(super) fn pg_lsn(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.hex_number(value.uint32()?, HEX_UPPER);
    out.push(b'/');
    out.hex_number(value.uint32()?, HEX_UPPER);
    Ok(())
}

/// Cents, as the locale `C` writes them.
pub(super) fn money(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let amount = value.int64()?;
    if amount < 0 {
        out.push(b'-');
    }
    out.push(b'$');
    let (whole, cents) = (amount.unsigned_abs() / 100, amount.unsigned_abs() % 100);
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(whole).as_bytes();
    for (index, digit) in digits.iter().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(b',');
        }
        out.push(*digit);
    }
    out.push(b'.');
    out.padded::<2>(cents as u32);
    Ok(())
}

/// Int16 number of digits to the base 10000, Int16 power of the first, sign, number of decimals shown; then the digits.
pub(super) fn numeric(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let count = usize::from(value.uint16()?);
    let weight = value.take().map(i16::from_be_bytes)?;
    let (sign, scale) = (value.uint16()?, usize::from(value.uint16()?));
    let (digits, _) = value.slice(2 * count)?.as_chunks::<2>();
    match sign {
        sign::NEGATIVE => out.push(b'-'),
        sign::POSITIVE => {}
        sign::NAN => {
            out.extend(b"NaN");
            return Ok(());
        }
        sign::INFINITY => {
            out.extend(b"Infinity");
            return Ok(());
        }
        sign::MINUS_INFINITY => {
            out.extend(b"-Infinity");
            return Ok(());
        }
        _ => return Err(Fault::Malformed),
    }
    let digit = |place: i32| {
        let digit = usize::try_from(place).ok().and_then(|place| digits.get(place));
        digit.map_or(0, |bytes| u32::from(u16::from_be_bytes(*bytes)))
    };
    let weight = i32::from(weight);
    let groups = usize::try_from(weight + 1).unwrap_or(0);
    out.room(GROUP * groups + scale + 2 + GROUP)?;
    if groups == 0 {
        out.push(b'0');
    } else {
        out.number(digit(0));
        (1..=weight).for_each(|place| out.padded::<GROUP>(digit(place)));
    }
    if scale != 0 {
        out.push(b'.');
        let end = out.len() + scale;
        let mut place = weight + 1;
        while out.len() < end {
            out.padded::<GROUP>(digit(place));
            place += 1;
        }
        out.truncate(end);
    }
    Ok(())
}
