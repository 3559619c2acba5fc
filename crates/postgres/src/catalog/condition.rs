//! Conditions that are judged here, and what the server says of them.

use crate::quote::qualified;
use crate::{Error, Session};
use tokio_postgres::types::{ToSql, Type};

/// First version with collations under which different bytes can be equal.
const NONDETERMINISTIC_SINCE: u32 = 120_000;

impl Session {
    /// Why the server would not judge the rows of a table by the condition as equality of bytes does;
    /// `None`: it would. Reads no row. `collated`: columns whose texts are compared under their own
    /// collation.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn condition_problem(
        &self,
        schema: &str,
        table: &str,
        condition: &str,
        collated: &[&str],
    ) -> Result<Option<String>, Error> {
        let name = qualified(schema, table)?;
        let statement = format!("SELECT 1 FROM {name} WHERE {condition}");
        if let Err(error) = self.client().prepare(&statement).await {
            return match error.as_db_error() {
                Some(said) => Ok(Some(format!("the server refuses it: {}", said.message()))),
                None => Err(Error::reading("a condition")(error)),
            };
        }
        if collated.is_empty() || self.server().version < NONDETERMINISTIC_SINCE {
            return Ok(None);
        }
        let statement = "\
            SELECT a.attname::text FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation \
            WHERE a.attrelid = to_regclass($1) AND a.attname = ANY ($2) AND NOT c.collisdeterministic \
            ORDER BY a.attnum LIMIT 1";
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&name, Type::TEXT), (&collated, Type::TEXT_ARRAY)];
        let rows = self.query("collations", statement, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let column: String = row.try_get(0).map_err(Error::reading("collations"))?;
        Ok(Some(format!(
            "the collation of `{column}` calls different texts equal; write \"{column}\" COLLATE \"C\""
        )))
    }
}
