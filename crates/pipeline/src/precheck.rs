//! The precheck of a task: the source's items, then the sink's. Writes nothing anywhere.

use crate::capture::{Capture, as_captured, capture};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::task::{Outcome, Recovery, Retries, expire};
use config::precheck::Item;
use config::{Format, IdentityPolicy, MessageKey, Oversize};
use kafka::names::Names;
use kafka::precheck::WantedTopic;
use kafka::topics::NewTopic;
use postgres::Session;
use record::naming::{self, Collision};
use record::plan::{Chosen, TablePlan, TaskPlan};
use record::schema::Draft;
use record::selection::Selection;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use supervision::FailureClass;
use wal::statement;

/// Why a task does not start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unfit {
    /// Items that a person must mend.
    Items(Vec<Item>),
    /// What did not answer was tried again for as long as the spec says.
    GaveUp(Outcome),
}

/// Until the task may start. Servers that do not answer are asked again within `retry.connection`, which `retry` tells
/// as it is now, with the trouble in `progress`.
///
/// # Errors
/// What else has failed, at once; or what has not answered in time.
pub async fn pass(
    task: &config::Task,
    folder: &Path,
    progress: &Progress,
    retry: impl Fn() -> config::Retry,
) -> Result<(), Unfit> {
    let mut span = progress.trace.span("precheck", &task.task);
    let mut retries = Retries::new(&task.retry);
    let result = loop {
        let mut failed = precheck(task, folder, false).await;
        failed.retain(Item::holds);
        if failed.is_empty() {
            break Ok(());
        }
        if failed.iter().any(|item| !item.may_pass) {
            break Err(Unfit::Items(failed));
        }
        let texts: Vec<_> = failed.iter().map(|it| format!("{}: {}", it.name, it.seen)).collect();
        let failure = Failure { class: FailureClass::Connection, cause: texts.join("; ") };
        retries.follow(&retry());
        match retries.after(failure, progress) {
            Ok(delay) => tokio::time::sleep(delay).await,
            Err(outcome) => break Err(Unfit::GaveUp(outcome)),
        }
    };
    progress.troubled(None);
    if result.is_err() {
        span.fail("not passed");
    }
    result
}

/// As [`pass`]; what was given up is begun again for `retry.recover_for`, as a task that runs is (P68).
///
/// # Errors
/// As [`pass`], once it is begun no more.
pub async fn pass_again(
    task: &config::Task,
    folder: &Path,
    progress: &Progress,
    retry: impl Fn() -> config::Retry,
) -> Result<(), Unfit> {
    let attempt = async || pass(task, folder, progress, &retry).await;
    let cause = match recovered(attempt, progress, &retry).await {
        Err(Unfit::GaveUp(Outcome::Failed { cause })) => cause,
        passed => return passed,
    };
    let spec = config::Task { retry: retry(), ..task.clone() };
    Err(Unfit::GaveUp(expire(&spec, folder, cause).await))
}

/// Attempts, with pauses between them, until one does not give up or `retry.recover_for` is over.
async fn recovered(
    attempt: impl AsyncFn() -> Result<(), Unfit>,
    progress: &Progress,
    retry: impl Fn() -> config::Retry,
) -> Result<(), Unfit> {
    let mut recovery = Recovery::new(&retry());
    loop {
        let cause = match attempt().await {
            Err(Unfit::GaveUp(Outcome::Failed { cause })) => cause,
            passed => return passed,
        };
        recovery.follow(&retry());
        match recovery.pause(&cause, progress) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(Unfit::GaveUp(Outcome::Failed { cause })),
        }
    }
}

/// Tables that one item names.
const WRONG_SHOWN: usize = 10;

