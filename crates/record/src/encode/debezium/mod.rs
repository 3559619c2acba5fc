//! Debezium's JSON events (formats/debezium.md).
//!
//! [`columns`] and [`template`] are prepared once per table version and [`stamp`] once per transaction;
//! [`envelope`] fills them row by row. [`kind`] decides how a type is rendered, [`schema`] says so to
//! consumers, and the rest writes values.

pub(crate) mod adjust;
mod columns;
mod envelope;
mod geometry;
mod hstore;
mod interval;
mod kind;
mod numeric;
mod schema;
mod stamp;
mod template;
mod time;
mod values;

pub(crate) use columns::Columns;
pub(crate) use envelope::Encoder;
pub(crate) use template::Template;
pub(crate) use values::Work;
