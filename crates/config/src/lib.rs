//! Task and node specs: every setting, default and check of the interface; all problems reported at once.
//!
//! Pure but for [`load`], which reads a spec from its file, and [`secret`], which reads the environment
//! and files when a secret is used.

mod change;
mod check;
pub mod confine;
pub mod connection;
pub mod encoding;
pub mod format;
pub mod load;
pub mod node;
pub mod pattern;
pub mod pem;
pub mod precheck;
pub mod problem;
pub mod registry;
pub mod secret;
mod shape;
pub mod streams;
pub mod task;
mod text;
pub mod tokens;
pub mod units;

pub use change::{Means, means, produce_as};
pub use encoding::SqlAscii;
pub use format::*;
pub use load::LoadError;
pub use node::{Node, Role};
pub use problem::{Problem, Problems};
pub use registry::*;
pub use secret::{LiveSecret, Secret};
pub use shape::Shape;
pub use task::*;
pub use text::Places;
pub use tokens::Tokens;

/// JSON Schema of the task spec, for editors and `distributary schema`.
#[must_use]
pub fn task_schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(Task)).unwrap_or_default()
}

/// JSON Schema of the node spec.
#[must_use]
pub fn node_schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(Node)).unwrap_or_default()
}