/// Every item, in the order in which people read them.
pub async fn precheck(task: &config::Task, folder: &Path, connectivity: bool) -> Vec<Item> {
    let (selection, plan) = match spec(task) {
        Ok(spec) => spec,
        Err(item) => return vec![item],
    };
    let mut items = vec![Item::pass("spec", "can be planned")];
    items.extend(mask_key(task, folder));
    // Beside the source: where neither answers, that is told once the slower one is given up.
    let reached = reach(task, folder);
    let mut wanted = Vec::new();
    let topics = match postgres::settings::Settings::new(task, folder) {
        Ok(settings) => {
            if connectivity {
                items.extend(postgres::precheck::connectivity(&settings).await);
            }
            let (found, selected) = postgres::precheck::check(&settings, task, &selection).await;
            // Where the server cannot be asked, `source.connection` has failed, and it is not asked again.
            let is_away = found.iter().any(|it| it.name == "source.connection" && it.holds());
            items.extend(found);
            let session = match is_away {
                false => Session::connect(&settings).await.ok(),
                true => None,
            };
            let version = session.as_ref().map_or(0, |session| session.server().version);
            let captured = capture(&selected, &selection, version, &task.source);
            if let Some(session) = session {
                let (item, schemas) = plans(&session, task, &selection, &plan, &captured).await;
                items.push(item);
                items.extend(publication_filters(task, version));
                wanted = schemas;
            }
            let published = || captured.publish.iter().map(|it| (&*it.schema, &*it.name));
            items.push(apart(task, &selection, &plan, published()));
            let bytes: HashMap<(&str, &str), u64> =
                selected.iter().map(|it| ((&*it.schema, &*it.name), it.bytes)).collect();
            let sized = published().map(|(schema, name)| {
                (schema, name, bytes.get(&(schema, name)).copied().unwrap_or_default())
            });
            topics(task, &selection, &plan, sized)
        }
        Err(error) => {
            items.push(Item::fail("source.settings", error.to_string(), "correct the setting"));
            Vec::new()
        }
    };
    items.extend(format(task));
    let letters = crate::planner::letters(task, &plan);
    let wanted = Wanted { topics, schemas: wanted, letters };
    items.extend(sink(task, folder, connectivity, wanted, reached).await);
    name_connections(task, &mut items);
    items
}

/// Says of which connection of the cluster the settings are that an item looked at.
fn name_connections(task: &config::Task, items: &mut [Item]) {
    for (part, connection) in task.connections() {
        let rests = ["connectivity", "settings", "connection"];
        let is_its = |name: &str| {
            let rest = name.strip_prefix(part.word()).and_then(|it| it.strip_prefix('.'));
            rest.is_some_and(|it| rests.contains(&it))
        };
        for item in items.iter_mut().filter(|it| is_its(&it.name)) {
            item.seen = format!("connection `{connection}`: {}", item.seen);
            if !item.remedy.is_empty() {
                item.remedy += "; `distributary connection set` corrects it for all its tasks";
            }
        }
    }
}

/// What the readers of a format would take amiss.
fn format(task: &config::Task) -> Vec<Item> {
    let (sink, word) = (&task.sink, task.sink.format.word());
    let leaves_out = match sink.format {
        Format::CanalJson | Format::MaxwellJson => true,
        Format::DebeziumJson
        | Format::DebeziumAvro
        | Format::DtsAvro
        | Format::SharePlexJson
        | Format::Protobuf => false,
    };
    let has_null_keys = match sink.format {
        Format::CanalJson | Format::SharePlexJson => {
            matches!(sink.format_options.message_key, MessageKey::Auto | MessageKey::None)
        }
        Format::MaxwellJson => sink.format_options.message_key == MessageKey::None,
        Format::DebeziumJson | Format::DebeziumAvro | Format::DtsAvro | Format::Protobuf => false,
    };
    let mut items = Vec::new();
    if leaves_out && task.source.replica_identity == IdentityPolicy::Keep {
        let seen = format!(
            "{word} leaves out large values that did not change, unless the table has REPLICA \
             IDENTITY FULL; Flink reads null there and wipes them in its sink"
        );
        let remedy = "set `source.replica_identity: full`, or see to it that all tables have it";
        items.push(Item::warning("format.unchanged-values", seen, remedy));
    }
    let policy = sink.topic_config.get("cleanup.policy").map(String::as_str).unwrap_or_default();
    if has_null_keys && policy.contains("compact") {
        let seen = format!("records of {word} have no key, and compacted topics refuse such");
        let remedy = "set `sink.format_options.message_key: columns`";
        items.push(Item::fail("format.key", seen, remedy));
    }
    if sink.oversize == Oversize::Chunk && policy.contains("compact") {
        let seen = "parts of a large record have one key, and compaction keeps the last part only";
        let remedy = "set `cleanup.policy: delete`, or another `sink.oversize`";
        items.push(Item::fail("sink.oversize", seen, remedy));
    }
    items
}

