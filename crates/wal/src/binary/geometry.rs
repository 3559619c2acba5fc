//! Geometric types: coordinates are Float8, in brackets of each type's own.

use super::Fault;
use super::float::float8;
use super::read::Reader;
use super::text::Text;

/// `x,y`: so many numbers.
fn numbers(value: &mut Reader<'_>, count: usize, out: &mut Text) -> Result<(), Fault> {
    out.separated(0..count, b',', |out, _| float8(value, out))
}

pub(super) fn point(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.push(b'(');
    numbers(value, 2, out)?;
    out.push(b')');
    Ok(())
}

fn points(value: &mut Reader<'_>, count: usize, out: &mut Text) -> Result<(), Fault> {
    out.separated(0..count, b',', |out, _| {
        point(value, out)?;
        out.room(0)
    })
}

/// Int32 number of points, and these.
fn counted(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let count = usize::try_from(value.int32()?).map_err(|_| Fault::Malformed)?;
    points(value, count, out)
}

pub(super) fn lseg(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.push(b'[');
    points(value, 2, out)?;
    out.push(b']');
    Ok(())
}

pub(super) fn box_(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    points(value, 2, out)
}

pub(super) fn path(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let is_closed = value.byte()? != 0;
    out.push(if is_closed { b'(' } else { b'[' });
    counted(value, out)?;
    out.push(if is_closed { b')' } else { b']' });
    Ok(())
}

pub(super) fn polygon(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.push(b'(');
    counted(value, out)?;
    out.push(b')');
    Ok(())
}

pub(super) fn line(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.push(b'{');
    numbers(value, 3, out)?;
    out.push(b'}');
    Ok(())
}

pub(super) fn circle(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    out.push(b'<');
    point(value, out)?;
    out.push(b',');
    numbers(value, 1, out)?;
    out.push(b'>');
    Ok(())
}
