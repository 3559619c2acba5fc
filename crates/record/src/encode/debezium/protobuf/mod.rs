//! Debezium's events in Protobuf (formats/protobuf.md).
//!
//! [`form`] decides how a column is written, [`message`] makes the schema that says so, and [`numbers`]
//! gives the fields those numbers that they have in the registry's versions. [`template`] is prepared once
//! per table version; [`encoder`] fills it row by row with what [`value`] writes.

mod encoder;
mod form;
mod message;
pub(crate) mod numbers;
mod template;
mod tree;
mod value;

pub(crate) use encoder::Encoder;
pub(crate) use message::{Message, camel};
pub(crate) use template::Template;
pub(crate) use tree::schemas as statement_schemas;
