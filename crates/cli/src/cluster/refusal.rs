//! What a cluster refuses, in words and as an exit code.

use crate::exit::Exit;
use crate::output::Output;
use crate::report;
use rpc::{Code, Error};
use std::path::Path;

/// Says why, and how a command ends with it.
pub(crate) fn say(output: Output, error: &Error) -> Exit {
    let remedy = if error.remedy.is_empty() { remedy(error.code) } else { &error.remedy };
    let mut cause = error.cause.clone();
    for problem in &error.spec {
        cause.push_str(&format!("\n  {problem}"));
    }
    report::error(output, &cause, remedy);
    exit(error.code)
}

/// The same of a spec from this file.
pub(crate) fn say_of_spec(output: Output, spec: &Path, error: &Error) -> Exit {
    if error.spec.is_empty() {
        return say(output, error);
    }
    report::problems(output, spec, &error.spec);
    if !error.remedy.is_empty() {
        report::note(output, &error.remedy);
    }
    exit(error.code)
}

fn remedy(code: Code) -> &'static str {
    match code {
        Code::NotFound => {
            "`distributary cluster status` shows all nodes and tasks, `connection list` all \
             connections"
        }
        Code::State => "`distributary cluster status` shows what state everything is in",
        Code::Busy => "try again later",
        Code::Deadline => "look at the status, then try again",
        Code::Unsupported => "use a `distributary` of the cluster's own release",
        Code::Internal => "look into the log of the coordinator",
        Code::Unspecified
        | Code::Spec
        | Code::Argument
        | Code::NotLeader
        | Code::Unauthenticated
        | Code::Forbidden
        | Code::Name
        | Code::Protocol
        | Code::TooLarge
        | Code::Fenced
        | Code::Unreachable
        | Code::Starting => "",
    }
}

fn exit(code: Code) -> Exit {
    match code {
        Code::Spec | Code::Argument => Exit::Wrong,
        Code::Unspecified
        | Code::NotFound
        | Code::State
        | Code::NotLeader
        | Code::Unauthenticated
        | Code::Forbidden
        | Code::Name
        | Code::Protocol
        | Code::TooLarge
        | Code::Busy
        | Code::Fenced
        | Code::Unreachable
        | Code::Deadline
        | Code::Internal
        | Code::Starting
        | Code::Unsupported => Exit::Failed,
    }
}
