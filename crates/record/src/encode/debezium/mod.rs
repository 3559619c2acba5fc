//! Debezium's events (formats/debezium.md): in JSON, in Avro ([`avro`]) and in Protobuf ([`protobuf`]).
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
pub(crate) mod protobuf;
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
