//! `distributary connection`: settings that the specs of a cluster share.

use super::reach::Reach;
use super::view::Connection;
use super::{people, refusal, settings};
use crate::arguments::{ConnectionSettings, Connections, ConnectionsVerb};
use crate::exit::Exit;
use crate::output::Output;
use crate::{report, spec, system};
use config::{Problem, Problems, Sink, Source};
use rpc::{Code, Error, v1};
use serde::Serialize;
use std::io;
use std::path::Path;

/// What became of a connection.
#[derive(Debug, Serialize)]
struct Changed<'a> {
    name: &'a str,
    change: &'static str,
    /// Tasks that go on by it.
    tasks: &'a [String],
}

pub(crate) fn connections(arguments: &Connections, output: Output) -> io::Result<Exit> {
    let reach = match Reach::new(&arguments.access) {
        Ok(reach) => reach,
        Err(error) => return Ok(refusal::say(output, &error)),
    };
    system::block_on(async {
        match &arguments.verb {
            ConnectionsVerb::Set { name, settings } => set(name, settings, &reach, output).await,
            ConnectionsVerb::List => list(&reach, output).await,
            ConnectionsVerb::Remove { name } => remove(name, &reach, output).await,
        }
    })
}

async fn set(
    name: &str,
    given: &ConnectionSettings,
    reach: &Reach,
    output: Output,
) -> io::Result<Exit> {
    let (kind, file) = match (&given.source, &given.sink) {
        (Some(file), _) => ("source", file),
        (None, Some(file)) => ("sink", file),
        (None, None) => {
            let error = Error::new(Code::Argument, "no settings are given", "give --source FILE");
            return Ok(refusal::say(output, &error));
        }
    };
    let yaml = match load(kind, file, output) {
        Ok(yaml) => yaml,
        Err(exit) => return Ok(exit),
    };
    let connection =
        v1::Connection { name: name.to_owned(), kind: kind.to_owned(), yaml, tasks: Vec::new() };
    let request = v1::SetConnectionRequest { connection: Some(connection) };
    match reach.change(async |admin| admin.set_connection(request.clone()).await).await {
        Ok(answer) => {
            let change = if answer.created { "created" } else { "changed" };
            changed(&Changed { name, change, tasks: &answer.tasks }, output)
        }
        Err(error) => Ok(refusal::say_of_spec(output, file, &error)),
    }
}

/// The settings as they are sent. What is wrong with them is reported.
fn load(kind: &str, file: &Path, output: Output) -> Result<String, Exit> {
    let text = config::load::read(file).map_err(|error| {
        report::error(output, &error.to_string(), "");
        Exit::Wrong
    })?;
    let refuse = |problems: &[Problem]| {
        report::problems(output, file, problems);
        Exit::Wrong
    };
    let folder = spec::folder(file);
    let (problems, yaml) = if kind == "source" {
        let mut source = Source::parse(&text).map_err(|Problems(problems)| refuse(&problems))?;
        let mut problems = settings::refused_in_source(&source, &text);
        problems.extend(config::connection::refused(source.connection.as_deref()));
        problems.extend(settings::inline(source.certificates_mut(), &folder, &text));
        (problems, settings::yaml(&source))
    } else {
        let mut sink = Sink::parse(&text).map_err(|Problems(problems)| refuse(&problems))?;
        let mut problems = settings::refused_in_sink(&sink, &text);
        problems.extend(config::connection::refused(sink.connection.as_deref()));
        problems.extend(settings::inline(sink.certificates_mut(), &folder, &text));
        (problems, settings::yaml(&sink))
    };
    if !problems.is_empty() {
        return Err(refuse(&problems));
    }
    yaml.map_err(|reason| {
        report::error(output, &format!("the settings cannot be written: {reason}"), "");
        Exit::Failed
    })
}

async fn list(reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::ListConnectionsRequest {};
    match reach.read(async |admin| admin.list_connections(request).await).await {
        Ok(answer) => {
            let connections: Vec<_> =
                answer.connections.into_iter().map(Connection::from).collect();
            output.document(&connections, || people::connections(&connections))?;
            Ok(Exit::Done)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

async fn remove(name: &str, reach: &Reach, output: Output) -> io::Result<Exit> {
    let request = v1::RemoveConnectionRequest { name: name.to_owned() };
    match reach.change(async |admin| admin.remove_connection(request.clone()).await).await {
        Ok(v1::RemoveConnectionResponse {}) => {
            changed(&Changed { name, change: "removed", tasks: &[] }, output)
        }
        Err(error) => Ok(refusal::say(output, &error)),
    }
}

fn changed(changed: &Changed<'_>, output: Output) -> io::Result<Exit> {
    let Changed { name, change, tasks } = changed;
    let by_it = match tasks {
        [] => String::new(),
        tasks => format!("; go on by it: {}", tasks.join(", ")),
    };
    output.document(changed, || format!("connection `{name}` {change}{by_it}\n"))?;
    Ok(Exit::Done)
}
