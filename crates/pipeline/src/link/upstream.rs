//! What comes before the router as bytes: the WAL between a reader and a decoder, changes between a decoder
//! and a router.
//!
//! The frames and messages are those of a lane's batches, with heads of their own (`wire`). A relation is described
//! once: [`UpSender::describe`] goes up, the completed table comes down ([`TableSender`]), and changes name it by OID
//! and version from then on.

mod receiver;
mod sender;
mod wire;

pub use receiver::{TableReceiver, Up, UpReceiver};
pub use sender::{TableSender, UpSender};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use wal::{Lsn, Table};

#[cfg(test)]
mod tests;

/// What is told with each batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// Bytes to be given back once the last piece of the batch is durable or dropped.
    pub credit: u32,
    /// The server's end of WAL, as the reader last heard.
    pub server_end: Lsn,
    /// Bytes that the reader has received so far.
    pub wal_bytes: u64,
}

/// By OID and version.
type Tables = HashMap<(u32, u32), Arc<Table>>;

/// Table versions that the other end of a link was told. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct KnownTables(Arc<Mutex<Tables>>);

impl KnownTables {
    fn insert(&self, table: &Arc<Table>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((table.oid, table.version), Arc::clone(table));
    }

    fn get(&self, oid: u32, version: u32) -> Option<Arc<Table>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(oid, version)).cloned()
    }
}
