//! What nodes and tools say to each other, and who may say it: code generated from `proto/`, servers
//! and clients with their limits, certificates, tokens, and errors ↔ status.

pub mod client;
mod connection;
mod error;
mod guard;
pub mod identity;
pub mod limits;
mod listen;
mod principal;
mod protocol;
mod server;
mod tls;
mod tokens;

pub use error::{Code, Error};
pub use identity::Identity;
pub use listen::Listen;
pub use principal::{Principal, Who};
pub use protocol::{
    CHUNKS, HAND_OVER, MARKS, PLACES, PROTOCOL_MAX, PROTOCOL_MIN, Protocols, UNIQUE_INDEXES,
    negotiate, speaks,
};
pub use server::{Server, Services};
pub use tls::{Expected, Tls};
pub use tokens::Tokens;

/// The contract of `proto/distributary/v1`, generated.
#[expect(missing_docs, clippy::pedantic, reason = "generated; described in the contract")]
pub mod v1 {
    tonic::include_proto!("distributary.v1");
}

/// The contract with its comments, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
