//! Publications: made, brought up to what is selected, dropped.
//!
//! A writer that is open while a table is added or dropped can lose its later rows (design.md,
//! server fact 17), so that happens under a lock that waits for writers.

mod filters;
mod statements;
mod types;
mod watch;

pub use types::PublishedType;

use crate::catalog::{GENERATED_PUBLISHED_SINCE, VIA_ROOT_SINCE};
use crate::lock::Locking;
use crate::quote::{identifier, qualified, readable};
use crate::{Error, Session};
use statements::{Settings, creation_remedy, list, people, remedy};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use tokio_postgres::types::{ToSql, Type};
use tracing::info;

/// First version whose publications can have row filters and column lists.
pub const NARROWED_SINCE: u32 = 150_000;

/// Tables that one statement names: each takes a place in the server's table of locks.
const TABLES_AT_ONCE_MAX: usize = 500;
/// Tables whose writers are waited for together.
const LOCKED_AT_ONCE_MAX: usize = 32;

/// A publication as it takes effect.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Publication {
    pub name: String,
    /// OIDs of the relations that the stream names.
    pub tables: Vec<u32>,
    pub via_root: bool,
    /// Each table that was added, and what tells one addition from another: its row of `pg_publication_rel`, by OID.
    pub additions: BTreeMap<u32, u32>,
    /// Another text as soon as its settings were altered: the row of `pg_publication`.
    pub version: String,
    /// OID of its owner; another one alters the row as well.
    pub owner: u32,
}

/// The row of `pg_publication`, and the tables that were added one by one.
#[derive(Debug)]
struct Existing {
    all_tables: bool,
    settings: Settings,
    /// OID, schema and name.
    tables: Vec<(u32, String, String)>,
    /// Those of which not all rows or columns are published.
    narrowed: Vec<Narrowed>,
}

/// A table of which not all rows or columns are published.
#[derive(Debug)]
struct Narrowed {
    oid: u32,
    /// For people.
    name: String,
    has_columns: bool,
}

