//! Named connections: settings that a cluster keeps once, for all specs that name them. Pure.
//!
//! A part of a spec (`source`, `sink`) that has the key `connection` begins with the settings of that
//! connection; each key of its own takes the place of the connection's, whole.

use crate::check::problem;
use crate::{Problem, Problems, Task, text};
use serde_json::{Map, Value};

/// The part of a spec that a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    Source,
    Sink,
}

impl Part {
    pub const ALL: [Self; 2] = [Self::Source, Self::Sink];

    /// As the spec and the contract call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }

    /// `None`: there is no such part.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// A connection as it is kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The word of its part.
    pub kind: &'a str,
    pub yaml: &'a str,
}

/// A spec with the settings of its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// It still tells the names of its connections.
    pub task: Task,
    /// A spec that stands alone: the same without these names.
    pub text: String,
}

impl Task {
    /// Names of connections, by the part that names them.
    pub fn connections(&self) -> impl Iterator<Item = (Part, &str)> {
        let named = |it: &'_ Part| match it {
            Part::Source => self.source.connection.as_deref(),
            Part::Sink => self.sink.connection.as_deref(),
        };
        Part::ALL.into_iter().filter_map(move |part| Some((part, named(&part)?)))
    }

    /// This spec, which stands alone, with the names of the connections that `applied` had.
    #[must_use]
    pub fn named_as(mut self, applied: &Self) -> Self {
        self.source.connection.clone_from(&applied.source.connection);
        self.sink.connection.clone_from(&applied.sink.connection);
        self
    }

    /// What whoever has no cluster to ask says of a spec that names connections.
    #[must_use]
    pub fn needs_cluster(&self) -> Vec<Problem> {
        let told = |(part, name): (Part, &str)| {
            let instead = match part {
                Part::Source => "source.hosts",
                Part::Sink => "sink.brokers",
            };
            let text = format!(
                "`{name}` is kept by a cluster, which only `task apply` asks; give `{instead}` here"
            );
            problem(&format!("{}.connection", part.word()), text)
        };
        self.connections().map(told).collect()
    }
}

/// Reads and checks a spec together with the connections that it names.
///
/// # Errors
/// Everything that is wrong with it, each with line and path; of a setting that comes from a connection, the line of
/// the part.
pub fn resolve<'a>(
    spec: &str,
    find: impl Fn(&str) -> Option<Kept<'a>>,
) -> Result<Resolved, Problems> {
    let applied = Task::parse(spec)?;
    if applied.connections().next().is_none() {
        return Ok(Resolved { task: applied, text: spec.to_owned() });
    }
    let (mut value, places) = text::load(spec).map_err(|it| Problems(vec![it]))?;
    let mut found = Vec::new();
    for (part, name) in applied.connections() {
        match settings(part, name, find(name)) {
            Ok(settings) => fill(&mut value, part, settings),
            Err(text) => found.push(problem(&format!("{}.connection", part.word()), text)),
        }
    }
    if !found.is_empty() {
        found.iter_mut().for_each(|it| it.line = places.line(&it.path));
        return Err(Problems(found));
    }
    let text = value.to_string();
    let task: Task = text::check(value, &places, Task::problems)?;
    Ok(Resolved { task: task.named_as(&applied), text })
}

/// What is wrong with settings that are to be kept as a connection, beyond what their types say. `connection`: the one
/// that they name.
#[must_use]
pub fn refused(connection: Option<&str>) -> Option<Problem> {
    connection.map(|_| problem("connection", "a connection cannot name another one"))
}

fn settings(part: Part, name: &str, kept: Option<Kept<'_>>) -> Result<Map<String, Value>, String> {
    let Some(Kept { kind, yaml }) = kept else {
        return Err(format!("there is no connection `{name}`; see `distributary connection list`"));
    };
    if kind != part.word() {
        return Err(format!("connection `{name}` is of a {kind}, not of a {}", part.word()));
    }
    let unreadable = || format!("connection `{name}` cannot be read; set it again");
    let (value, _) = text::load(yaml).map_err(|_| unreadable())?;
    let Value::Object(settings) = value else { return Err(unreadable()) };
    Ok(settings)
}

/// Puts settings where the part has none of its own.
fn fill(spec: &mut Value, part: Part, settings: Map<String, Value>) {
    let Some(own) = spec.get_mut(part.word()).and_then(Value::as_object_mut) else { return };
    own.remove("connection");
    for (key, value) in settings {
        own.entry(key).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "version: 1
task: shop
source:
  connection: main
  database: shop
sink:
  connection: kafka-a
  compression: none
objects: [{table: public.*}]
";
    const MAIN: &str = "hosts: [db:5432]\nuser: u\ndatabase: other\npassword: ${env:P}\n";
    const KAFKA: &str = "brokers: [k:9092]\ncompression: zstd\nacks: all\n";

    fn resolved(spec: &str, main: &str, kafka: &str) -> Result<Resolved, String> {
        let find = |name: &str| match name {
            "main" => Some(Kept { kind: "source", yaml: main }),
            "kafka-a" => Some(Kept { kind: "sink", yaml: kafka }),
            _ => None,
        };
        resolve(spec, find).map_err(|it| it.to_string())
    }

    #[test]
    fn a_part_has_the_settings_of_its_connection_but_for_its_own() {
        let Resolved { task, text } = resolved(SPEC, MAIN, KAFKA).expect("resolved");
        assert_eq!(task.source.hosts, ["db:5432"]);
        assert_eq!((&*task.source.database, &*task.source.user), ("shop", "u"));
        assert_eq!(task.sink.compression, crate::Compression::None);
        assert_eq!(task.connections().map(|it| it.1).collect::<Vec<_>>(), ["main", "kafka-a"]);
        let alone = Task::parse(&text).expect("it stands alone");
        assert_eq!(alone.connections().count(), 0);
        assert_eq!(alone.named_as(&task), task);
    }

    #[test]
    fn a_spec_without_connections_stays_as_it_is() {
        let spec = SPEC
            .replace("connection: main", "hosts: [db:1]\n  user: u")
            .replace("connection: kafka-a", "brokers: [k:1]");
        assert_eq!(resolved(&spec, "", "").expect("resolved").text, spec);
    }

    #[test]
    fn what_is_wrong_has_its_line_in_the_spec() {
        let other = SPEC.replace("connection: main", "connection: kafka-a");
        let said = resolved(&other, MAIN, KAFKA).expect_err("refused");
        assert!(
            said.contains("line 4: `source.connection`: connection `kafka-a` is of a sink"),
            "{said}"
        );
        let said = resolved(&SPEC.replace("main", "spare"), MAIN, KAFKA).expect_err("refused");
        assert!(
            said.contains("line 4: `source.connection`: there is no connection `spare`"),
            "{said}"
        );
        let said = resolved(SPEC, "hosts: [db:5432]", KAFKA).expect_err("refused");
        assert_eq!(said, "line 3: `source.user`: is required");
        let both = SPEC.replace("connection: main", "connection: main\n  hosts: [db:1]");
        let said = resolved(&both, MAIN, KAFKA).expect_err("refused");
        assert!(said.contains("not both"), "{said}");
        let acks = KAFKA.replace("all", "1");
        let said = resolved(SPEC, MAIN, &acks).expect_err("refused");
        assert!(said.starts_with("line 6: `sink.acks`: exactly-once needs `all`"), "{said}");
    }

    #[test]
    fn without_a_cluster_the_names_are_told() {
        let found = Task::parse(SPEC).expect("a spec").needs_cluster();
        let paths: Vec<_> = found.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, ["source.connection", "sink.connection"]);
    }
}
