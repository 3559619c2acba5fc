//! Changes → Kafka records: selection, mapping, partition, lane, key and value encoders. Pure.
//!
//! * [`selection`]: which tables; [`naming`]: which topic.
//! * [`plan`]: everything that is decided once per table version.
//! * `filter`: which rows, by `objects[].where`.
//! * `transform`: what becomes of a row, by `objects[].transform`.
//! * [`route`]: a change → its pieces: lane, partition, part. [`partition`] and [`lane`] are the hashes.
//! * [`rewrite`]: values that leave the source as something else; [`chunk`]: records in parts.
//! * [`inferred`]: DDL that nobody captured, told from the stream.
//! * [`encode`]: a piece → [`Record`]s; [`schema`]: what they are framed with.
//! * [`told`]: heartbeats, and the borders of source transactions.

pub mod chunk;
pub mod encode;
mod filter;
mod identifier;
pub mod inferred;
mod json;
pub mod lane;
pub mod naming;
pub mod partition;
pub mod plan;
mod projection;
pub mod record;
pub mod rewrite;
pub mod route;
mod row;
pub mod schema;
pub mod selection;
pub mod told;
pub mod transaction;
mod transform;

pub use filter::{FilterError, check_condition};
pub use projection::ProjectionError;
pub use record::Record;
pub use transform::TransformError;
