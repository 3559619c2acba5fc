//! DTS Avro, the record of Alibaba Cloud DTS (formats/dts-avro.md): bare, by its published schema.
//!
//! [`template`] is prepared once per table version and [`stamp`] once per transaction; [`encoder`] fills
//! them row by row. [`kind`] decides which item of the union carries a type, [`item`] writes it. [`control`] writes
//! what is about no row.

mod control;
mod encoder;
mod item;
mod kind;
mod stamp;
mod template;

pub(crate) use control::{borders, heartbeat};
pub(crate) use encoder::Encoder;
pub(crate) use template::{Template, source};
