//! Debezium's events in Avro, as Kafka Connect's Avro converter writes them (formats/debezium.md, section
//! 3).
//!
//! [`schema`] makes Avro schemas of Connect's; [`template`] is prepared once per table version, and
//! [`encoder`] fills it row by row with what [`value`] and [`unavailable`] write; DDL statements are a [`tree`].

mod encoder;
mod schema;
mod template;
mod tree;
mod unavailable;
mod value;

pub(crate) use encoder::Encoder;
pub(crate) use template::Template;
pub(crate) use tree::schemas as statement_schemas;
