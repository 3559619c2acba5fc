//! PostgreSQL as a source: SQL sessions, the replication stream, and what the task needs from the
//! catalog.

pub mod catalog;
pub mod chunk;
pub mod ddl;
pub mod error;
pub mod health;
pub mod identity;
pub mod precheck;
pub mod publication;
pub mod quote;
pub mod replication;
pub mod session;
pub mod settings;
pub mod slot;
pub mod snapshot;
pub mod standby;
pub mod tail;
pub mod tls;

mod connection;
mod dial;
mod hosts;
mod lock;

pub use error::Error;
pub use session::{Server, Session, Sizes};
