//! `distributary task apply`: what a spec would do is shown, and then done.

use super::reach::Reach;
use super::view::Plan;
use super::{people, refusal, settings};
use crate::arguments::Apply;
use crate::exit::Exit;
use crate::output::{Output, OutputFormat};
use crate::{report, spec};
use config::{Places, Problem, Problems, Task};
use rpc::{Code, Error, v1};
use serde::Serialize;
use std::io;
use std::path::Path;

/// What was or would be done.
#[derive(Debug, Serialize)]
struct Applied<'a> {
    dry_run: bool,
    /// The revision that was made; null after a dry run and where nothing changes.
    revision: Option<u64>,
    plan: Plan,
    /// With a dry run: what would be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Request<'a>>,
}

#[derive(Debug, Serialize)]
struct Request<'a> {
    yaml: &'a str,
}

pub(super) async fn apply(apply: &Apply, reach: &Reach, output: Output) -> io::Result<Exit> {
    let (text, task) = match load(&apply.spec, output) {
        Ok(loaded) => loaded,
        Err(exit) => return Ok(exit),
    };
    let yaml = match sent(&task, &text) {
        Ok(yaml) => yaml,
        Err(error) => return Ok(refusal::say(output, &error)),
    };
    let refuse = |mut error: Error| {
        // The cluster counts the lines of what was sent.
        let places = Places::of(&text);
        error.spec.iter_mut().for_each(|problem| problem.line = places.line(&problem.path));
        refusal::say_of_spec(output, &apply.spec, &error)
    };
    let keys = settings::keys(&task);
    if !keys.is_empty() {
        let note = "private keys are not sent; each worker needs them, below its `secrets_dir`";
        report::note(output, &format!("{note}: {}", keys.join(", ")));
    }
    let plan = match ask(reach, &yaml, true).await {
        Ok((plan, _)) => plan,
        Err(error) => return Ok(refuse(error)),
    };
    if apply.dry_run || plan.unchanged {
        let request = apply.dry_run.then_some(Request { yaml: &yaml });
        let applied = Applied { dry_run: apply.dry_run, revision: None, plan, request };
        let dry = if apply.dry_run { "dry run: nothing was changed\n" } else { "" };
        output.document(&applied, || people::plan(&applied.plan) + dry)?;
        return Ok(Exit::Done);
    }
    let text_wanted = output.format == OutputFormat::Text;
    if text_wanted {
        output.document(&plan, || people::plan(&plan))?;
    }
    let (done, revision) = match ask(reach, &yaml, false).await {
        Ok(done) => done,
        Err(error) => return Ok(refuse(error)),
    };
    // Somebody else may have changed the task in between.
    let again = if done == plan { String::new() } else { people::plan(&done) };
    let start = match done.creates {
        true => format!("to start it  distributary task start {}\n", done.task),
        false => String::new(),
    };
    let applied = Applied { dry_run: false, revision: Some(revision), plan: done, request: None };
    output.document(&applied, || {
        format!("{again}applied as revision {revision} of `{}`\n{start}", applied.plan.task)
    })?;
    Ok(Exit::Done)
}

async fn ask(reach: &Reach, yaml: &str, dry_run: bool) -> Result<(Plan, u64), Error> {
    let request = v1::ApplyTaskRequest { yaml: yaml.to_owned(), dry_run };
    let answer = reach.change(async |admin| admin.apply_task(request.clone()).await).await?;
    let missing = || Error::new(Code::Internal, "the answer holds no plan", "");
    Ok((answer.plan.map(Plan::from).ok_or_else(missing)?, answer.revision))
}

/// The spec, if it may leave this machine. What is wrong with it is reported.
fn load(path: &Path, output: Output) -> Result<(String, Task), Exit> {
    let text = config::load::read(path).map_err(|error| {
        report::error(output, &error.to_string(), "");
        Exit::Wrong
    })?;
    let refuse = |problems: &[Problem]| {
        report::problems(output, path, problems);
        Exit::Wrong
    };
    let mut task = Task::parse(&text).map_err(|Problems(problems)| refuse(&problems))?;
    let mut problems = settings::refused_in_task(&task, &text);
    let places = Places::of(&text);
    problems.extend(
        spec::refused_properties(&task)
            .map(|problem| Problem { line: places.line(&problem.path), ..problem }),
    );
    problems.extend(settings::inline(task.certificates_mut(), &spec::folder(path), &text));
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok((text, task)) } else { Err(refuse(&problems)) }
}

/// The spec as it is sent.
fn sent(task: &Task, text: &str) -> Result<String, Error> {
    let broken = |reason: &str| {
        let cause = format!("the spec cannot be written for sending: {reason}");
        Error::new(Code::Internal, cause, "report this as a fault of distributary, with the spec")
    };
    let yaml = settings::yaml_of_task(task, text).map_err(|reason| broken(&reason))?;
    match Task::parse(&yaml) {
        Ok(again) if again == *task => Ok(yaml),
        Ok(_) => Err(broken("it would mean something else")),
        Err(problems) => Err(broken(&problems.to_string())),
    }
}
