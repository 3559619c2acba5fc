//! `distributary run`: a task in this process, from its precheck to its farewell.

mod bar;
mod farewell;
mod signals;
mod status;

pub(crate) use signals::stop_on_signals;

use crate::arguments::Run;
use crate::check::Verdict;
use crate::console::Console;
use crate::exit::Exit;
use crate::output::Output;
use crate::spec::Spec;
use crate::{report, spec, system};
use config::precheck::State;
use pipeline::alerts::Alerts;
use pipeline::{Options, Progress};
use std::io;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub(crate) fn run(arguments: &Run, output: Output, console: &Console) -> io::Result<Exit> {
    let spec = match spec::load(&arguments.spec, output) {
        Ok(spec) => spec,
        Err(exit) => return Ok(exit),
    };
    spec::warn_of_literals(&spec.task.literal_secrets());
    spec::warn_of_exposed(&spec.task.exposed_secrets(&spec.folder));
    system::block_on(live(arguments, spec, output, console))
}

async fn live(arguments: &Run, spec: Spec, output: Output, console: &Console) -> io::Result<Exit> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let progress = Arc::new(Progress::default());
    progress.trace.begin(&spec.task.task);
    let passed = tokio::select! {
        passed = precheck(arguments, &spec, &progress, output) => passed,
        () = stop.cancelled() => {
            report::note(output, "stopped during the precheck; nothing was started");
            return Ok(Exit::Done);
        }
    };
    if !passed {
        progress.trace.fail("precheck not passed");
        return Ok(Exit::Precheck);
    }
    let options = Options {
        until_caught_up: arguments.until_caught_up,
        reseed: arguments.reseed,
        accept_gap: arguments.accept_gap,
        release: arguments.release,
        recover: false,
        hurried: false,
        folder: spec.folder,
        data_dir: pipeline::spooling::temporary_folder(),
    };
    let task = Arc::new(spec.task);
    info!(task = task.task, version = env!("CARGO_PKG_VERSION"), "task starts");
    let watching = actix_rt::spawn(status::watch(Arc::clone(&progress), console.clone(), output));
    let alerts = match Alerts::start(&task, &options.folder, &progress, None) {
        Ok(alerts) => alerts,
        Err(error) => {
            report::error(output, &error, "correct the setting, or leave `alerts` out");
            return Ok(Exit::Wrong);
        }
    };
    let outcome = pipeline::run(Arc::clone(&task), options, Arc::clone(&progress), stop).await;
    alerts.finish(&outcome).await;
    watching.abort();
    // The bar goes with it before the last words.
    drop(watching.await);
    farewell::say(&outcome, &task, &arguments.spec, &progress, output)
}

/// Shows what did not pass, or everything; false where the task may not start.
async fn precheck(arguments: &Run, spec: &Spec, progress: &Progress, output: Output) -> bool {
    let mut span = progress.trace.span("precheck", &spec.task.task);
    let items = pipeline::precheck(&spec.task, &spec.folder, false).await;
    let verdict = Verdict::new(&items, &[]);
    for item in items.iter().filter(|item| arguments.verbose || item.state != State::Pass) {
        report::item(output, item);
    }
    if verdict.passed {
        let (passed, warnings) =
            (verdict.count(State::Pass, false), verdict.count(State::Warning, false));
        info!(passed, warnings, "precheck passed");
    } else {
        span.fail("not passed");
        let remedy = "mend what fails; `distributary check` shows every item";
        report::error(output, "precheck not passed; nothing was started", remedy);
    }
    verdict.passed
}
