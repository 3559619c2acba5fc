//! What is checked at the sink before a task starts. Writes nothing.

mod authorization;
mod brokers;
mod connection;
mod letters;
mod reach;
mod registry;
mod topics;

use crate::names::Names;
use crate::settings::Settings;
use crate::topics::Admin;
use crate::{Error, properties};
use brokers::Brokers;
pub(crate) use brokers::{IN_SYNC_MIN, REPLICAS_MIN, is_weak};
use config::precheck::Item;
pub use letters::letters;
use rdkafka::metadata::Metadata;
pub use reach::connectivity;
pub use registry::schemas;
use topics::Topics;

/// A topic that the task needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WantedTopic {
    pub name: String,
    pub partitions: i32,
    /// What the rows of its tables take in the database, as far as it is known.
    pub bytes: u64,
}

/// Whether the brokers answer; what the precheck says where they do not. Waits as long as [`check`] would.
///
/// # Errors
/// The item that fails.
pub fn reach(settings: &Settings) -> Result<(), Box<Item>> {
    let admin =
        Admin::new(settings).map_err(|error| Box::new(failed("sink.connection", &error)))?;
    connect(&admin, settings).map(drop).map_err(Box::new)
}

fn connect(admin: &Admin, settings: &Settings) -> Result<Metadata, Item> {
    connection::connect(admin.lookup(), settings).map_err(|error| {
        let failed = failed("sink.connection", &error);
        Item { seen: format!("{}: {}", settings.brokers(), failed.seen), ..failed }
    })
}

/// The items of the sink. `reached`: what [`reach()`] has found.
#[must_use]
pub fn check(
    settings: &Settings,
    reached: Result<(), Box<Item>>,
    task: &config::Task,
    names: &Names,
    topics: &[WantedTopic],
) -> Vec<Item> {
    let mut items = vec![properties_item(task)];
    if let (Some(client), Some(registry)) = (settings.registry(), &task.sink.registry) {
        let secret = registry.password.is_some() || registry.token.is_some();
        items.push(registry::item(client, secret && registry.url.starts_with("http:")));
    }
    let admin = match Admin::new(settings) {
        Ok(admin) => admin,
        Err(error) => {
            items.push(failed("sink.connection", &error));
            return items;
        }
    };
    // Who does not answer is not waited for twice.
    let metadata = match reached.map_err(|it| *it).and_then(|()| connect(&admin, settings)) {
        Ok(metadata) => metadata,
        Err(item) => {
            items.push(item);
            return items;
        }
    };
    let brokers = Brokers::new(&admin, &metadata, task);
    items.push(brokers.connection());
    items.push(brokers.version());
    items.push(brokers.transaction_timeout());
    match Topics::new(&admin, &metadata, task, names, topics) {
        Ok(topics) => {
            items.extend(topics.items());
            items.push(brokers.replication(&topics.existing()));
            items.push(authorization::authorization(settings, &brokers, &topics, task, names));
        }
        Err(error) => items.push(failed("sink.topics", &error)),
    }
    items
}

fn properties_item(task: &config::Task) -> Item {
    let refused = properties::check(&task.sink.properties);
    if refused.is_empty() {
        let count = task.sink.properties.len();
        return Item::pass("sink.properties", format!("{count} properties of the allow-list"));
    }
    let all: Vec<String> = refused.iter().map(ToString::to_string).collect();
    Item::fail("sink.properties", all.join("; "), "take them out of `sink.properties`")
}

/// An item that could not be looked at.
fn failed(name: &str, error: &Error) -> Item {
    let remedy = match error {
        Error::Authentication { .. } => "correct `sink.security`",
        Error::Unreachable { .. } => {
            "start the brokers of `sink.brokers`, or correct the addresses"
        }
        Error::NotAuthorized { .. } => "grant the rights that the manual lists for the sink's user",
        Error::InternalTopic { .. } => "set the topic right, or use another `sink.state_prefix`",
        Error::Registry(error) => registry::remedy(error),
        Error::Config(_) => "correct the setting",
        Error::Fenced { .. }
        | Error::RecordTooLarge { .. }
        | Error::TopicMissing { .. }
        | Error::TooFewPartitions { .. }
        | Error::CheckpointDiverged { .. }
        | Error::TopicTruncated { .. }
        | Error::CommittedAborted { .. }
        | Error::TopicChanged { .. }
        | Error::TopicGrown { .. }
        | Error::Dirty
        | Error::Poisoned
        | Error::Client { .. } => "mend the cause and run the check again",
    };
    let may_pass = matches!(error, Error::Unreachable { .. });
    Item { may_pass, ..Item::fail(name, error.to_string(), remedy) }
}

/// Names shown of a longer list.
const NAMES_MAX: usize = 5;

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut text = names.by_ref().take(NAMES_MAX).collect::<Vec<_>>().join(", ");
    if names.next().is_some() {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_names_is_cut() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert_eq!(listed(["a", "b", "c", "d", "e"]), "a, b, c, d, e");
        assert_eq!(listed(["a", "b", "c", "d", "e", "f"]), "a, b, c, d, e, …");
    }

    #[test]
    fn refused_properties_fail_with_their_reasons() {
        let mut task = config::Task::default();
        assert_eq!(properties_item(&task).state, config::precheck::State::Pass);
        task.sink.properties.insert("debug".into(), "all".into());
        let item = properties_item(&task);
        assert_eq!(item.state, config::precheck::State::Fail);
        assert!(item.seen.contains("`debug`"), "{}", item.seen);
    }
}
