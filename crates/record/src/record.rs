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
