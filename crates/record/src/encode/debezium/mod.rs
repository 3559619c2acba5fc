//! Debezium's JSON events (formats/debezium.md).
//!
//! [`template`] is prepared once per table version and [`stamp`] once per transaction; [`envelope`]
//! fills them row by row. [`kind`] decides how a type is rendered, [`schema`] says so to consumers, and
//! the rest writes values.

mod array;
mod civil;
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

pub(crate) use envelope::Encoder;
pub(crate) use template::Template;
pub(crate) use values::Work;
