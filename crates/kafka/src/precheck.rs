//! What is checked at the sink before a task starts. Writes nothing.

use crate::names::Names;
use crate::settings::Settings;
use crate::topics::Admin;
use crate::{Error, properties};
use config::precheck::Item;
use config::{ConflictingTopics, Delivery};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// A topic that the task needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WantedTopic {
    pub name: String,
    pub partitions: i32,
}

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Names shown of a longer list.
const NAMES_MAX: usize = 5;

/// The items of the sink.
#[must_use]
pub fn check(
    settings: &Settings,
    task: &config::Task,
    names: &Names,
    topics: &[WantedTopic],
) -> Vec<Item> {
    let mut items = vec![properties_item(task)];
    let admin = match Admin::new(settings)
        .and_then(|admin| admin.metadata(None).map(|it| (admin, it)))
    {
        Ok((admin, metadata)) => {
            let brokers = metadata.brokers().len();
            items.push(Item::pass("sink.connection", format!("{brokers} brokers answer")));
            items.push(replication_item(brokers, task));
            admin
        }
        Err(error) => {
            items.push(Item::fail("sink.connection", error.to_string(), connection_remedy(&error)));
            return items;
        }
    };
    let check = Check { admin: &admin, task, names, topics };
    let failed = |name: &str, error: &Error| {
        Item::fail(name, error.to_string(), "mend the cause and run the check again")
    };
    let parts = [
        ("sink.internal-topics", check.internal()),
        ("sink.topics", check.exist()),
        ("sink.conflicting-topics", check.conflicts()),
        ("sink.message-size", check.sizes()),
    ];
    items.extend(parts.map(|(name, part)| part.unwrap_or_else(|error| failed(name, &error))));
    items
}

/// Whether each broker of the spec can be reached, and how long that takes.
#[must_use]
pub fn connectivity(settings: &Settings) -> Vec<Item> {
    settings.brokers().split(',').map(|broker| reach(broker.trim())).collect()
}

fn reach(broker: &str) -> Item {
    let name = format!("sink.connectivity.{broker}");
    let started = Instant::now();
    let addresses: Vec<_> = match broker.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let remedy = "correct the name in `sink.brokers`, or the name service";
            return Item::fail(&name, format!("its name is not known: {error}"), remedy);
        }
    };
    let mut last = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(_) => {
                let ms = started.elapsed().as_secs_f64() * 1000.0;
                return Item::pass(&name, format!("{address} answers after {ms:.1} ms"));
            }
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Item::fail(&name, last, "start the broker, or open the way to it (address lists, firewalls)")
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

fn replication_item(brokers: usize, task: &config::Task) -> Item {
    let factor = task.sink.replication_factor;
    if brokers < 3 || (1..3).contains(&factor) {
        let seen = format!("{brokers} brokers, `sink.replication_factor` {factor}");
        let remedy = "with fewer than three replicas a lost broker can lose what was acknowledged; \
                      use three brokers and min.insync.replicas 2";
        return Item::warning("sink.replication", seen, remedy);
    }
    Item::pass("sink.replication", format!("{brokers} brokers"))
}

fn connection_remedy(error: &Error) -> &'static str {
    match error {
        Error::Authentication { .. } => "correct `sink.security`",
        Error::Unreachable { .. } => {
            "start the brokers of `sink.brokers`, or correct the addresses"
        }
        Error::Fenced { .. }
        | Error::RecordTooLarge { .. }
        | Error::TopicMissing { .. }
        | Error::NotAuthorized { .. }
        | Error::CheckpointDiverged { .. }
        | Error::TopicTruncated { .. }
        | Error::InternalTopic { .. }
        | Error::Dirty
        | Error::Poisoned
        | Error::Config(_)
        | Error::Client { .. } => "mend the cause and run the check again",
    }
}

struct Check<'a> {
    admin: &'a Admin,
    task: &'a config::Task,
    names: &'a Names,
    topics: &'a [WantedTopic],
}

impl Check<'_> {
    fn internal(&self) -> Result<Item, Error> {
        let name = self.names.checkpoints();
        let exists = self.exists(&name)?;
        Ok(if exists {
            self.admin.ensure_internal(self.names)?;
            Item::pass("sink.internal-topics", format!("`{name}` exists and is kept as it must be"))
        } else {
            Item::pass("sink.internal-topics", format!("`{name}` will be created"))
        })
    }

    fn exist(&self) -> Result<Item, Error> {
        let names: Vec<String> = self.topics.iter().map(|topic| topic.name.clone()).collect();
        let found = self.admin.partitions(&names)?;
        let missing: Vec<&str> =
            found.iter().filter(|(_, count)| count.is_none()).map(|(name, _)| &**name).collect();
        if missing.is_empty() {
            return Ok(Item::pass("sink.topics", format!("all {} topics exist", names.len())));
        }
        if !self.task.sync.schema {
            let remedy = "create them, or set `sync.schema: true` so that the task does";
            let seen = format!("{} do not exist: {}", missing.len(), listed(&missing));
            return Ok(Item::fail("sink.topics", seen, remedy));
        }
        Ok(Item::pass("sink.topics", format!("{} topics will be created", missing.len())))
    }

    /// Data of somebody else. A task that has run before finds its own.
    fn conflicts(&self) -> Result<Item, Error> {
        let name = "sink.conflicting-topics";
        if self.exists(&self.names.checkpoints())? {
            return Ok(Item::pass(name, "the task has run before"));
        }
        if self.task.sink.conflicting_topics == ConflictingTopics::Ignore {
            return Ok(Item::pass(name, "not looked for: `sink.conflicting_topics` is `ignore`"));
        }
        let mut full = Vec::new();
        for topic in self.topics {
            if self.exists(&topic.name)? && !self.admin.is_empty(&topic.name)? {
                full.push(topic.name.as_str());
            }
        }
        if full.is_empty() {
            return Ok(Item::pass(name, "no topic holds data of others"));
        }
        let seen = format!("{} topics hold data already: {}", full.len(), listed(&full));
        let remedy = "choose other topics (`sink.topic`), empty them, or set \
                      `sink.conflicting_topics: ignore`";
        Ok(Item::fail(name, seen, remedy))
    }

    fn sizes(&self) -> Result<Item, Error> {
        let name = "sink.message-size";
        for topic in self.topics {
            if !self.exists(&topic.name)? {
                continue;
            }
            let limit = self.admin.config(&topic.name)?;
            let limit = limit.get("max.message.bytes").and_then(|text| text.parse::<u64>().ok());
            if let Some(limit) = limit.filter(|&limit| limit < 1 << 20) {
                let seen = format!("topic `{}` takes records up to {limit} bytes", topic.name);
                let remedy = "raise its `max.message.bytes`, or set `sink.oversize`";
                return Ok(Item::warning(name, seen, remedy));
            }
        }
        let delivery = match self.task.sink.delivery {
            Delivery::ExactlyOnce => "exactly-once",
            Delivery::AtLeastOnce => "at-least-once",
        };
        Ok(Item::pass(name, format!("topics take records of 1 MiB, {delivery}")))
    }

    fn exists(&self, topic: &str) -> Result<bool, Error> {
        Ok(self.admin.partitions(&[topic.to_owned()])?.get(topic).copied().flatten().is_some())
    }
}

fn listed(names: &[&str]) -> String {
    let mut text = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    if NAMES_MAX < names.len() {
        text.push_str(", …");
    }
    text
}
