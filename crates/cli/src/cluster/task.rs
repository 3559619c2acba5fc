//! `distributary task`, but for `apply` and the waiting after a start.

use super::reach::Reach;
use super::view::{self, Task, TaskChanged};
use super::watch::{Ended, Next, Screen, now_unix_ms, watch};
use super::{apply, begin, people, refusal, settings};
use crate::arguments::{Release, Reseed, Snapshot, TaskStatus, TaskVerb, Tasks};
use crate::exit::Exit;
use crate::output::{Output, OutputFormat};
use crate::{report, system};
use rpc::{Error, v1};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

pub(crate) fn tasks(arguments: &Tasks, output: Output) -> io::Result<Exit> {
    let reach = match Reach::new(&arguments.access) {
        Ok(reach) => reach,
        Err(error) => return Ok(refusal::say(output, &error)),
    };
    system::block_on(carry_out(&arguments.verb, &reach, output))
}

async fn carry_out(verb: &TaskVerb, reach: &Reach, output: Output) -> io::Result<Exit> {
    match verb {
        TaskVerb::Apply(arguments) => apply::apply(arguments, reach, output).await,
        TaskVerb::List => list(reach, output).await,
        TaskVerb::Status(arguments) => status(arguments, reach, output).await,
        TaskVerb::History(named) => history(&named.name, reach, output).await,
        TaskVerb::Show(named) => show(&named.name, reach, output).await,
        TaskVerb::Start(arguments) => begin::start(arguments, reach, output).await,
        TaskVerb::Resume(arguments) => begin::resume(arguments, reach, output).await,
        TaskVerb::Restart(arguments) => begin::restart(arguments, reach, output).await,
        TaskVerb::Suspend(named) => {
            let request = v1::SuspendTaskRequest { task: named.name.clone() };
            let answer =
                reach.change(async |admin| admin.suspend_task(request.clone()).await).await;
            changed(answer, "is suspended", output)
        }
        TaskVerb::Snapshot(arguments) => snapshot(arguments, reach, output).await,
        TaskVerb::Reseed(arguments) => reseed(arguments, reach, output).await,
        TaskVerb::Release(arguments) => release(arguments, reach, output).await,
    }
}

