//! `distributary task start`, `resume` and `restart`, and the waiting for what comes of it.

use super::reach::Reach;
use super::task::{changed, ordered};
use super::view::Task;
use super::watch::{Ended, Next, watch};
use super::{people, refusal};
use crate::arguments::Begin;
use crate::exit::Exit;
use crate::output::Output;
use crate::report;
use rpc::{Error, v1};
use std::io;

pub(super) async fn start(begin: &Begin, reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::StartTaskRequest { task: begin.name.clone() };
    let answer = reach.change(async |admin| admin.start_task(request.clone()).await).await;
    ended(begin, answer, "is started", reach, output).await
}

pub(super) async fn resume(begin: &Begin, reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::ResumeTaskRequest { task: begin.name.clone() };
    let answer = reach.change(async |admin| admin.resume_task(request.clone()).await).await;
    ended(begin, answer, "is resumed", reach, output).await
}

pub(super) async fn restart(begin: &Begin, reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::RestartTaskRequest { task: begin.name.clone() };
    let answer = reach.change(async |admin| admin.restart_task(request.clone()).await).await;
    ended(begin, answer, "is restarted", reach, output).await
}

async fn ended(
    begin: &Begin,
    answer: Result<v1::TaskChanged, Error>,
    what: &str,
    reach: &Reach,
    output: Output,
) -> io::Result<Exit> {
    if !begin.wait {
        return changed(answer, what, output);
    }
    match answer.and_then(ordered) {
        Ok(ordered) => {
            for note in &ordered.notes {
                report::note(output, note);
            }
            wait(&ordered.task, reach, output).await
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

async fn wait(ordered: &Task, reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::WatchTaskRequest { task: ordered.name.clone() };
    let open =
        async |reach: &Reach| reach.read(async |it| it.watch_task(request.clone()).await).await;
    let mut last: Option<(Task, Option<Exit>)> = None;
    let ended = watch(reach, output, open, |message: v1::WatchTaskResponse| {
        let Some(task) = message.task.map(Task::from) else { return Ok(Next::More) };
        // A coordinator that follows may still see what was before the order.
        if task.since_unix_ms < ordered.since_unix_ms {
            return Ok(Next::More);
        }
        let exit = outcome(&task);
        if last.as_ref().is_none_or(|(last, _)| last.state != task.state) {
            let state = task.state.as_deref().unwrap_or("waits for a worker");
            // It may be waited for long: a person should know what for.
            let cause = task.cause.as_deref().filter(|_| state == "retrying");
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            report::note(output, &format!("{}: {state}{cause}", task.name));
        }
        last = Some((task, exit));
        Ok(if exit.is_some() { Next::End } else { Next::MayEnd })
    });
    match (ended.await?, last) {
        (Ended::Done, Some((task, Some(exit)))) => {
            if exit != Exit::Done {
                let state = task.state.as_deref().unwrap_or_default();
                let cause = task.cause.as_deref().unwrap_or("no cause is known");
                let remedy = task.remedy.as_deref().unwrap_or_default();
                report::error(output, &format!("{}: {state}: {cause}", task.name), remedy);
            }
            let now = super::watch::now_unix_ms();
            output.document(&task, || people::task(&task, now))?;
            Ok(exit)
        }
        (Ended::Done, Some((_, None)) | None) => {
            report::note(output, "no longer waiting; the order stands");
            Ok(Exit::Failed)
        }
        (Ended::Refused(error), _) => Ok(refusal::say(output, &error)),
    }
}

/// How a task that was told to run fares; `None` while that is open.
fn outcome(task: &Task) -> Option<Exit> {
    let precheck = task.phase.as_deref() == Some("precheck");
    match task.state.as_deref()?.replace(' ', "-").as_str() {
        "precheck-failed" => Some(Exit::Precheck),
        "parked" | "failed" | "stopped" if precheck => Some(Exit::Precheck),
        "parked" | "failed" | "stopped" | "suspended" | "releasing" | "release-failed"
        | "released" => Some(Exit::Failed),
        "running" if precheck => None,
        "running" | "initializing" | "synchronizing" | "catching-up" | "completed" => {
            Some(Exit::Done)
        }
        _ => None,
    }
}
