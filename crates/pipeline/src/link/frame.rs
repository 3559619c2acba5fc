//! Messages in frames of bounded size, each with a number and a checksum.

use super::LinkError;
use bytes::{BufMut, Bytes, BytesMut};

/// A frame at most, its header included: below the limit of a gRPC message (security.md).
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// A row can be as large as PostgreSQL's own messages, twice under REPLICA IDENTITY FULL.
pub(super) const MESSAGE_BYTES_MAX: usize = 2 << 30;

/// Flag, number, CRC-32C of what follows them.
const HEADER_BYTES: usize = 9;
const LAST: u8 = 0;
const MORE: u8 = 1;

/// Numbers the frames of one link.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    number: u32,
}

impl Splitter {
    pub(super) fn split(&mut self, message: &Bytes) -> Vec<Bytes> {
        let size = FRAME_BYTES_MAX - HEADER_BYTES;
        let count = message.len().div_ceil(size).max(1);
        let part = |index: usize| {
            let part = message.slice(index * size..message.len().min((index + 1) * size));
            let mut frame = BytesMut::with_capacity(HEADER_BYTES + part.len());
            frame.put_u8(if index + 1 < count { MORE } else { LAST });
            frame.put_u32_le(self.number);
            frame.put_u32_le(crc32c::crc32c(&part));
            frame.put(part);
            self.number = self.number.wrapping_add(1);
            frame.freeze()
        };
        (0..count).map(part).collect()
    }
}

/// Puts messages together again.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    number: u32,
    begun: BytesMut,
}

impl Joiner {
    /// A whole message, once its last frame has come. Memory grows with what came, not with what was
    /// announced.
    pub(super) fn join(&mut self, mut frame: Bytes) -> Result<Option<Bytes>, LinkError> {
        let bytes = frame.len();
        let refused = |reason| LinkError::Frame { bytes, reason };
        let Some((header, _)) = frame.split_first_chunk::<HEADER_BYTES>() else {
            return Err(refused("it is shorter than its header"));
        };
        if FRAME_BYTES_MAX < bytes {
            return Err(refused("it is longer than a frame may be"));
        }
        let &[flag, n0, n1, n2, n3, c0, c1, c2, c3] = header;
        let number = u32::from_le_bytes([n0, n1, n2, n3]);
        let part = frame.split_off(HEADER_BYTES);
        if number != self.number {
            return Err(LinkError::OutOfOrder { number, expected: self.number });
        }
        if crc32c::crc32c(&part) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(LinkError::Corrupt { number });
        }
        self.number = self.number.wrapping_add(1);
        if MESSAGE_BYTES_MAX < self.begun.len() + part.len() {
            return Err(LinkError::TooLarge);
        }
        match flag {
            LAST if self.begun.is_empty() => Ok(Some(part)),
            LAST => {
                self.begun.put(part);
                Ok(Some(std::mem::take(&mut self.begun).freeze()))
            }
            MORE => {
                self.begun.put(part);
                Ok(None)
            }
            _ => Err(refused("its first byte is unknown")),
        }
    }
}
