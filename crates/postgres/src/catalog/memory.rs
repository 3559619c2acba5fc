//! What a session has read from the catalog and may still need when it is gone there.

use super::{Name, Naming};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wal::Table;
use wal::types::Type;

/// Held by a session.
#[derive(Debug)]
pub struct Memory {
    naming: Naming,
    /// Built-in types by OID.
    types: Mutex<HashMap<u32, Arc<Type>>>,
    /// The latest version of each relation that was asked for.
    tables: Mutex<HashMap<u32, Arc<Table>>>,
    /// Names of the roots that leaves go by.
    roots: Mutex<HashMap<u32, Name>>,
}

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new(naming: Naming) -> Self {
        Self { naming, types: Mutex::default(), tables: Mutex::default(), roots: Mutex::default() }
    }

    pub(super) fn naming(&self) -> &Naming {
        &self.naming
    }

    pub(super) fn types(&self) -> HashMap<u32, Arc<Type>> {
        lock(&self.types).clone()
    }

    pub(super) fn remember_types(&self, types: impl Iterator<Item = (u32, Arc<Type>)>) {
        lock(&self.types).extend(types);
    }

    pub(super) fn table(&self, oid: u32) -> Option<Arc<Table>> {
        lock(&self.tables).get(&oid).cloned()
    }

    pub(super) fn remember_table(&self, table: Table) {
        lock(&self.tables).insert(table.oid, Arc::new(table));
    }

    pub(super) fn root(&self, leaf: u32) -> Option<Name> {
        lock(&self.roots).get(&leaf).cloned()
    }

    pub(super) fn remember_root(&self, leaf: u32, root: Name) {
        lock(&self.roots).insert(leaf, root);
    }
}

/// A panic elsewhere leaves the maps whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
