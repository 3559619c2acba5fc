//! What the authorizer of the brokers permits, found out without writing anything.
//!
//! Brokers look at rights first, and at the request then. So a request that is refused for another reason has
//! passed the authorizer: transactions for longer than any broker allows, and a record larger than its topic
//! takes. Neither fences an owner nor leaves a record. Where the brokers allow such transactions the request is
//! carried out; so it is made under an id that no lane has, and those of lanes are not tried then.

use super::topics::Topics;
use super::{Brokers, listed};
use crate::Error;
use crate::names::{LaneId, Names};
use crate::read::may_read;
use crate::settings::Settings;
use config::Delivery;
use config::precheck::Item;
use futures_executor::block_on;
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, FutureProducer, FutureRecord, Producer};
use std::time::Duration;

const NAME: &str = "sink.authorization";
const CALL_MAX: Duration = Duration::from_secs(10);
/// Topics that are tried: rights are mostly granted by prefix.
const TOPICS_TRIED_MAX: usize = 4;
/// A larger record is not sent only to be refused.
const RECORD_BYTES_MAX: u64 = 4 << 20;
/// 24 days, about the longest that the protocol has (the client adds a little to it);
/// `transaction.max.timeout.ms` is 15 minutes by default.
const TRANSACTION_MAX: i32 = i32::MAX - 1_000;
/// Last part of a transactional id that no lane has.
const OF_NOBODY: &str = "precheck";

/// A right that is missing.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Missing {
    TransactionalId(String),
    Topic(String),
    Reading(String),
}

pub(super) fn authorization(
    settings: &Settings,
    brokers: &Brokers<'_>,
    topics: &Topics<'_>,
    task: &config::Task,
    names: &Names,
) -> Item {
    if brokers.authorizer() == Some(false) {
        return Item::pass(NAME, "the brokers have no authorizer: everything is permitted");
    }
    let mut missing = Vec::new();
    if task.sink.delivery == Delivery::ExactlyOnce {
        match transactional_ids(settings, brokers, task, names) {
            Ok(found) => missing.extend(found.into_iter().map(Missing::TransactionalId)),
            Err(error) => return super::failed(NAME, &error),
        }
    }
    let tried = topics
        .limits()
        .filter_map(|(topic, limit)| Some((topic, limit.filter(|it| *it <= RECORD_BYTES_MAX)?)));
    for (topic, limit) in tried.take(TOPICS_TRIED_MAX) {
        match may_write(settings, topic, limit) {
            Ok(true) => {}
            Ok(false) => missing.push(Missing::Topic(topic.to_owned())),
            Err(error) => return super::failed(NAME, &error),
        }
    }
    let checkpoints = names.checkpoints();
    let untried = match topics.limit(&checkpoints) {
        None => true,
        Some(limit) => match of_checkpoints(settings, names, limit) {
            Ok(found) => {
                missing.extend(found);
                false
            }
            Err(error) => return super::failed(NAME, &error),
        },
    };
    missing.dedup();
    judge(&missing, untried, task, names)
}

/// Every lane reads what it holds before it writes, and each writes its checkpoints there.
fn of_checkpoints(
    settings: &Settings,
    names: &Names,
    limit: Option<u64>,
) -> Result<Vec<Missing>, Error> {
    let (topic, mut missing) = (names.checkpoints(), Vec::new());
    if let Some(limit) = limit.filter(|it| *it <= RECORD_BYTES_MAX)
        && !may_write(settings, &topic, limit)?
    {
        missing.push(Missing::Topic(topic.clone()));
    }
    if !may_read(settings, &names.seat(LaneId::Meta))? {
        missing.push(Missing::Reading(topic));
    }
    Ok(missing)
}

/// `untried`: the topic of checkpoints is yet to be made, and nobody can be asked for rights on it before.
fn judge(missing: &[Missing], untried: bool, task: &config::Task, names: &Names) -> Item {
    let user = task.sink.security.user.as_deref().unwrap_or("…");
    let acl = format!("kafka-acls.sh --bootstrap-server … --add --allow-principal User:{user}");
    let internal = format!(
        "{acl} --operation Read --operation Write --operation Describe --topic {}.{}. --resource-pattern-type prefixed",
        task.sink.state_prefix,
        names.task()
    );
    if missing.is_empty() {
        let seen = "the authorizer permits what was tried: transactional ids, writing to topics that exist";
        if untried {
            let seen = format!(
                "{seen}. `{}` is yet to be made: whether it may be read and written cannot be tried before, and without \
                 either no lane opens",
                names.checkpoints()
            );
            return Item::warning(
                NAME,
                seen,
                format!("nothing, if these rights are there; else {internal}"),
            );
        }
        return Item::pass(NAME, format!("{seen}, reading checkpoints"));
    }
    let (mut seen, mut remedies) = (Vec::new(), Vec::new());
    let ids: Vec<&str> = missing.iter().filter_map(Missing::transactional_id).collect();
    if !ids.is_empty() {
        seen.push(format!("transactional ids are not permitted: {}", listed(ids)));
        remedies.push(format!(
            "{acl} --operation Write --operation Describe --transactional-id {}.{}. \
             --resource-pattern-type prefixed",
            task.sink.state_prefix,
            names.task()
        ));
    }
    let topics: Vec<&str> = missing.iter().filter_map(Missing::topic).collect();
    if !topics.is_empty() {
        seen.push(format!("writing is not permitted: {}", listed(topics.iter().copied())));
        let topics: Vec<String> = topics.iter().map(|topic| format!("--topic {topic}")).collect();
        let topics = topics.join(" ");
        remedies.push(format!("{acl} --operation Write --operation Describe {topics}"));
    }
    let reading: Vec<&str> = missing.iter().filter_map(Missing::reading).collect();
    if untried || !reading.is_empty() {
        remedies.push(internal);
    }
    if !reading.is_empty() {
        seen.push(format!("reading is not permitted: {}", listed(reading)));
    }
    Item::fail(NAME, seen.join("; "), remedies.join("; "))
}

