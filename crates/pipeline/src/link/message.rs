//! A message: version, length of its head, the head in bincode 2 (standard configuration), then the bytes
//! that the head tells of.

use super::LinkError;
use bincode::{Decode, Encode};
use bytes::Bytes;

/// Allocations of a head at most. Batches hold 1 MiB of rows, of at least a byte each.
const HEAD_BYTES_MAX: usize = 256 << 20;
/// The version and the length.
const PREFIX_BYTES: usize = 5;

/// A message whose head is followed by `parts`; `bytes` guesses the length of it all.
pub(super) fn write<'a>(
    version: u8,
    head: &impl Encode,
    bytes: usize,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Bytes, LinkError> {
    let mut message = Vec::with_capacity(PREFIX_BYTES + bytes);
    message.extend_from_slice(&[version, 0, 0, 0, 0]);
    let written = bincode::encode_into_std_write(head, &mut message, bincode::config::standard())
        .map_err(|error| LinkError::Malformed(error.to_string()))?;
    let length = u32::try_from(written).map_err(|_| LinkError::Unsendable { bytes: written })?;
    message[1..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    parts.into_iter().for_each(|part| message.extend_from_slice(part));
    Ok(message.into())
}

/// The head of a message, and what follows it. Lengths are claims: no memory is taken for what did not come.
pub(super) fn read<H: Decode<()>>(version: u8, message: &Bytes) -> Result<(H, Bytes), LinkError> {
    let malformed = |cause: &str| LinkError::Malformed(cause.into());
    let Some((&[found, l0, l1, l2, l3], _)) = message.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(malformed("it has no head"));
    };
    if found != version {
        return Err(LinkError::Version { version: found, expected: version });
    }
    let end = (u32::from_le_bytes([l0, l1, l2, l3]) as usize).saturating_add(PREFIX_BYTES);
    let head = message.get(PREFIX_BYTES..end).ok_or_else(|| malformed("its head is cut off"))?;
    let limited = bincode::config::standard().with_limit::<HEAD_BYTES_MAX>();
    let (decoded, taken) =
        bincode::decode_from_slice(head, limited).map_err(|error| malformed(&error.to_string()))?;
    if taken != head.len() {
        return Err(malformed(&format!("{} bytes follow its end", head.len() - taken)));
    }
    Ok((decoded, message.slice(end..)))
}
