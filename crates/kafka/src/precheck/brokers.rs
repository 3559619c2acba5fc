//! What the brokers are: how many, how old, how many copies they keep.

use super::listed;
use crate::settings::TRANSACTION_TIMEOUT;
use crate::topics::{Admin, Config};
use config::Delivery;
use config::precheck::Item;
use rdkafka::metadata::Metadata;

/// Since 3.6.0: the broker checks that whoever writes into a transaction has begun it.
const VERIFIES: &str = "transaction.partition.verification.enable";
/// Since 3.7.0. What came with 3.6.1 cannot be seen from outside.
const SINCE_3_7: &str = "telemetry.max.bytes";
const TRANSACTION_MAX: &str = "transaction.max.timeout.ms";
/// Below this, one lost broker can lose what was acknowledged.
pub(crate) const REPLICAS_MIN: usize = 3;
pub(crate) const IN_SYNC_MIN: u32 = 2;

pub(super) struct Brokers<'a> {
    metadata: &'a Metadata,
    task: &'a config::Task,
    /// Settings of each broker; `None`: not permitted to read.
    configs: Vec<(i32, Option<Config>)>,
}

/// A topic that exists: how many copies its partitions have, and how many must be in step.
#[derive(Clone, Debug)]
pub(super) struct Copies {
    pub(super) topic: String,
    pub(super) replicas: usize,
    pub(super) in_sync_min: Option<u32>,
}

impl<'a> Brokers<'a> {
    pub(super) fn new(admin: &Admin, metadata: &'a Metadata, task: &'a config::Task) -> Self {
        let ids = metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id);
        // Whoever may not read them gets none, and no error: a broker without settings there is none.
        let config = |id| admin.broker_config(id).ok().filter(|config| !config.is_empty());
        let configs = ids.map(|id| (id, config(id))).collect();
        Self { metadata, task, configs }
    }

    pub(super) fn connection(&self) -> Item {
        let brokers = self.metadata.brokers();
        let addresses = brokers.iter().map(|it| format!("{}:{}", it.host(), it.port()));
        let addresses: Vec<String> = addresses.collect();
        let seen =
            format!("{} brokers: {}", brokers.len(), listed(addresses.iter().map(|it| &**it)));
        Item::pass("sink.connection", seen)
    }

    /// The client does not tell the version of a broker; the names of its settings do.
    pub(super) fn version(&self) -> Item {
        let found = self.configs.iter().map(|(id, config)| (*id, config.as_ref()));
        version_item(self.task.sink.delivery, found)
    }

    pub(super) fn transaction_timeout(&self) -> Item {
        let found = self.configs.iter().filter_map(|(id, config)| {
            Some((*id, config.as_ref()?.get(TRANSACTION_MAX)?.parse().ok()?))
        });
        transaction_item(self.task.sink.delivery, found)
    }

    /// The longest transactions that any broker allows, in milliseconds. `None`: that cannot be seen.
    pub(super) fn transaction_max(&self) -> Option<u128> {
        let of = |config: &Option<Config>| config.as_ref()?.get(TRANSACTION_MAX)?.parse().ok();
        let found: Option<Vec<u128>> = self.configs.iter().map(|(_, config)| of(config)).collect();
        found?.into_iter().max()
    }

    /// Whether anybody is asked for rights. `None`: that cannot be seen, for want of rights.
    pub(super) fn authorizer(&self) -> Option<bool> {
        let of =
            |config: &Config| config.get("authorizer.class.name").is_some_and(|it| !it.is_empty());
        let mut known = self.configs.iter().map(|(_, config)| config.as_ref().map(of));
        known.try_fold(false, |any, own| own.map(|own| any || own))
    }

    /// How many copies of a record there are, of the topics that exist and those that will.
    pub(super) fn replication(&self, existing: &[Copies]) -> Item {
        let broker = self.configs.iter().find_map(|(_, config)| config.as_ref());
        let number = |name: &str| broker.and_then(|it| it.get(name)).and_then(|it| it.parse().ok());
        let (copies, in_sync) =
            (number("default.replication.factor"), number("min.insync.replicas"));
        let factor = match usize::try_from(self.task.sink.replication_factor) {
            Ok(factor) => Some(factor),
            Err(_) => copies.and_then(|copies: u32| usize::try_from(copies).ok()),
        };
        replication_item(self.metadata.brokers().len(), factor, in_sync, existing)
    }
}

