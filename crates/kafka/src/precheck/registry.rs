//! Whether the schema registry can be reached, lets us in, and takes the tables' schemas.

use super::listed;
use crate::registry::{Registry, RegistryError, Verdict};
use crate::settings::Settings;
use config::precheck::Item;
use record::schema::Draft;

const NAME: &str = "sink.registry";

/// The registry of the spec. `plain_password`: a password or token goes over it unencrypted.
pub(super) fn item(registry: &Registry, plain_password: bool) -> Item {
    match registry.level() {
        Ok(_) if plain_password => Item::warning(
            NAME,
            format!("{} answers, and gets the password unencrypted", registry.url()),
            "use https in `sink.registry.url`",
        ),
        Ok(level) => Item::pass(NAME, format!("{} answers; compatibility {level}", registry.url())),
        Err(error) => failed(NAME, &error),
    }
}

/// An item for which the registry could not be asked. One that is away may come back.
fn failed(name: &str, error: &RegistryError) -> Item {
    let may_pass = matches!(error, RegistryError::Unreachable { .. });
    Item { may_pass, ..Item::fail(name, error.to_string(), remedy(error)) }
}

/// Whether the registry would take these schemas; `None`: there is no registry. A task starts all the
/// same: rows from before a table was changed can still be delivered.
#[must_use]
pub fn schemas(settings: &Settings, schemas: &[Draft]) -> Option<Item> {
    const NAME: &str = "sink.registry.compatibility";
    let registry = settings.registry()?;
    let mut refused = Vec::new();
    for schema in schemas {
        match registry.check_draft(schema) {
            Ok(Verdict::Compatible | Verdict::New) => {}
            Ok(Verdict::Incompatible(reason)) => {
                refused.push(format!("{} ({reason})", schema.subject()));
            }
            Err(error) => return Some(failed(NAME, &error)),
        }
    }
    if refused.is_empty() {
        return Some(Item::pass(NAME, format!("{} schemas fit their subjects", schemas.len())));
    }
    Some(Item::warning(
        NAME,
        format!("refused by {}", listed(refused.iter().map(String::as_str))),
        "undo the change of the table, or let the subject take it (set its compatibility to NONE for \
         a moment); else the task parks before the first row of the new schema",
    ))
}

pub(super) fn remedy(error: &RegistryError) -> &'static str {
    match error {
        RegistryError::Unreachable { .. } => {
            "start the registry of `sink.registry`, or correct its address"
        }
        RegistryError::NotAuthorized { .. } => {
            "correct `user` and `password`, or `token`, of `sink.registry`, or grant the right"
        }
        RegistryError::Tls { .. } => "correct `sink.registry.tls`",
        RegistryError::Incompatible { .. } => {
            "let the subject take the schema, or undo the change of the table"
        }
        RegistryError::Refused { .. } | RegistryError::Answer { .. } => {
            "make `sink.registry.url` the address of the registry's REST interface"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_that_is_away_is_waited_for() {
        let (registry, doing, reason) = ("http://r".into(), "reading".into(), "why".into());
        let away = RegistryError::Unreachable { registry, doing, reason };
        assert!(failed(NAME, &away).may_pass);
        let (registry, doing, reason) = ("http://r".into(), "reading".into(), "why".into());
        let closed = RegistryError::NotAuthorized { registry, doing, reason };
        assert!(!failed(NAME, &closed).may_pass);
    }
}