impl Existing {
    /// Tables that are narrowed by others than the task, for people; empty: none. `filtered`: tables whose row filters
    /// are its own.
    fn narrowed(&self, filtered: &BTreeSet<u32>) -> String {
        let is_foreign = |it: &&Narrowed| it.has_columns || !filtered.contains(&it.oid);
        let names = self.narrowed.iter().filter(is_foreign).map(|it| &*it.name);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Session {
    /// Makes the publication, or makes the one that exists publish exactly these tables (OID,
    /// schema, name). `via_root` counts from version 13 on.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] when writers hold a table all the time: it is not published then.
    /// When the role may not do it, a table does not exist, or the publication is one of all
    /// tables.
    pub async fn ensure_publication(
        &self,
        name: &str,
        tables: &[(u32, String, String)],
        via_root: bool,
        truncate: bool,
    ) -> Result<(), Error> {
        self.ensure_publication_filtered(name, tables, via_root, truncate, &BTreeSet::new()).await
    }

    /// The same. `filtered`: tables whose row filters are the task's own, and stay.
    ///
    /// # Errors
    /// As [`Self::ensure_publication`].
    pub async fn ensure_publication_filtered(
        &self,
        name: &str,
        tables: &[(u32, String, String)],
        via_root: bool,
        truncate: bool,
        filtered: &BTreeSet<u32>,
    ) -> Result<(), Error> {
        let version = self.server().version;
        let settings = Settings::new(version, via_root, truncate);
        let Some(existing) = self.existing(name).await? else {
            return self.create_publication(name, tables, settings).await;
        };
        if existing.all_tables {
            return Err(Error::Unsupported {
                what: format!(
                    "publication `{name}`, which is FOR ALL TABLES: drop it, or choose another \
                     source.slot_prefix"
                ),
            });
        }
        let narrowed = existing.narrowed(filtered);
        if !narrowed.is_empty() {
            return Err(Error::Unsupported {
                what: format!(
                    "row filters and column lists that publication `{name}` has for {narrowed}: let \
                     its owner drop it, it is made again"
                ),
            });
        }
        let doing = format!("changing publication `{name}`");
        if existing.settings != settings {
            let clause = settings.clause(version);
            let statement = format!("ALTER PUBLICATION {} SET ({clause})", identifier(name)?);
            let remedy = remedy(&statement);
            let what = Locking { doing: &doing, tables: name, remedy: &remedy };
            self.with_short_locks(what, &statement).await?;
        }
        let wanted: HashSet<u32> = tables.iter().map(|(oid, ..)| *oid).collect();
        let found: HashSet<u32> = existing.tables.iter().map(|(oid, ..)| *oid).collect();
        let added: Vec<_> = tables.iter().filter(|(oid, ..)| !found.contains(oid)).collect();
        let dropped: Vec<_> =
            existing.tables.iter().filter(|(oid, ..)| !wanted.contains(oid)).collect();
        self.alter(name, "ADD", &added).await?;
        match self.alter(name, "DROP", &dropped).await {
            // The administrator has added it, and this role may only read it.
            Err(Error::NotAuthorized { doing, .. }) => {
                let tables = people(dropped);
                info!(
                    publication = name,
                    tables, doing, "tables that are not wanted stay in it: their rows are left out"
                );
                Ok(())
            }
            done => done,
        }
    }

    /// Adds a table of ours.
    ///
    /// # Errors
    /// As [`Self::ensure_publication`].
    pub async fn add_to_publication(
        &self,
        name: &str,
        schema: &str,
        table: &str,
    ) -> Result<(), Error> {
        self.alter(name, "ADD", &[&(0, schema.to_owned(), table.to_owned())]).await
    }

    /// The publication of this name.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn publication(&self, name: &str) -> Result<Option<Publication>, Error> {
        let via_root = via_root_column(self.server().version);
        let statement = format!(
            "SELECT {via_root}, (SELECT array_agg(c.oid ORDER BY c.oid) FROM pg_publication_tables \
             t JOIN pg_namespace n ON n.nspname = t.schemaname \
               JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
               WHERE t.pubname = p.pubname), \
               (SELECT array_agg(r.prrelid ORDER BY r.oid) FROM pg_publication_rel r WHERE r.prpubid = p.oid), \
               (SELECT array_agg(r.oid ORDER BY r.oid) FROM pg_publication_rel r WHERE r.prpubid = p.oid), \
               concat(p.oid, ' ', p.xmin), p.pubowner \
             FROM pg_publication p WHERE p.pubname = $1"
        );
        let rows = self.query("publication", &statement, &[(&name, Type::TEXT)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let wrong = Error::reading("publication");
        let oids = |index| row.try_get::<_, Option<Vec<u32>>>(index).map(Option::unwrap_or_default);
        let read = || -> Result<Publication, tokio_postgres::Error> {
            Ok(Publication {
                name: name.into(),
                tables: oids(1)?,
                via_root: row.try_get(0)?,
                additions: oids(2)?.into_iter().zip(oids(3)?).collect(),
                version: row.try_get(4)?,
                owner: row.try_get(5)?,
            })
        };
        read().map(Some).map_err(&wrong)
    }

    /// Which of these publications has which relations, by OID, as they were added: one by one.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn members(&self, publications: &[String]) -> Result<Vec<(String, u32)>, Error> {
        let statement = "SELECT p.pubname::text, r.prrelid FROM pg_publication p \
             JOIN pg_publication_rel r ON r.prpubid = p.oid WHERE p.pubname = ANY ($1)";
        let rows =
            self.query("publications", statement, &[(&publications, Type::TEXT_ARRAY)]).await?;
        let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let found: Result<_, tokio_postgres::Error> = rows.iter().map(read).collect();
        found.map_err(Error::reading("publications"))
    }

    /// Drops a publication; one that is not there is fine.
    ///
    /// # Errors
    /// When the role does not own it, or the server does not answer.
    pub async fn drop_publication(&self, name: &str) -> Result<(), Error> {
        let statement = format!("DROP PUBLICATION IF EXISTS {}", identifier(name)?);
        let doing = format!("dropping publication `{name}`");
        let remedy = remedy(&statement);
        let what = Locking { doing: &doing, tables: name, remedy: &remedy };
        self.with_short_locks(what, &statement).await
    }

    /// Whether the publication exists and does not send what the task needs.
    pub(crate) async fn publication_differs(
        &self,
        name: &str,
        via_root: bool,
    ) -> Result<bool, Error> {
        let wanted = Settings::new(self.server().version, via_root, true);
        let existing = self.existing(name).await?;
        Ok(existing.is_some_and(|it| it.settings != wanted))
    }

    async fn existing(&self, name: &str) -> Result<Option<Existing>, Error> {
        let version = self.server().version;
        let via_root = via_root_column(version);
        let generated =
            if version < GENERATED_PUBLISHED_SINCE { "false" } else { "p.pubgencols = 's'" };
        let (filtered, columns) = match version < NARROWED_SINCE {
            true => ("false", "false"),
            false => ("r.prqual IS NOT NULL", "r.prattrs IS NOT NULL"),
        };
        let statement = format!(
            "SELECT p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete, p.pubtruncate, \
               {via_root}, {generated}, c.oid, n.nspname::text, c.relname::text, {filtered}, {columns} \
             FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid \
             LEFT JOIN pg_class c ON c.oid = r.prrelid \
             LEFT JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE p.pubname = $1 ORDER BY 7, 8"
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
        let rows = self.query("publication", &statement, &parameters).await?;
        let read = || -> Result<Option<Existing>, tokio_postgres::Error> {
            let Some(row) = rows.first() else { return Ok(None) };
            let settings = Settings {
                changes: row.try_get(1)?,
                truncate: row.try_get(2)?,
                via_root: row.try_get(3)?,
                generated: row.try_get(4)?,
            };
            let (mut tables, mut narrowed) = (Vec::new(), Vec::new());
            for row in &rows {
                let Some(oid) = row.try_get::<_, Option<u32>>(5)? else { continue };
                let (schema, name): (String, String) = (row.try_get(6)?, row.try_get(7)?);
                let (has_filter, has_columns): (bool, bool) = (row.try_get(8)?, row.try_get(9)?);
                if has_filter || has_columns {
                    let name = readable(&schema, &name);
                    narrowed.push(Narrowed { oid, name, has_columns });
                }
                tables.push((oid, schema, name));
            }
            Ok(Some(Existing { all_tables: row.try_get(0)?, settings, tables, narrowed }))
        };
        read().map_err(Error::reading("publication"))
    }

    /// A slot that is made after it sees all of it: the slot waits for whoever writes now.
    async fn create_publication(
        &self,
        name: &str,
        tables: &[(u32, String, String)],
        settings: Settings,
    ) -> Result<(), Error> {
        let clause = settings.clause(self.server().version);
        let quoted = identifier(name)?;
        let doing = format!("creating publication `{name}`");
        for (index, chunk) in tables.chunks(TABLES_AT_ONCE_MAX).enumerate() {
            let list = list(chunk)?;
            let statement = if index == 0 {
                format!("CREATE PUBLICATION {quoted} FOR TABLE {list} WITH ({clause})")
            } else {
                format!("ALTER PUBLICATION {quoted} ADD TABLE {list}")
            };
            let (people, remedy) = (people(chunk), creation_remedy(self, chunk).await?);
            let what = Locking { doing: &doing, tables: &people, remedy: &remedy };
            self.with_short_locks(what, &statement).await?;
        }
        if tables.is_empty() {
            let statement = format!("CREATE PUBLICATION {quoted} WITH ({clause})");
            let remedy = creation_remedy(self, tables).await?;
            let what = Locking { doing: &doing, tables: name, remedy: &remedy };
            self.with_short_locks(what, &statement).await?;
        }
        info!(publication = name, tables = tables.len(), "publication created");
        Ok(())
    }

    /// Adds or drops tables under a lock that waits for their writers: several at once, and one by
    /// one where some of them are busy.
    async fn alter(
        &self,
        name: &str,
        verb: &str,
        tables: &[&(u32, String, String)],
    ) -> Result<(), Error> {
        let quoted = identifier(name)?;
        let doing = match verb {
            "ADD" => format!("adding to publication `{name}`"),
            _ => format!("dropping from publication `{name}`"),
        };
        for chunk in tables.chunks(LOCKED_AT_ONCE_MAX) {
            let statement = |chunk: &[&(u32, String, String)]| -> Result<String, Error> {
                let locked = chunk.iter().map(|(_, schema, name)| qualified(schema, name));
                let locked = locked.collect::<Result<Vec<_>, _>>()?.join(", ");
                let list = list(chunk.iter().copied())?;
                Ok(format!(
                    "LOCK TABLE {locked} IN SHARE ROW EXCLUSIVE MODE; \
                     ALTER PUBLICATION {quoted} {verb} TABLE {list}"
                ))
            };
            let remedy = creation_remedy(self, chunk.iter().copied()).await?;
            let together = people(chunk.iter().copied());
            let what = Locking { doing: &doing, tables: &together, remedy: &remedy };
            match self.with_short_locks_once(what, &statement(chunk)?).await {
                Err(Error::LockTimeout { .. }) => {}
                Err(Error::TableMissing { .. }) if verb == "DROP" => {}
                done => {
                    done?;
                    continue;
                }
            }
            for table in chunk {
                let alone = readable(&table.1, &table.2);
                let what = Locking { doing: &doing, tables: &alone, remedy: &remedy };
                let statement = statement(std::slice::from_ref(table))?;
                match self.with_short_locks(what, &statement).await {
                    // Whoever dropped the table took it out of the publication.
                    Err(Error::TableMissing { .. }) if verb == "DROP" => {}
                    done => done?,
                }
            }
        }
        if !tables.is_empty() {
            info!(publication = name, tables = tables.len(), "publication changed: {verb}");
        }
        Ok(())
    }
}

/// The parameters of a publication that the task would make.
pub(crate) fn clause(version: u32, via_root: bool) -> String {
    Settings::new(version, via_root, true).clause(version)
}

fn via_root_column(version: u32) -> &'static str {
    if version < VIA_ROOT_SINCE { "false" } else { "p.pubviaroot" }
}