fn transaction_item(delivery: Delivery, found: impl Iterator<Item = (i32, u128)>) -> Item {
    const NAME: &str = "sink.transaction-timeout";
    let wanted = TRANSACTION_TIMEOUT.as_millis();
    if delivery == Delivery::AtLeastOnce {
        return Item::pass(NAME, "at-least-once has no transactions");
    }
    let mut is_known = false;
    let mut short = Vec::new();
    for (id, millis) in found {
        is_known = true;
        if millis < wanted {
            short.push(format!("broker {id} allows {millis} ms"));
        }
    }
    if !short.is_empty() {
        let seen = format!(
            "transactions of {wanted} ms are needed: {}",
            listed(short.iter().map(|it| &**it))
        );
        let remedy =
            format!("set {TRANSACTION_MAX}={wanted} or more in server.properties, and restart");
        return Item::fail(NAME, seen, remedy);
    }
    let seen =
        if is_known { "long enough" } else { "not known: settings of brokers may not be read" };
    Item::pass(NAME, format!("{TRANSACTION_MAX}: {seen}"))
}

fn version_item<'a>(
    delivery: Delivery,
    configs: impl Iterator<Item = (i32, Option<&'a Config>)>,
) -> Item {
    const NAME: &str = "sink.broker-version";
    if delivery == Delivery::AtLeastOnce {
        return Item::pass(NAME, "at-least-once works with every broker since 0.11");
    }
    let (mut unknown, mut old, mut off, mut close) = (vec![], vec![], vec![], vec![]);
    for (id, config) in configs {
        let Some(config) = config else {
            unknown.push(id.to_string());
            continue;
        };
        match config.get(VERIFIES).map(String::as_str) {
            None => old.push(id.to_string()),
            Some("false") => off.push(id.to_string()),
            Some(_) if config.contains_key(SINCE_3_7) => {}
            Some(_) => close.push(id.to_string()),
        }
    }
    let ids = |ids: &[String]| listed(ids.iter().map(|id| &**id));
    if !old.is_empty() {
        let seen = format!("older than 3.6: broker {}", ids(&old));
        let remedy = "exactly-once needs 3.6.1: upgrade, or set `sink.delivery: at-least-once`";
        return Item::fail(NAME, seen, remedy);
    }
    if !off.is_empty() {
        let seen = format!("`{VERIFIES}` is false on broker {}", ids(&off));
        let remedy = "set it to true: without it a late write can hang a transaction for ever";
        return Item::fail(NAME, seen, remedy);
    }
    if !close.is_empty() {
        let seen = format!("3.6, not told whether 3.6.0 or later: broker {}", ids(&close));
        return Item::warning(
            NAME,
            seen,
            "make sure that it is 3.6.1 or later: 3.6.0 refuses good transactions",
        );
    }
    if !unknown.is_empty() {
        let seen = format!("not known: the settings of broker {} may not be read", ids(&unknown));
        let remedy = "make sure that it is 3.6.1 or later, or grant DescribeConfigs on the cluster";
        return Item::warning(NAME, seen, remedy);
    }
    Item::pass(NAME, "3.7 or later")
}

/// Whether one lost broker can lose what was acknowledged.
pub(crate) fn is_weak(replicas: usize, in_sync_min: Option<u32>) -> bool {
    replicas < REPLICAS_MIN || in_sync_min.is_some_and(|in_sync| in_sync < IN_SYNC_MIN)
}

