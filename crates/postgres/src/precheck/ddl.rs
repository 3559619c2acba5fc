//! Whether DDL statements can be captured.

use crate::ddl::{Means, Rights, means};
use crate::quote::readable_part;
use crate::{Error, Session};
use config::DdlCapture;
use config::precheck::Item;

const NAME: &str = "source.ddl";

pub(super) async fn ddl(
    session: &Session,
    task: &config::Task,
    schema: &str,
) -> Result<Item, Error> {
    if !task.sync.incremental {
        return Ok(Item::pass(NAME, "DDL is part of the stream, which the task does not read"));
    }
    let wanted = task.source.ddl;
    let means = match means(&task.source, session.server().version) {
        Ok(Some(means)) => means,
        Ok(None) => return Ok(Item::pass(NAME, "DDL is not captured (source.ddl: off)")),
        Err(error) => {
            return Ok(Item::fail(NAME, error.to_string(), "set source.ddl to auto or tables"));
        }
    };
    let rights = session.ddl_rights(schema, means).await?;
    if rights == Rights::Create
        && let Err(error) = session.ours(schema).await
    {
        let remedy = format!(
            "ALTER SCHEMA {} RENAME TO …, or choose another source.slot_prefix",
            readable_part(schema)
        );
        return Ok(Item::fail(NAME, error.to_string(), remedy));
    }
    if rights == Rights::Missing && 1 < task.source.streams {
        let seen = "the role may not create event triggers, and with several `source.streams` DDL cannot be inferred: \
                    each of them sees a part of the tables, and one writes the DDL topic";
        let remedy = "set `source.ddl: off`, or run the task once as a superuser, who leaves the triggers there (or as \
                      the role that the managed service has for it)";
        return Ok(Item::fail(NAME, seen, remedy));
    }
    Ok(judge(wanted, means, rights))
}

fn judge(wanted: DdlCapture, means: Means, rights: Rights) -> Item {
    let by = match means {
        Means::Messages => "logical messages",
        Means::Table => "a helper table",
    };
    match rights {
        Rights::Create => Item::pass(NAME, format!("event triggers write DDL as {by}")),
        Rights::Present => {
            Item::pass(NAME, format!("event triggers that write DDL as {by} are there"))
        }
        Rights::Missing => {
            let seen = "the role may not create event triggers, so DDL statements are not captured: ALTER \
                        TABLE that adds, drops, renames or retypes columns or renames the table is \
                        inferred from the first row after it and marked so, other DDL is missing; \
                        tables that are created later are taken in some seconds later: with what \
                        they hold then where they have a key, else with what comes from then on";
            let remedy = "run the task once as a superuser, who leaves them there (or as the role \
                          that the managed service has for it), or set source.ddl: off";
            match wanted {
                DdlCapture::Auto | DdlCapture::Off => Item::warning(NAME, seen, remedy),
                DdlCapture::Messages | DdlCapture::Tables => Item::fail(NAME, seen, remedy),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    #[test]
    fn what_is_asked_for_by_name_must_be_possible() {
        let state = |wanted, rights| judge(wanted, Means::Messages, rights).state;
        assert_eq!(state(DdlCapture::Auto, Rights::Create), State::Pass);
        assert_eq!(state(DdlCapture::Messages, Rights::Present), State::Pass);
        assert_eq!(state(DdlCapture::Auto, Rights::Missing), State::Warning);
        assert_eq!(state(DdlCapture::Tables, Rights::Missing), State::Fail);
        let item = judge(DdlCapture::Auto, Means::Messages, Rights::Missing);
        assert!(item.seen.contains("inferred"), "{}", item.seen);
    }

    #[test]
    fn messages_need_14() {
        let source = |ddl| config::Source { ddl, ..config::Source::default() };
        let by = |ddl, version| means(&source(ddl), version).ok().flatten();
        assert!(means(&source(DdlCapture::Messages), 130_000).is_err());
        assert_eq!(by(DdlCapture::Auto, 130_000), Some(Means::Table));
        assert_eq!(by(DdlCapture::Auto, 140_000), Some(Means::Messages));
        assert_eq!(by(DdlCapture::Off, 110_000), None);
        let streaming =
            config::Source { streaming: config::Switch::On, ..source(DdlCapture::Auto) };
        assert_eq!(means(&streaming, 180_000).ok().flatten(), Some(Means::Table));
    }
}
