//! Chunks: parts of a table that are read while the stream runs, and how their rows find their place in it.
//! Pure (delivery-protocol.md, section 9).
//!
//! * [`key`]: what tells the rows of a table apart, and what a change says of them.
//! * [`merge`]: which rows of a chunk may still be emitted, and when.
//! * [`copy`]: which parts of a table are read, being read and durable; survives a crash.
//! * [`asked`]: what is to be copied because somebody asked for it.
//! * [`throttle`]: how fast it may go.
//!
//! **The rule.** A chunk is read in a snapshot S, and H is the end of the WAL right after S was taken. Everything
//! that S sees commits before H. The rows are emitted in one go where the stream has passed H, without those
//! that a transaction has touched which S does not see and which was routed before: what the stream said of
//! them is newer. So no row follows a newer state of itself, none that was deleted comes back, and what is
//! left out has been said by the stream.
//!
//! The stream never waits for a chunk, and no Kafka transaction is held open for one: the plan was to emit a
//! row before the first change that S does not see, which needs both.

pub mod asked;
pub mod copy;
pub mod key;
pub mod merge;
pub mod throttle;