async fn list(reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::ListTasksRequest {};
    let reach = reach.toward_leader().await;
    match reach.read(async |admin| admin.list_tasks(request).await).await {
        Ok(answer) => {
            let tasks: Vec<Task> = answer.tasks.into_iter().map(Task::from).collect();
            output.document(&tasks, || people::tasks(&tasks, now_unix_ms()))?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

async fn status(arguments: &TaskStatus, reach: &Reach, output: Output) -> io::Result<Exit> {
    if arguments.watch {
        return watched(&arguments.name, reach, output).await;
    }
    let answer = asked(&arguments.name, &reach.toward_leader().await).await;
    let present = |answer: v1::GetTaskResponse| {
        let task = present(answer.task)?;
        Ok(Task { history: view::history(answer.history), ..task })
    };
    match answer.and_then(present) {
        Ok(task) => {
            output.document(&task, || people::task(&task, now_unix_ms()))?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

async fn asked(name: &str, reach: &Reach) -> Result<v1::GetTaskResponse, Error> {
    let request = v1::GetTaskRequest { task: name.to_owned() };
    reach.read(async |admin| admin.get_task(request.clone()).await).await
}

async fn history(name: &str, reach: &Reach, output: Output) -> io::Result<Exit> {
    match asked(name, &reach.toward_leader().await).await {
        Ok(answer) => {
            let history = view::history(answer.history);
            output.document(&history, || people::history(&history, now_unix_ms()))?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

/// The spec as it was applied; as JSON, what is not there by default.
async fn show(name: &str, reach: &Reach, output: Output) -> io::Result<Exit> {
    let yaml = match asked(name, reach).await {
        Ok(answer) => answer.yaml,
        Err(error) => return Ok(refusal::say(output, &error)),
    };
    match output.format {
        OutputFormat::Text | OutputFormat::Yaml => output.text(&yaml)?,
        OutputFormat::Json => {
            let spec = config::Task::parse(&yaml).map_err(|problems| problems.to_string());
            match spec.and_then(|spec| settings::given(&spec)) {
                Ok(spec) => output.document(&spec, String::new)?,
                Err(reason) => {
                    let cause = format!("the spec of `{name}` cannot be read: {reason}");
                    let error = Error::new(rpc::Code::Unsupported, cause, "");
                    return Ok(refusal::say(output, &error));
                }
            }
        }
    }
    Ok(Exit::Done)
}

async fn watched(name: &str, reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::WatchTaskRequest { task: name.to_owned() };
    let open =
        async |reach: &Reach| reach.read(async |it| it.watch_task(request.clone()).await).await;
    let mut screen = Screen::new(output);
    let ended = watch(reach, output, open, |message: v1::WatchTaskResponse| {
        let Some(task) = message.task.map(Task::from) else { return Ok(Next::More) };
        let next = if task.wanted == "released" { Next::MayEnd } else { Next::More };
        screen.show(task, |task| people::task(task, now_unix_ms()))?;
        Ok(next)
    });
    match ended.await? {
        Ended::Done => Ok(Exit::Done),
        Ended::Refused(error) => Ok(refusal::say(output, &error)),
    }
}

async fn snapshot(arguments: &Snapshot, reach: &Reach, output: Output) -> io::Result<Exit> {
    #[derive(Serialize)]
    struct Ordered<'a> {
        task: &'a str,
        table: &'a str,
        snapshot: &'a str,
    }
    let Snapshot { name, table, condition } = arguments;
    let request = v1::SnapshotTaskRequest {
        task: name.clone(),
        table: table.clone(),
        condition: condition.clone(),
    };
    match reach.change(async |admin| admin.snapshot_task(request.clone()).await).await {
        Ok(answer) => {
            let snapshot = &answer.snapshot;
            output.document(&Ordered { task: name, table, snapshot }, || {
                format!(
                    "task `{name}` reads {table} again; its records carry the snapshot {snapshot}\n"
                )
            })?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

async fn reseed(arguments: &Reseed, reach: &Reach, output: Output) -> io::Result<Exit> {
    let Reseed { name, accept_gap } = arguments;
    let request = v1::ReseedTaskRequest { task: name.clone(), accept_gap: *accept_gap };
    let answer = reach.change(async |admin| admin.reseed_task(request.clone()).await).await;
    let how = if *accept_gap { "goes on behind the gap" } else { "begins again with a snapshot" };
    changed(answer, how, output)
}

async fn release(arguments: &Release, reach: &Reach, output: Output) -> io::Result<Exit> {
    let name = &arguments.name;
    if !arguments.yes && io::stdin().is_terminal() && !agreed(name)? {
        report::note(output, "nothing was released");
        return Ok(Exit::Failed);
    }
    let request = v1::ReleaseTaskRequest { task: name.clone() };
    let answer = reach.change(async |admin| admin.release_task(request.clone()).await).await;
    changed(answer, "is released", output)
}

/// Asks whoever sits there.
fn agreed(name: &str) -> io::Result<bool> {
    let question = format!(
        "Releasing `{name}` removes its slot, publication, helper objects and internal topics; the \
         data topics stay. Release it? [y/N] "
    );
    let mut stderr = io::stderr().lock();
    stderr.write_all(question.as_bytes())?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// The answer to an order: what became of the task, and what a person should know.
pub(super) fn changed(
    answer: Result<v1::TaskChanged, Error>,
    what: &str,
    output: Output,
) -> io::Result<Exit> {
    match answer.and_then(ordered) {
        Ok(changed) => {
            output.document(&changed, || {
                let notes = changed.notes.iter().map(|note| format!("  {note}\n"));
                format!("task `{}` {what}\n{}", changed.task.name, notes.collect::<String>())
            })?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

pub(super) fn ordered(answer: v1::TaskChanged) -> Result<TaskChanged, Error> {
    Ok(TaskChanged { task: present(answer.task)?, notes: answer.notes })
}

fn present(task: Option<v1::Task>) -> Result<Task, Error> {
    let missing = || Error::new(rpc::Code::Internal, "the answer holds no task", "");
    task.map(Task::from).ok_or_else(missing)
}
