//! Defaults as the server prints them, and constants brought into the form of their column.

use crate::{Error, Session};
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type as Sql};
use tracing::warn;

/// Defaults that one statement evaluates; below the limit of columns of a result.
pub(super) const EVALUATED_MAX: usize = 500;

impl Session {
    /// Expressions of the defaults of columns, by relation and number.
    pub(super) async fn defaults(
        &self,
        oids: &[u32],
    ) -> Result<HashMap<(u32, i16), String>, Error> {
        // Newer servers lock the table to print an expression. Tables that are being altered go
        // without defaults: the others do not wait for them.
        let statement = "\
            SELECT d.adrelid, d.adnum, pg_get_expr(d.adbin, d.adrelid) \
            FROM pg_attrdef d WHERE d.adrelid = ANY ($1) AND d.adrelid NOT IN ( \
              SELECT l.relation FROM pg_locks l JOIN pg_database b ON b.oid = l.database \
              WHERE b.datname = current_database() AND l.locktype = 'relation' \
                AND l.mode = 'AccessExclusiveLock' AND l.relation IS NOT NULL)";
        let rows = match self.query("defaults", statement, &[(&oids, Sql::OID_ARRAY)]).await {
            Ok(rows) => rows,
            Err(error) if error.is_connection() => return Err(error),
            Err(error) => {
                warn!(%error, "defaults of columns could not be read; they are left out");
                return Ok(HashMap::new());
            }
        };
        let read = |row: &Row| -> Result<_, tokio_postgres::Error> {
            let expression: Option<String> = row.try_get(2)?;
            Ok(((row.try_get(0)?, row.try_get(1)?), expression.unwrap_or_default()))
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(Error::reading("defaults"))
    }

    /// Brings constants into the form that a column of the type gives them. The types are the
    /// server's own, so nobody's functions run.
    pub(super) async fn evaluate(
        &self,
        casts: &[(usize, String, String)],
    ) -> Result<Vec<Option<String>>, Error> {
        match self.evaluate_together(casts).await {
            Ok(values) => return Ok(values),
            Err(error) if error.is_connection() => return Err(error),
            Err(_) => {}
        }
        // One of them is no value of its type; an INSERT that needs it fails as well.
        let mut values = Vec::with_capacity(casts.len());
        for cast in casts {
            match self.evaluate_together(std::slice::from_ref(cast)).await {
                Ok(value) => values.extend(value),
                Err(error) if error.is_connection() => return Err(error),
                Err(_) => values.push(None),
            }
        }
        Ok(values)
    }

    async fn evaluate_together(
        &self,
        casts: &[(usize, String, String)],
    ) -> Result<Vec<Option<String>>, Error> {
        // `format` prints by the type's output function, which a cast to text does not always do.
        let expression = |(place, (_, _, type_)): (usize, &(usize, String, String))| -> String {
            format!("format('%s', (${place}::text)::{type_})")
        };
        let expressions: Vec<String> = (1..).zip(casts).map(expression).collect();
        let statement = format!("SELECT {}", expressions.join(", "));
        let parameters: Vec<(&(dyn ToSql + Sync), Sql)> =
            casts.iter().map(|(_, text, _)| (text as &(dyn ToSql + Sync), Sql::TEXT)).collect();
        let rows = self.query("constants", &statement, &parameters).await?;
        let row = rows.first().ok_or_else(|| Error::Protocol {
            reason: "a SELECT of constants returned no row".into(),
        })?;
        (0..casts.len())
            .map(|index| row.try_get(index))
            .collect::<Result<_, _>>()
            .map_err(Error::reading("constants"))
    }
}
