//! Changes → Kafka records: selection, mapping, partition, lane, key and value encoders. Pure.
//!
//! * [`selection`]: which tables; [`naming`]: which topic.
//! * [`plan`]: everything that is decided once per table version.
//! * [`route`]: a change → its pieces: lane, partition, part. [`partition`] and [`lane`] are the hashes.
//! * [`encode`]: a piece → [`Record`]s; [`schema`]: what they are framed with.

pub mod encode;
mod identifier;
mod json;
pub mod lane;
pub mod naming;
pub mod partition;
pub mod plan;
pub mod record;
pub mod route;
mod row;
pub mod schema;
pub mod selection;
pub mod transaction;

pub use record::Record;
