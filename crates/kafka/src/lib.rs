//! The sink: lanes and the meta lane as Kafka transactions, topics, checks before the start.
//!
//! * [`sink`]: the port of a lane; [`open`](fn@open) opens one, exactly-once with the rule of
//!   [`clean_commit`] or at-least-once.
//! * `tenure`: who writes a lane at-least-once, and what a take-over waits for. `arrival`: what `acks: 0` can still know.
//! * [`checkpoint`], [`names`]: what is written where (delivery-protocol.md, section 3).
//! * [`meta`]: low watermark, pins and snapshot state. [`topics`]: administration.
//! * [`ready`]: clients that connect before a lane may be opened.
//! * [`limits`]: how large records may be.
//! * [`control`]: the state of a cluster, and who leads it.
//! * [`registry`]: schemas and their ids.
//! * [`settings`], [`properties`]: from the spec to the client. [`precheck`]: before the start.

mod arrival;
mod beside;
pub mod checkpoint;
pub mod clean_commit;
mod client;
pub mod control;
pub mod error;
mod holder;
mod idempotent;
pub mod limits;
mod lookup;
pub mod meta;
pub mod names;
pub mod open;
pub mod precheck;
mod process;
pub mod properties;
mod queues;
mod read;
pub mod ready;
pub mod registry;
pub mod settings;
pub mod sink;
mod tenure;
pub mod topics;
mod transactional;
mod unsettled;
mod writer;

pub use error::Error;
pub use open::{open, open_anew};
