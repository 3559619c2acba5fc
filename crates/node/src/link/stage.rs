//! Stages before a router on other nodes: both ends of `Link.Stage`.

pub mod client;
mod convert;
pub(super) mod server;

pub use server::HostedStages;
