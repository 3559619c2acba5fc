//! What nodes and tools say to each other: code generated from `proto/`, and who may say it.

/// The contract of `proto/distributary/v1`, generated.
#[expect(missing_docs, clippy::pedantic, reason = "generated; described in the contract")]
pub mod v1 {
    tonic::include_proto!("distributary.v1");
}

/// The contract with its comments, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