impl Missing {
    fn transactional_id(&self) -> Option<&str> {
        match self {
            Self::TransactionalId(id) => Some(id),
            Self::Topic(_) | Self::Reading(_) => None,
        }
    }

    fn reading(&self) -> Option<&str> {
        match self {
            Self::Reading(topic) => Some(topic),
            Self::TransactionalId(_) | Self::Topic(_) => None,
        }
    }

    fn topic(&self) -> Option<&str> {
        match self {
            Self::TransactionalId(_) | Self::Reading(_) => None,
            Self::Topic(topic) => Some(topic),
        }
    }
}

/// What is said to a request for transactions that are too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    TooLong,
    /// Carried out: whoever had the id is fenced.
    Opened,
    NotPermitted,
}

/// Those of the lanes that are not permitted.
fn transactional_ids(
    settings: &Settings,
    brokers: &Brokers<'_>,
    task: &config::Task,
    names: &Names,
) -> Result<Vec<String>, Error> {
    // Every lane has one of its own; rights by prefix hold for all of them.
    let lanes = [LaneId::Meta, LaneId::Lane(0), LaneId::Lane(task.lanes.0.saturating_sub(1))];
    let ids = lanes.into_iter().map(|lane| names.seat(lane).transactional_id);
    let of_nobody = format!("{}.{}.{OF_NOBODY}", task.sink.state_prefix, names.task());
    let longest = brokers.transaction_max();
    let are_refused = longest.is_some_and(|it| it < u128::from(TRANSACTION_MAX.unsigned_abs()));
    match asked(settings, &of_nobody)? {
        Said::Opened => Ok(Vec::new()),
        // Rights may be given id by id; but nobody knows whether asking for those would fence their owners.
        Said::NotPermitted if !are_refused => Ok(ids.collect()),
        Said::TooLong | Said::NotPermitted => {
            let mut missing = Vec::new();
            for id in ids {
                if asked(settings, &id)? == Said::NotPermitted {
                    missing.push(id);
                }
            }
            Ok(missing)
        }
    }
}

/// Asks for transactions that are too long for most brokers.
fn asked(settings: &Settings, id: &str) -> Result<Said, Error> {
    let mut config = settings.transactional(id);
    config.set("transaction.timeout.ms", TRANSACTION_MAX.to_string());
    let doing = format!("asking whether transactions may be opened as `{id}`");
    let producer: BaseProducer =
        config.create().map_err(|error| Error::from_kafka(&doing, &error))?;
    let Err(error) = producer.init_transactions(CALL_MAX) else { return Ok(Said::Opened) };
    let is_permitted = permitted(&doing, &error, RDKafkaErrorCode::InvalidTransactionTimeout)?;
    Ok(if is_permitted { Said::TooLong } else { Said::NotPermitted })
}

/// Sends a record that the topic does not take.
fn may_write(settings: &Settings, topic: &str, limit: u64) -> Result<bool, Error> {
    let doing = format!("asking whether topic `{topic}` may be written to");
    let bytes = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut config = settings.admin();
    config
        .set("message.max.bytes", (limit + RECORD_BYTES_MAX).to_string())
        .set("acks", "all")
        .set("compression.type", "none")
        .set("enable.idempotence", "false")
        .set("message.timeout.ms", CALL_MAX.as_millis().to_string());
    let producer: FutureProducer<DefaultClientContext> =
        config.create().map_err(|error| Error::from_kafka(&doing, &error))?;
    let payload = vec![0_u8; bytes];
    let record = FutureRecord::<(), _>::to(topic).payload(&payload).partition(0);
    let sent =
        producer.send_result(record).map_err(|(error, _)| Error::from_kafka(&doing, &error))?;
    match block_on(sent) {
        Ok(Ok(_)) => Ok(true),
        Ok(Err((error, _))) => permitted(&doing, &error, RDKafkaErrorCode::MessageSizeTooLarge),
        Err(_) => Err(Error::Client { doing, reason: "the client has ended".into() }),
    }
}

/// `expected`: what is said to whoever has the right.
fn permitted(doing: &str, error: &KafkaError, expected: RDKafkaErrorCode) -> Result<bool, Error> {
    if error.rdkafka_error_code() == Some(expected) {
        return Ok(true);
    }
    let error = Error::from_kafka(doing, error);
    if matches!(error, Error::NotAuthorized { .. }) { Ok(false) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    #[test]
    fn each_missing_right_has_its_statement() {
        let names = Names::new("distributary", "shop").expect("names");
        let mut task = config::Task { task: "shop".into(), ..config::Task::default() };
        task.sink.state_prefix = "distributary".into();
        task.sink.security.user = Some("me".into());
        assert_eq!(judge(&[], false, &task, &names).state, State::Pass);
        let item = judge(&[], true, &task, &names);
        assert_eq!(item.state, State::Warning);
        assert!(item.remedy.contains("--operation Read"), "{item:?}");
        let missing = [
            Missing::TransactionalId("distributary.shop.meta".into()),
            Missing::Topic("orders".into()),
        ];
        let item = judge(&missing, false, &task, &names);
        assert_eq!(item.state, State::Fail);
        for word in
            ["User:me", "--transactional-id distributary.shop. --resource", "--topic orders"]
        {
            assert!(item.remedy.contains(word), "{item:?}");
        }
    }
}
