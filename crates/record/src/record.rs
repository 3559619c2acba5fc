//! One record, as the sink takes it.

/// One Kafka record, borrowed from the encoder's buffers until it is handed to the client.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub topic: &'a str,
    pub partition: i32,
    /// `None`: a null key.
    pub key: Option<&'a [u8]>,
    /// `None`: a null value (tombstone).
    pub value: Option<&'a [u8]>,
    /// In order; values are never null.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Milliseconds since 1970: the commit time in the source.
    pub timestamp_ms: i64,
}

/// What a record costs beside its key, its value and its headers: the frame of a batch of its own
/// (Kafka, "Message Format": 61 bytes) and its own lengths.
const FRAME_BYTES: u64 = 128;
/// What a header costs beside its name and value.
const HEADER_BYTES: u64 = 10;

impl Record<'_> {
    /// Upper bound of the record's size in the log, before compression, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) as u64;
        let header =
            |(name, value): &(&str, &[u8])| (name.len() + value.len()) as u64 + HEADER_BYTES;
        let headers: u64 = self.headers.iter().map(header).sum();
        FRAME_BYTES + length(self.key) + length(self.value) + headers
    }
}
