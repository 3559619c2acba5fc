//! Addresses.

use super::Fault;
use super::read::Reader;
use super::text::{HEX, Text};

const FAMILY_4: u8 = 2;
const FAMILY_6: u8 = 3;

/// Of `inet` and `cidr`: family, bits of the network, whether it is a `cidr`, number of bytes, bytes.
pub(super) fn address(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    let [family, bits, is_cidr, _] = value.take()?;
    let bits_max = match family {
        FAMILY_4 => {
            octets(value.take()?, out);
            32
        }
        FAMILY_6 => {
            groups(value.take()?, out);
            128
        }
        _ => return Err(Fault::Malformed),
    };
    if is_cidr != 0 || bits != bits_max {
        out.push(b'/');
        out.number(bits);
    }
    Ok(())
}

fn octets(octets: [u8; 4], out: &mut Text) {
    for (index, octet) in octets.into_iter().enumerate() {
        if index != 0 {
            out.push(b'.');
        }
        out.number(octet);
    }
}

/// The longest run of two zeros or more is left out, the first of several; addresses of version 4 within version 6 end
/// as such.
fn groups(bytes: [u8; 16], out: &mut Text) {
    let (pairs, _) = bytes.as_chunks::<2>();
    let mut groups = [0_u16; 8];
    for (group, pair) in groups.iter_mut().zip(pairs) {
        *group = u16::from_be_bytes(*pair);
    }
    let (start, length) = zeros(&groups);
    let holds_4 = start == 0
        && (length == 6 || (length == 7 && groups[7] != 1) || (length == 5 && groups[5] == 0xFFFF));
    for (index, group) in groups.into_iter().enumerate() {
        if (start..start + length).contains(&index) {
            if index == start {
                out.push(b':');
            }
            continue;
        }
        if index != 0 {
            out.push(b':');
        }
        if index == 6 && holds_4 {
            octets([bytes[12], bytes[13], bytes[14], bytes[15]], out);
            return;
        }
        out.hex_number(group.into(), HEX);
    }
    if length != 0 && start + length == 8 {
        out.push(b':');
    }
}

/// Where the run begins that is left out, and its length; 0: none is.
fn zeros(groups: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut length) = ((0, 0), 0);
    for (index, group) in groups.iter().enumerate() {
        length = if *group == 0 { length + 1 } else { 0 };
        if best.1 < length {
            best = (index + 1 - length, length);
        }
    }
    if best.1 < 2 { (0, 0) } else { best }
}

pub(super) fn macaddr(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    pairs(&value.take::<6>()?, out)
}

pub(super) fn macaddr8(value: &mut Reader<'_>, out: &mut Text) -> Result<(), Fault> {
    pairs(&value.take::<8>()?, out)
}

fn pairs(bytes: &[u8], out: &mut Text) -> Result<(), Fault> {
    out.separated(bytes.chunks(1), b':', |out, byte| {
        out.hex(byte);
        Ok(())
    })
}
