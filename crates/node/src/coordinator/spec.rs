//! Specs as they come over the admin service: what of them is not accepted. Pure.

use crate::state::{self, ClusterState};
use config::connection::{self, Kept, Part};
use config::{Places, Problem, Problems, Secret, Sink, Source, Task};
use record::plan::TaskPlan;
use rpc::Error;

/// A spec is a record of the control topic, which holds up to 1 MB by default.
pub(super) const SPEC_BYTES_MAX: usize = 512 << 10;
/// Where a secret stands, after the part that it belongs to.
const LITERAL: &str = "is a literal secret, which would be stored in Kafka; \
                       give a reference: ${env:DISTRIBUTARY_SECRET_NAME} or ${file:NAME}";

/// A spec that can be kept.
#[derive(Debug)]
pub(super) struct Accepted {
    /// With the settings and the names of its connections.
    pub(super) task: Task,
    /// What workers carry out: it stands alone.
    pub(super) spec: String,
    /// As a person wrote it, where that is something else.
    pub(super) applied: Option<String>,
}

/// Finds a connection among those of a cluster; `changed` comes first.
pub(super) fn among<'a>(
    cluster: &'a ClusterState,
    changed: Option<(&'a str, &'a state::Connection)>,
) -> impl Fn(&str) -> Option<Kept<'a>> {
    move |name| {
        let changed = changed.filter(|(it, _)| *it == name).map(|(_, it)| it);
        let found = changed.or_else(|| cluster.connections.get(name))?;
        Some(Kept { kind: &found.kind, yaml: &found.spec })
    }
}

/// The spec, if this release can carry it out and it holds no secret.
pub(super) fn accept<'a>(
    yaml: &str,
    find: impl Fn(&str) -> Option<Kept<'a>>,
) -> Result<Accepted, Error> {
    refuse(refused_text(yaml))?;
    let connection::Resolved { task, text } =
        connection::resolve(yaml, find).map_err(Error::spec)?;
    let applied = (text != yaml).then(|| yaml.to_owned());
    // Both are in one record.
    if applied.is_some() && SPEC_BYTES_MAX < text.len() + yaml.len() {
        let text = format!("with its connections the spec is larger than {SPEC_BYTES_MAX} bytes");
        refuse(vec![Problem { line: 0, path: String::new(), text }])?;
    }
    let places = Places::of(yaml);
    let secrets = task.literal_secrets();
    let mut found: Vec<_> = secrets.iter().map(|path| literal(path, &places)).collect();
    found.extend(
        task.unsupported()
            .into_iter()
            .chain(task.unsupported_in_cluster())
            .map(|it| Problem { line: places.line(&it.path), ..it }),
    );
    found.sort_by_key(|it| it.line);
    refuse(found)?;
    refuse(unplannable(&task, &places).into_iter().collect())?;
    Ok(Accepted { task, spec: text, applied })
}

/// What nobody could carry out for any table: a condition, transform or pattern that cannot be read.
fn unplannable(task: &Task, places: &Places) -> Option<Problem> {
    let error = TaskPlan::new(task, &task.source.database).err()?.to_string();
    let of_object = error.split_once(": ").filter(|(path, _)| path.starts_with("objects["));
    let (path, text) = of_object.unwrap_or(("", &error));
    Some(Problem { line: places.line(path), path: path.into(), text: text.into() })
}

/// Whether the settings of a named connection can be kept. That some are missing is no fault: the task
/// has them.
pub(super) fn accept_connection(kind: &str, yaml: &str) -> Result<(), Error> {
    refuse(refused_text(yaml))?;
    let places = Places::of(yaml);
    let refused =
        |(path, secret): (&str, &Secret)| secret.is_literal().then(|| literal(path, &places));
    let mut found: Vec<Problem> = match Part::parse(kind) {
        Some(Part::Source) => {
            let source = Source::parse(yaml).map_err(Error::spec)?;
            let found = source.secrets().filter_map(refused);
            found.chain(connection::refused(source.connection.as_deref())).collect()
        }
        Some(Part::Sink) => {
            let sink = Sink::parse(yaml).map_err(Error::spec)?;
            let found = sink.secrets().filter_map(|(path, secret)| refused((&path, secret)));
            found.chain(connection::refused(sink.connection.as_deref())).collect()
        }
        None => {
            let text = format!("`{kind}` is not allowed (allowed: source, sink)");
            return refuse(vec![Problem { line: 0, path: "kind".into(), text }]);
        }
    };
    found.sort_by_key(|it| it.line);
    refuse(found)
}

