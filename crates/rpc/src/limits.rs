//! Limits of everything that comes from another process.

use std::time::Duration;

/// Bytes of one message. Checked before memory is taken for it.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of one frame's payload: a message with something around it.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (4 << 10);
/// Tables of a database that a worker tells of: their names fit into a message.
pub const TABLES_SEEN_MAX: usize = 10_000;
/// Bytes of the headers of a call.
pub(crate) const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Connections that a server holds open.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
/// Streams of one connection: the lanes between two nodes, of all their tasks.
pub(crate) const STREAMS_MAX: u32 = 1024;
/// Calls of one connection that wait for the head of their answer.
pub(crate) const CALLS_MAX: usize = 256;

/// What a stream may send ahead of its reader.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What all streams of a connection may send ahead: so much that a few stalled ones do not hold back the others.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 128 << 20;

/// TCP and TLS together.
pub(crate) const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Until the head of an answer: all of it for a call with one answer, the beginning of a stream.
pub(crate) const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// A peer that was silent for so long is asked whether it lives, and given up when it does not say so.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
pub(crate) const KEEPALIVE_TIME_MAX: Duration = Duration::from_secs(3);
/// How long open streams may take to end once a server stops.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// How often certificates and tokens are read again.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_secs(10);
