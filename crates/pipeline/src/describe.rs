//! Completing a relation of the stream from the catalog, and planning it.

use crate::batch::{Inference, Stated};
use crate::descriptions::{Descriptions, Place};
use crate::failure::Failure;
use crate::link::kept::Since;
use crate::planner::{Planner, Plans};
use postgres::Session;
use record::inferred::{Inferred, altered};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
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
    /// Where DDL is told from the stream.
    pub inference: Option<Inference>,
}

/// A description under way.
pub type Describing = Pin<Box<dyn Future<Output = Result<Described, Failure>>>>;

/// The port: the catalog in production, a script in tests.
pub trait Describe {
    /// Completes and plans a relation, topic and pin included.
    fn describe(&self, relation: RelationDescription) -> Describing;
}

/// The catalog of the connected server.
pub struct Catalog(Rc<Inner>);

struct Inner {
    session: Rc<Session>,
    planner: Rc<Planner>,
    descriptions: Descriptions,
    /// DDL is told from the stream.
    infers: bool,
    /// By OID: the version that was described last.
    last: RefCell<HashMap<u32, u64>>,
    /// So many statements were told.
    stated: Cell<u32>,
}

impl Catalog {
    /// Over one SQL session, which lives as long as the generation. `infers`: nobody captures DDL, so it is told from what
    /// the stream describes.
    #[must_use]
    pub fn new(
        session: Rc<Session>,
        planner: Rc<Planner>,
        descriptions: Descriptions,
        infers: bool,
    ) -> Self {
        let (last, stated) = (RefCell::default(), Cell::new(0));
        Self(Rc::new(Inner { session, planner, descriptions, infers, last, stated }))
    }
}

impl Inner {
    async fn describe(&self, relation: RelationDescription) -> Result<Described, Failure> {
        let table = match statement::table(&relation) {
            Some(table) => table,
            None => {
                // Whoever looks after tables may have seen it, and this session never.
                self.descriptions.remind(&self.session, relation.oid);
                self.session.complete(&relation).await?
            }
        };
        let table = Arc::new(table);
        let plans = self.planner.plan(&table).await?;
        let mut inference = None;
        // Before a row of it can be confirmed.
        if table.oid != statement::OID && plans.is_selected() {
            let last = self.last.borrow().get(&table.oid).copied();
            let place = self.descriptions.follow(&self.session, &table, last, self.infers).await?;
            self.last.borrow_mut().insert(table.oid, place.number);
            if self.infers {
                inference = self.inference(&table, place).await?;
            }
        }
        info!(
            schema = %table.schema,
            table = %table.name,
            version = table.version,
            topic = plans.newest().map(|plan| plan.topic()),
            "table described"
        );
        Ok(Described { table, plans, inference })
    }

    /// `None`: there is nothing to tell, now and whenever the stream is read again.
    async fn inference(&self, table: &Table, place: Place) -> Result<Option<Inference>, Failure> {
        let Place { number, before, not_before, since } = place;
        let since = match since {
            Since::Unmet => None,
            Since::Change(at) => Some(at),
            Since::Catalog(_) => return Ok(None),
        };
        let statement = match &before {
            Some(before) => self.statement(before, table).await?,
            None => None,
        };
        let is_empty = statement.is_none() && since.is_some();
        Ok((!is_empty).then_some(Inference { number, since, not_before, statement }))
    }

    async fn statement(&self, before: &Table, table: &Table) -> Result<Option<Stated>, Failure> {
        let types = self.session.type_names(&table.columns.iter().collect::<Vec<_>>()).await?;
        let Some(Inferred { changed, tuple }) = altered(before, table, &types) else {
            return Ok(None);
        };
        let number = self.stated.get();
        self.stated.set(number.wrapping_add(1));
        let Some(table) = statement::inferred(&changed, number) else { return Ok(None) };
        let table = Arc::new(table);
        let plans = self.planner.plan(&table).await?;
        Ok(plans.is_selected().then_some(Stated { table, plans, tuple }))
    }
}

impl Describe for Catalog {
    fn describe(&self, relation: RelationDescription) -> Describing {
        let inner = Rc::clone(&self.0);
        Box::pin(async move { inner.describe(relation).await })
    }
}
