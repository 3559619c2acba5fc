//! Debezium's events (formats/debezium.md): in JSON, and in Avro ([`avro`]).
//!
//! [`columns`] and [`template`] are prepared once per table version and [`stamp`] once per transaction;
//! [`envelope`] fills them row by row. [`kind`] decides how a type is rendered, [`fields`] and [`schema`]
//! say so to consumers, and the rest writes values.

pub(crate) mod adjust;
pub(crate) mod avro;
mod columns;
mod envelope;
mod fields;
mod geometry;
mod hstore;
mod interval;
mod kind;
mod numeric;
mod schema;
mod stamp;
mod statement;
mod template;
mod time;
mod values;
mod words;

pub(crate) use columns::Columns;
pub(crate) use envelope::Encoder;
pub(crate) use template::Template;
pub(crate) use values::Work;
