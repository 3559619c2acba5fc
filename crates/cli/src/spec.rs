//! A task spec on its way into a command: everything that is wrong with it, at once.

use crate::exit::Exit;
use crate::output::Output;
use crate::report;
use config::{LoadError, Places, Problem, Problems, Secret, Task};
use std::path::{Path, PathBuf};
use tracing::warn;

/// A spec that can be carried out.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) task: Task,
    /// What its paths are relative to.
    pub(crate) folder: PathBuf,
}

/// Reads a spec. What is wrong with it is reported, and an exit code is what is left.
///
/// # Errors
/// When a command cannot go on with it.
pub(crate) fn load(path: &Path, output: Output) -> Result<Spec, Exit> {
    let refuse = |error: &LoadError| {
        report::error(output, &error.to_string(), "");
        Exit::Wrong
    };
    let text = config::load::read(path).map_err(|error| refuse(&error))?;
    let refuse = |problems: &[Problem]| {
        report::problems(output, path, problems);
        Exit::Wrong
    };
    let task = Task::parse(&text).map_err(|Problems(problems)| refuse(&problems))?;
    let folder = folder(path);
    let mut problems = task.unsupported();
    problems.extend(task.needs_cluster());
    problems.extend(refused_properties(&task));
    problems.extend(missing_secrets(&task, &folder));
    if problems.is_empty() {
        return Ok(Spec { task, folder });
    }
    let places = Places::of(&text);
    for problem in &mut problems {
        problem.line = places.line(&problem.path);
    }
    problems.sort_by_key(|problem| problem.line);
    Err(refuse(&problems))
}

pub(crate) fn warn_of_literals(settings: &[String]) {
    if !settings.is_empty() {
        warn!(
            settings = settings.join(", "),
            "secrets stand in the spec itself, where whoever reads it sees them; refer to them \
             as ${{env:NAME}} or ${{file:PATH}}"
        );
    }
}

pub(crate) fn warn_of_exposed(files: &[String]) {
    if !files.is_empty() {
        warn!(
            files = files.join(", "),
            "secret files can be read by everybody on this machine; chmod 600 them"
        );
    }
}

/// What the paths of a spec are relative to.
pub(crate) fn folder(spec: &Path) -> PathBuf {
    match spec.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Properties of Kafka's client that a task may not set.
pub(crate) fn refused_properties(task: &Task) -> impl Iterator<Item = Problem> {
    use kafka::properties::RefusedProperty;
    kafka::properties::check(&task.sink.properties).into_iter().map(|refused| match refused {
        RefusedProperty::Refused { name, reason } => {
            problem(format!("sink.properties.{name}"), format!("is refused: {reason}"))
        }
        RefusedProperty::Unknown { name, nearest } => problem(
            format!("sink.properties.{name}"),
            format!("is no property that a task may set; did you mean `{nearest}`?"),
        ),
    })
}

/// Secrets that the spec refers to and that are not there.
fn missing_secrets(task: &Task, folder: &Path) -> Vec<Problem> {
    let missing = |(path, secret): (String, &Secret)| {
        Some(problem(path, secret.resolve(folder).err()?.to_string()))
    };
    task.secrets().filter_map(missing).collect()
}

fn problem(path: String, text: String) -> Problem {
    Problem { line: 0, path, text }
}
