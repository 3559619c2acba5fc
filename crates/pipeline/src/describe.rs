//! Completing a relation of the stream from the catalog, and planning it.

use crate::failure::Failure;
use crate::planner::{Planner, Plans};
use postgres::Session;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use tracing::info;
use wal::relation::RelationDescription;
use wal::{Table, statement};

/// A table version with what is to be done with its rows.
#[derive(Clone, Debug)]
pub struct Described {
    pub table: Arc<Table>,
    pub plans: Plans,
}

/// A description under way.
pub type Describing = Pin<Box<dyn Future<Output = Result<Described, Failure>>>>;

/// The port: the catalog in production, a script in tests.
pub trait Describe {
    /// Completes and plans a relation, topic and pin included.
    fn describe(&self, relation: RelationDescription) -> Describing;
}

/// The catalog of the connected server.
pub struct Catalog {
    session: Rc<Session>,
    planner: Rc<Planner>,
}

impl Catalog {
    /// Over one SQL session, which lives as long as the generation.
    #[must_use]
    pub fn new(session: Rc<Session>, planner: Rc<Planner>) -> Self {
        Self { session, planner }
    }
}

impl Describe for Catalog {
    fn describe(&self, relation: RelationDescription) -> Describing {
        let (session, planner) = (Rc::clone(&self.session), Rc::clone(&self.planner));
        Box::pin(async move {
            let table = match statement::table(&relation) {
                Some(table) => table,
                None => session.complete(&relation).await?,
            };
            let table = Arc::new(table);
            let plans = planner.plan(&table).await?;
            info!(
                schema = %table.schema,
                table = %table.name,
                version = table.version,
                topic = plans.newest().map(|plan| plan.topic()),
                "table described"
            );
            Ok(Described { table, plans })
        })
    }
}