fn refuse(found: Vec<Problem>) -> Result<(), Error> {
    if found.is_empty() { Ok(()) } else { Err(Error::spec(Problems(found))) }
}

fn literal(path: &str, places: &Places) -> Problem {
    Problem { line: places.line(path), path: path.into(), text: LITERAL.into() }
}

/// What is wrong with a text, whatever it says.
fn refused_text(yaml: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut whole = |line, text: String| found.push(Problem { line, path: String::new(), text });
    if SPEC_BYTES_MAX < yaml.len() {
        whole(0, format!("the spec is larger than {SPEC_BYTES_MAX} bytes"));
    }
    if let Some(at) = yaml.lines().position(|line| line.contains("PRIVATE KEY-----")) {
        let text = "a private key, which would be stored in Kafka; give the name of a file that is \
                    below the workers' `secrets_dir`";
        whole(at + 1, text.into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "version: 1
task: shop
source:
  hosts: [db:5432]
  database: shop
  user: shop
  password: ${env:DISTRIBUTARY_SECRET_SHOP}
sink:
  brokers: [k:9092]
objects: [{table: public.*}]
";

    fn problems(error: &Error) -> Vec<(usize, &str)> {
        assert_eq!(error.code, rpc::Code::Spec);
        error.spec.iter().map(|it| (it.line, it.path.as_str())).collect()
    }

    fn accept(yaml: &str) -> Result<Accepted, Error> {
        super::accept(yaml, |_| None)
    }

    #[test]
    fn a_spec_with_references_is_accepted() {
        assert_eq!(accept(SPEC).expect("accepted").task.task, "shop");
    }

    #[test]
    fn secrets_are_refused_with_their_place_and_never_shown() {
        let error = accept(&SPEC.replace("${env:DISTRIBUTARY_SECRET_SHOP}", "hunter2"));
        let error = error.expect_err("refused");
        assert_eq!(problems(&error), [(7, "source.password")]);
        assert!(!error.to_string().contains("hunter2"));
        let key = format!("{SPEC}# -----BEGIN PRIVATE KEY-----\n");
        assert_eq!(problems(&accept(&key).expect_err("refused")), [(11, "")]);
    }

    #[test]
    fn what_this_release_does_not_carry_out_is_refused() {
        let switch = SPEC.replace("sink:\n", "sink:\n  new_partitions: switch\n");
        let error = accept(&switch).expect_err("refused");
        assert_eq!(problems(&error), [(9, "sink.new_partitions")]);
    }

    #[test]
    fn what_no_table_could_be_captured_by_is_refused() {
        for (setting, path) in [
            ("where: \"id >\"", "objects[0].where"),
            ("transform: \"drop if\"", "objects[0].transform"),
        ] {
            let object = format!("{{table: public.*, {setting}}}");
            let error = accept(&SPEC.replace("{table: public.*}", &object)).expect_err(setting);
            assert_eq!(problems(&error), [(10, path)], "{error}");
        }
    }

    #[test]
    fn a_spec_whose_connection_is_not_there_is_refused() {
        let connection = SPEC.replace("  hosts: [db:5432]", "  connection: main");
        let error = accept(&connection).expect_err("refused");
        assert_eq!(problems(&error), [(4, "source.connection")]);
    }

    #[test]
    fn connections_are_kept_in_part_but_not_with_what_is_wrong_or_secret() {
        assert_eq!(accept_connection("source", "hosts: [db:5432]\nuser: u\n"), Ok(()));
        assert_eq!(accept_connection("sink", "{brokers: [k:9092]}"), Ok(()));
        let refused = |kind: &str, yaml: &str| accept_connection(kind, yaml).expect_err("refused");
        assert_eq!(problems(&refused("source", "user: u\npassword: x\n")), [(2, "password")]);
        let sink = "brokers: [k:9092]\nsecurity:\n  password: x\n";
        assert_eq!(problems(&refused("sink", sink)), [(3, "security.password")]);
        assert_eq!(problems(&refused("sink", "brokerz: [k:9092]")), [(1, "brokerz")]);
        assert_eq!(problems(&refused("table", "a: b")), [(0, "kind")]);
        assert_eq!(problems(&refused("sink", "connection: b")), [(0, "connection")]);
    }
}