fn spec(task: &config::Task) -> Result<(Selection, TaskPlan), Item> {
    let fail = |error: String| Item::fail("spec", error, "correct the spec");
    let selection = Selection::new(task).map_err(|error| fail(error.to_string()))?;
    let plan =
        TaskPlan::new(task, &task.source.database).map_err(|error| fail(error.to_string()))?;
    Ok((selection, plan))
}

/// Whether every table can become records as the spec asks; and the schemas of those that can, for the registry.
async fn plans(
    session: &Session,
    task: &config::Task,
    selection: &Selection,
    plan: &TaskPlan,
    captured: &Capture,
) -> (Item, Vec<Draft>) {
    const NAME: &str = "objects.plan";
    let oids: Vec<u32> = captured.read.iter().map(|reading| reading.relation.oid).collect();
    let tables = match session.tables(&oids).await {
        Ok(tables) => tables,
        Err(error) => return (postgres::precheck::refused(NAME, &error), Vec::new()),
    };
    let (mut wrong, mut schemas) = (Vec::new(), Vec::new());
    for table in tables {
        let Some(object) = selection.selected(&table.schema, &table.name) else { continue };
        let partitions = task.objects[object].partitions.unwrap_or(task.sink.partitions);
        let table = as_captured(table, task.source.replica_identity);
        let missing = plan.missing_columns(object, &table);
        if !missing.is_empty() {
            let (schema, name, missing) = (&table.schema, &table.name, missing.join("`, `"));
            wrong
                .push(format!("{schema}.{name}: objects[{object}].columns: no column `{missing}`"));
        }
        match TablePlan::new(table.into(), plan, object, partitions, task.lanes.0) {
            Ok(plan) => {
                let own = plan.schemas().into_iter();
                schemas.extend(own.flat_map(|it| it.key.iter().chain([&it.value]).cloned()));
                match condition(session, &plan).await {
                    Ok(refused) => wrong.extend(refused),
                    Err(error) => return (postgres::precheck::refused(NAME, &error), schemas),
                }
            }
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() {
        return (Item::pass(NAME, "every table can be written as the spec asks"), schemas);
    }
    let more = wrong.len().saturating_sub(WRONG_SHOWN);
    wrong.truncate(WRONG_SHOWN);
    if 0 < more {
        wrong.push(format!("and {more} more"));
    }
    let remedy = "correct the object of the spec, or the table";
    (Item::fail(NAME, wrong.join("\n"), remedy), schemas)
}

/// What the server has against the condition of `where`, which is judged here.
async fn condition(session: &Session, plan: &TablePlan) -> Result<Option<String>, postgres::Error> {
    let Some(condition) = plan.condition() else { return Ok(None) };
    let table = plan.table();
    let columns: Vec<&str> = plan.collated().collect();
    let found = session.condition_problem(&table.schema, &table.name, condition, &columns).await?;
    let place =
        |text| format!("{}.{}: objects[{}].where: {text}", table.schema, table.name, plan.object());
    Ok(found.map(place))
}

/// What becomes of conditions that the publication is to have; nothing where none is.
fn publication_filters(task: &config::Task, version: u32) -> Option<Item> {
    const NAME: &str = "source.publication_filters";
    if !task.objects.iter().any(|it| it.publication_filter) {
        return None;
    }
    if version < postgres::publication::NARROWED_SINCE {
        let seen =
            "publications have row filters from PostgreSQL 15 on: conditions are judged here only";
        return Some(Item::warning(
            NAME,
            seen,
            "leave out `publication_filter`, or upgrade the server",
        ));
    }
    let seen = "the publication leaves rows out, too; while it does, the server refuses to drop a column that a condition names, or \
                to change its type";
    Some(Item::pass(NAME, seen))
}

/// Whether the key of the masks is there; nothing where none is needed.
fn mask_key(task: &config::Task, folder: &Path) -> Option<Item> {
    const NAME: &str = "mask-key";
    match crate::planner::mask_key(task, folder) {
        Ok(None) => None,
        Ok(Some(_)) => Some(Item::pass(NAME, "the key of the masks is there")),
        Err(failure) => {
            Some(Item::fail(NAME, failure.cause, "set `mask_key` to a secret of 16 bytes or more"))
        }
    }
}

/// Whether tables keep apart in Kafka that are apart in the database.
fn apart<'a>(
    task: &config::Task,
    selection: &Selection,
    plan: &TaskPlan,
    tables: impl Iterator<Item = (&'a str, &'a str)>,
) -> Item {
    const NAME: &str = "objects.topics";
    let mut pairs = Vec::new();
    let mut shared = BTreeSet::new();
    for (schema, table) in tables {
        let Some(object) = selection.selected(schema, table) else { continue };
        // A name that is no topic is reported by `objects.plan`.
        let Ok(topic) = plan.topic(object, schema, table) else { continue };
        let pattern = task.objects[object].topic.as_ref().unwrap_or(&task.sink.topic);
        if !(pattern.contains("{schema}") && pattern.contains("{table}")) {
            // Whoever leaves a name out wants several tables in one topic.
            shared.insert(topic.clone());
        }
        pairs.push((format!("{schema}.{table}").into_boxed_str(), topic));
    }
    // Each partition has one owner (delivery-protocol.md, I7).
    let is_shared = |topic: &str| task.source.streams < 2 && shared.contains(topic);
    let wrong: Vec<String> = naming::collisions(&pairs)
        .into_iter()
        .filter_map(|collision| match collision {
            Collision::SameTopic { topic, .. } if is_shared(&topic) => None,
            Collision::SameTopic { topic, tables } => {
                Some(format!("tables {} would all write to topic `{topic}`", tables.join(", ")))
            }
            Collision::MetricNames { topics } => Some(format!(
                "brokers refuse to make more than one of the topics {}, which differ in `.` and `_` only",
                topics.join(", ")
            )),
        })
        .take(WRONG_SHOWN)
        .collect();
    if wrong.is_empty() {
        return Item::pass(NAME, "no two tables get in each other's way");
    }
    let remedy = "give the tables topics of their own: `topic` in an object for each";
    Item::fail(NAME, wrong.join("\n"), remedy)
}

/// Topics that the tables would need, which have so many bytes. Two tables may share one: the first decides
/// its partitions.
fn topics<'a>(
    task: &config::Task,
    selection: &Selection,
    plan: &TaskPlan,
    tables: impl Iterator<Item = (&'a str, &'a str, u64)>,
) -> Vec<WantedTopic> {
    let mut wanted: BTreeMap<String, WantedTopic> = BTreeMap::new();
    for (schema, table, bytes) in tables {
        let Some(object) = selection.selected(schema, table) else { continue };
        // A name that is no topic is reported by `objects.plan`.
        let Ok(name) = plan.topic(object, schema, table) else { continue };
        let partitions = task.objects[object].partitions.unwrap_or(task.sink.partitions);
        let name = name.into_string();
        let topic = || WantedTopic { name: name.clone(), partitions, bytes: 0 };
        let topic = wanted.entry(name.clone()).or_insert_with(topic);
        topic.bytes = topic.bytes.saturating_add(bytes);
        if !task.sync.tells_definitions(task.source.ddl) {
            continue;
        }
        if let Some(Chosen { topic, is_ddl_topic: true, .. }) = definition(plan, schema, table) {
            let name = topic.into_string();
            let topic = WantedTopic { name: name.clone(), partitions: 1, bytes: 0 };
            wanted.entry(name).or_insert(topic);
        }
    }
    wanted.into_values().collect()
}

