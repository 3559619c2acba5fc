//! What stages hand to each other as bytes, for stages on different nodes: batches of a lane here, what
//! comes before the router in [`upstream`].
//!
//! [`Sender`] cuts a lane's part out of its batch and sends each table version once; [`Receiver`] checks
//! everything before it uses it, and makes the same [`crate::batch::LaneBatch`] of it. What carries the frames is not
//! its business.
//!
//! A message (`message`) is a version byte, the length of a head, the head (`wire`, bincode), then the tuples
//! as PostgreSQL sent them. It travels in frames of bounded size (`frame`) with number and checksum.

mod frame;
pub mod kept;
mod message;
mod receiver;
mod sender;
pub mod upstream;
mod wire;

pub use frame::FRAME_BYTES_MAX;
pub use receiver::Receiver;
pub use sender::Sender;

#[cfg(test)]
mod tests;

/// What came over a link cannot be used. The link must be opened again; nothing is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("frame {number} came where {expected} was due; the link is opened again")]
    OutOfOrder { number: u32, expected: u32 },
    #[error("frame {number} was changed on its way; the link is opened again")]
    Corrupt { number: u32 },
    #[error("a frame of {bytes} bytes is no frame: {reason}")]
    Frame { bytes: usize, reason: &'static str },
    #[error("a batch of more than {} MiB came over a link", frame::MESSAGE_BYTES_MAX >> 20)]
    TooLarge,
    #[error(
        "the batch is of link version {version}, this node reads version {expected}; run nodes of neighbouring releases"
    )]
    Version { version: u8, expected: u8 },
    #[error("the batch cannot be read: {0}")]
    Malformed(String),
    #[error("the batch contradicts itself: {0}")]
    Inconsistent(&'static str),
    #[error("version {version} of relation {oid} was never described on this link")]
    Undescribed { oid: u32, version: u32 },
    #[error("{schema}.{table} cannot be planned here as it was where it came from: {cause}")]
    Plan { schema: Box<str>, table: Box<str>, cause: String },
    #[error(
        "the other node is of an older release, which cannot write rows of a spec that was changed while the task runs"
    )]
    Marked,
    #[error("a batch of {bytes} bytes has no place in a message")]
    Unsendable { bytes: usize },
}
