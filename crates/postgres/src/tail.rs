//! Publications of `distributary tail`, which end with it, or are found by the next one where it was killed.

use crate::{Error, Session};
use tokio_postgres::types::Type;

/// The comment of such a publication: no other is dropped for its name.
pub const COMMENT: &str = "Distributary: publication of a tail";

/// First half of the key of advisory locks that say that a publication is in use; the other half is of its name.
const LOCK_CLASS: i32 = 0x6469_7374;

impl Session {
    /// Says for as long as this session lives that the publication of this name is in use.
    ///
    /// # Errors
    /// When somebody else uses it, or the server does not answer.
    pub async fn hold_publication(&self, name: &str) -> Result<(), Error> {
        if self.try_hold(name).await? {
            return Ok(());
        }
        let what = format!("a second tail as `{name}`: start it again, or end the other one");
        Err(Error::Unsupported { what })
    }

    /// Drops publications that begin so, go on with a number, say that they are of a tail, and are not in use. Returns
    /// their names.
    ///
    /// # Errors
    /// When the role does not own one of them, or the server does not answer.
    pub async fn drop_left_publications(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let statement = "SELECT pubname::text FROM pg_publication \
             WHERE left(pubname, length($1)) = $1 AND substr(pubname, length($1) + 1) ~ '^[0-9]+$' \
               AND obj_description(oid, 'pg_publication') = $2 ORDER BY 1";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&prefix, Type::TEXT), (&COMMENT, Type::TEXT)];
        let rows = self.query("publications of tails", statement, &parameters).await?;
        let mut dropped = Vec::new();
        for row in &rows {
            let name: String = row.try_get(0).map_err(Error::reading("publications of tails"))?;
            if !self.try_hold(&name).await? {
                continue;
            }
            let done = self.drop_publication(&name).await;
            self.release(&name).await?;
            done?;
            dropped.push(name);
        }
        Ok(dropped)
    }

    async fn try_hold(&self, name: &str) -> Result<bool, Error> {
        let statement = "SELECT pg_try_advisory_lock($1, hashtext($2))";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&LOCK_CLASS, Type::INT4), (&name, Type::TEXT)];
        let rows = self.query("advisory lock", statement, &parameters).await?;
        let held = rows.first().map(|row| row.try_get(0)).transpose();
        Ok(held.map_err(Error::reading("advisory lock"))?.unwrap_or_default())
    }

    async fn release(&self, name: &str) -> Result<(), Error> {
        let statement = "SELECT pg_advisory_unlock($1, hashtext($2))";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&LOCK_CLASS, Type::INT4), (&name, Type::TEXT)];
        self.query("advisory lock", statement, &parameters).await.map(drop)
    }
}