fn replication_item(
    brokers: usize,
    factor: Option<usize>,
    in_sync_min: Option<u32>,
    existing: &[Copies],
) -> Item {
    const NAME: &str = "sink.replication";
    let mut weak = Vec::new();
    if brokers < REPLICAS_MIN {
        weak.push(format!("only {brokers} brokers"));
    }
    if factor.is_some_and(|factor| factor < REPLICAS_MIN) {
        weak.push(format!("new topics get {} copies", factor.unwrap_or_default()));
    }
    if in_sync_min.is_some_and(|in_sync| in_sync < IN_SYNC_MIN) {
        weak.push("`min.insync.replicas` of the brokers is below 2".into());
    }
    let weak_ones = existing.iter().filter(|it| is_weak(it.replicas, it.in_sync_min));
    let topics: Vec<&str> = weak_ones.map(|it| &*it.topic).collect();
    if !topics.is_empty() {
        weak.push(format!("fewer than 3 copies, or 2 in step: topic {}", listed(topics)));
    }
    if weak.is_empty() {
        return Item::pass(NAME, format!("{brokers} brokers, 3 copies, 2 in step"));
    }
    let remedy = "a lost broker can lose what was acknowledged: use three brokers, replication \
                  factor 3 and `min.insync.replicas` 2";
    Item::warning(NAME, weak.join("; "), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    fn config(entries: &[(&str, &str)]) -> Config {
        entries.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn the_oldest_broker_decides() {
        let new = config(&[(VERIFIES, "true"), (SINCE_3_7, "1048576")]);
        let close = config(&[(VERIFIES, "true")]);
        let off = config(&[(VERIFIES, "false"), (SINCE_3_7, "1048576")]);
        let old = config(&[("log.dirs", "/d")]);
        let of = |configs: &[Option<&Config>]| {
            let numbered = configs.iter().zip(1..).map(|(config, id)| (id, *config));
            version_item(Delivery::ExactlyOnce, numbered).state
        };
        assert_eq!(of(&[Some(&new), Some(&new)]), State::Pass);
        assert_eq!(of(&[Some(&new), Some(&close)]), State::Warning);
        assert_eq!(of(&[Some(&new), None]), State::Warning);
        assert_eq!(of(&[Some(&new), Some(&off)]), State::Fail);
        assert_eq!(of(&[None, Some(&close), Some(&old)]), State::Fail);
        let any = version_item(Delivery::AtLeastOnce, [(1, Some(&old))].into_iter());
        assert_eq!(any.state, State::Pass);
    }

    #[test]
    fn every_broker_must_allow_transactions_as_long_as_ours() {
        let state = |found: &[(i32, u128)]| {
            transaction_item(Delivery::ExactlyOnce, found.iter().copied()).state
        };
        assert_eq!(state(&[(1, 900_000), (2, 30_000)]), State::Pass);
        assert_eq!(state(&[(1, 900_000), (2, 29_999)]), State::Fail);
        assert_eq!(state(&[]), State::Pass);
        let none = transaction_item(Delivery::AtLeastOnce, [(1, 1)].into_iter());
        assert_eq!(none.state, State::Pass);
    }

    #[test]
    fn every_way_to_too_few_copies_is_a_warning() {
        let topic = |replicas, in_sync_min| Copies { topic: "t".into(), replicas, in_sync_min };
        let of = |brokers, factor, in_sync, topics: &[Copies]| {
            replication_item(brokers, factor, in_sync, topics).state
        };
        assert_eq!(of(3, Some(3), Some(2), &[topic(3, Some(2))]), State::Pass);
        assert_eq!(of(3, None, None, &[topic(3, None)]), State::Pass);
        assert_eq!(of(1, Some(3), Some(2), &[]), State::Warning);
        assert_eq!(of(3, Some(1), Some(2), &[]), State::Warning);
        assert_eq!(of(3, Some(3), Some(1), &[]), State::Warning);
        assert_eq!(of(3, Some(3), Some(2), &[topic(2, Some(2))]), State::Warning);
        assert_eq!(of(3, Some(3), Some(2), &[topic(3, Some(1))]), State::Warning);
    }
}