/// Where the definition of a table goes.
fn definition(plan: &TaskPlan, schema: &str, table: &str) -> Option<Chosen> {
    let changed = serde_json::json!([[schema, table]]).to_string();
    plan.choose(&statement::inferred(&changed, 0)?).ok().flatten()
}

/// What the tables need of the sink.
struct Wanted {
    topics: Vec<WantedTopic>,
    schemas: Vec<Draft>,
    letters: Option<NewTopic>,
}

type Reached = tokio::task::JoinHandle<Result<(), Box<Item>>>;

/// Begins to ask the brokers whether they are there. Settings that cannot be used are told by [`sink`].
fn reach(task: &config::Task, folder: &Path) -> Option<Reached> {
    let settings = kafka::settings::Settings::new(task, folder).ok()?;
    Some(tokio::task::spawn_blocking(move || kafka::precheck::reach(&settings)))
}

async fn sink(
    task: &config::Task,
    folder: &Path,
    connectivity: bool,
    wanted: Wanted,
    reached: Option<Reached>,
) -> Vec<Item> {
    let Wanted { topics, schemas, letters } = wanted;
    let ended = |error: tokio::task::JoinError| {
        let seen = format!("the check of the sink ended early: {error}");
        Item::fail("sink.check", seen, "run it again with --log-level debug")
    };
    let reached = match reached {
        None => Ok(()),
        Some(reached) => match reached.await {
            Ok(reached) => reached,
            Err(error) => return vec![ended(error)],
        },
    };
    let is_there = reached.is_ok();
    let (task, folder) = (task.clone(), folder.to_owned());
    let check = move || {
        let fail = |error: String| vec![Item::fail("sink.settings", error, "correct the setting")];
        let settings = match kafka::settings::Settings::new(&task, &folder) {
            Ok(settings) => settings,
            Err(error) => return fail(error.to_string()),
        };
        let names = match Names::new(&task.sink.state_prefix, &task.task) {
            Ok(names) => names,
            Err(error) => return fail(error.to_string()),
        };
        let mut items = Vec::new();
        if connectivity {
            items.extend(kafka::precheck::connectivity(&settings));
        }
        items.extend(kafka::precheck::check(&settings, reached, &task, &names, &topics));
        items.extend(kafka::precheck::schemas(&settings, &schemas));
        if let Some(letters) = letters.as_ref().filter(|_| is_there) {
            items.push(kafka::precheck::letters(&settings, letters, &topics, task.sync.schema));
        }
        items
    };
    tokio::task::spawn_blocking(check).await.unwrap_or_else(|error| vec![ended(error)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    #[track_caller]
    fn check(source: &str, sink: &str, expected: &[&str]) {
        let text = format!(
            "version: 1\ntask: t\nsource: {{hosts: [h], database: d, user: u, {source}}}\n\
             sink: {{brokers: [b], {sink}}}\nobjects: [{{table: \"*.*\"}}]\n"
        );
        let items = format(&config::Task::parse(&text).expect("a spec"));
        let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, expected, "{sink}");
    }

    fn gave_up() -> Result<(), Unfit> {
        Err(Unfit::GaveUp(Outcome::Failed { cause: "the database is away".into() }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_precheck_that_was_given_up_is_begun_again_for_days() {
        let (progress, tries) = (Progress::default(), std::cell::Cell::new(0));
        let attempt = async || {
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                return gave_up();
            }
            let told = progress.trouble().expect("what is waited for is told");
            assert!(told.cause.contains("begun again after a pause"), "{}", told.cause);
            assert!(told.cause.ends_with("the database is away"), "{}", told.cause);
            if tries.get() == 2 { gave_up() } else { Ok(()) }
        };
        assert_eq!(recovered(attempt, &progress, config::Retry::default).await, Ok(()));
        assert_eq!(tries.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_precheck_is_not_begun_again_by_itself_where_a_person_is_wanted_or_the_time_is_over()
    {
        let (progress, tries) = (Progress::default(), std::cell::Cell::new(0));
        let unfit = async || {
            tries.set(tries.get() + 1);
            Err(Unfit::Items(Vec::new()))
        };
        let ended = recovered(unfit, &progress, config::Retry::default).await;
        assert_eq!((ended, tries.get()), (Err(Unfit::Items(Vec::new())), 1));
        let mut retry = config::Retry::default();
        retry.recover_for.0 = std::time::Duration::ZERO;
        assert_eq!(recovered(async || gave_up(), &progress, || retry).await, gave_up());
    }

    #[test]
    fn what_readers_of_a_format_would_take_amiss_is_named() {
        let keep = "replica_identity: keep";
        check("", "format: canal-json", &[]);
        check(keep, "format: canal-json", &["format.unchanged-values"]);
        check(keep, "format: maxwell-json", &["format.unchanged-values"]);
        check(keep, "format: shareplex-json", &[]);
        check(keep, "format: debezium-json", &[]);
        let compact = |more: &str| format!("topic_config: {{cleanup.policy: compact}}, {more}");
        check("", &compact("format: shareplex-json"), &["format.key"]);
        check("", &compact("format: maxwell-json"), &[]);
        let keyed = "format: canal-json, format_options: {message_key: columns}";
        check("", &compact(keyed), &[]);
        let none = "format: maxwell-json, format_options: {message_key: none}";
        check("", &compact(none), &["format.key"]);
        check("", &compact("oversize: chunk"), &["sink.oversize"]);
        check("", "oversize: chunk", &[]);
    }

    #[test]
    fn tables_that_would_meet_in_one_topic_are_named() {
        let of = |sink: &str, object: &str, tables: &[(&str, &str)]| {
            let text = format!(
                "version: 1\ntask: t\nsource: {{hosts: [h], database: d, user: u}}\n\
                 sink: {{brokers: [b], {sink}}}\nobjects: [{{table: \"*.*\", {object}}}]\n"
            );
            let task = config::Task::parse(&text).expect("a spec");
            let (selection, plan) = spec(&task).expect("planned");
            apart(&task, &selection, &plan, tables.iter().copied())
        };
        let three = [("a", "b"), ("a", "ü"), ("a", "_x00FC_")];
        assert_eq!(of("", "", &three).state, State::Pass);
        let met = of("", "", &[("a.b", "c"), ("a", "b.c")]);
        assert_eq!(met.state, State::Fail);
        assert!(met.seen.contains("a.b.c"), "{}", met.seen);
        let metrics = of("topic: '{schema}-{table}'", "", &[("a", "b_c"), ("a", "b.c")]);
        assert!(metrics.seen.contains("`.` and `_`"), "{}", metrics.seen);
        assert_eq!(of("", "topic: all", &[("a", "b"), ("a", "c")]).state, State::Pass);
    }

    #[tokio::test]
    async fn a_check_of_the_sink_that_ends_early_is_told() {
        let wanted = || Wanted { topics: Vec::new(), schemas: Vec::new(), letters: None };
        let text = "version: 1\ntask: t\nsource: {hosts: [h], database: d, user: u}\n\
             sink: {brokers: [\"127.0.0.1:1\"]}\nobjects: [{table: \"*.*\"}]\n";
        let task = config::Task::parse(text).expect("a spec");
        let folder = Path::new(".");
        let ended = tokio::spawn(std::future::pending());
        ended.abort();
        let items = sink(&task, folder, false, wanted(), Some(ended)).await;
        let [item] = &items[..] else { panic!("one item: {items:#?}") };
        assert_eq!((item.name.as_str(), item.state), ("sink.check", State::Fail));
        assert!(item.seen.contains("ended early") && !item.may_pass, "{item:#?}");
        // One that comes to its end says what it has met.
        let away = Box::new(Item::fail("sink.connection", "away", "start it"));
        let reached = tokio::spawn(async { Err(away) });
        let items = sink(&task, folder, false, wanted(), Some(reached)).await;
        assert!(items.iter().any(|it| it.name == "sink.connection"), "{items:#?}");
        assert!(items.iter().all(|it| it.name != "sink.check"), "{items:#?}");
    }

    #[test]
    fn the_topic_of_definitions_is_looked_at_as_those_of_rows_are() {
        let of = |sync: &str| {
            let text = format!(
                "version: 1\ntask: t\nsource: {{hosts: [h], database: d, user: u}}\n\
                 sink: {{brokers: [b], topic: \"{{task}}.{{table}}\", ddl_topic: \"{{task}}.told\"}}\n\
                 sync: {{{sync}}}\nobjects: [{{table: \"*.*\"}}]\n"
            );
            let task = config::Task::parse(&text).expect("a spec");
            let (selection, plan) = spec(&task).expect("planned");
            let wanted = topics(&task, &selection, &plan, [("s", "a", 7)].into_iter());
            wanted.into_iter().map(|it| (it.name, it.partitions, it.bytes)).collect::<Vec<_>>()
        };
        let rows = ("t.a".to_owned(), 4, 7);
        assert_eq!(of("definitions: true"), [rows.clone(), ("t.told".to_owned(), 1, 0)]);
        assert_eq!(of("definitions: false"), [rows]);
    }
}
