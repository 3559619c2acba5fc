//! Settings on their way into a cluster: no literal secret, certificates in place of their files, no comment,
//! and no default, which may be another one in the cluster's release.

use config::confine::SECRET_VARIABLES;
use config::pem::{self, Pem};
use config::secret::Reference;
use config::{Object, Places, Problem, Secret, Sink, Source, Task};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// More than the certificates that are taken, with what may explain them; a device or a wrong file ends here.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Settings as YAML, without what is there by default.
///
/// # Errors
/// When they cannot be written.
pub(super) fn yaml<T: Default + Serialize>(settings: &T) -> Result<String, String> {
    serde_saphyr::to_string(&given(settings)?).map_err(|error| error.to_string())
}

/// A task as YAML. Where a part names a connection, what is given there by default is kept: it takes the place of what
/// the connection says.
///
/// # Errors
/// When it cannot be written.
pub(super) fn yaml_of_task(task: &Task, text: &str) -> Result<String, String> {
    let mut given = given(task)?;
    let whole = serde_json::to_value(task).map_err(|error| error.to_string())?;
    let places = Places::of(text);
    for (part, _) in task.connections() {
        let part = part.word();
        let (Some(given), Some(whole)) = (given[part].as_object_mut(), whole[part].as_object())
        else {
            continue;
        };
        for (key, value) in whole {
            if places.has(&format!("{part}.{key}")) {
                given.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
    serde_saphyr::to_string(&given).map_err(|error| error.to_string())
}

/// Settings without what is there by default.
///
/// # Errors
/// When they cannot be written.
pub(super) fn given<T: Default + Serialize>(settings: &T) -> Result<Value, String> {
    let value = |settings: &T| serde_json::to_value(settings).map_err(|error| error.to_string());
    let mut given = value(settings)?;
    leave_out(&mut given, &value(&T::default())?);
    Ok(given)
}

fn leave_out(given: &mut Value, default: &Value) {
    let Some(given) = given.as_object_mut() else { return };
    given.retain(|name, value| !value.is_null() && default.get(name) != Some(value));
    for (name, value) in given {
        match (&mut *value, default.get(name)) {
            (Value::Array(items), _) if name == "objects" => {
                let object = serde_json::to_value(Object::default()).unwrap_or_default();
                items.iter_mut().for_each(|item| leave_out(item, &object));
            }
            (value, Some(default)) if !default.is_null() => leave_out(value, default),
            // Of settings that are not there by default, what is not there.
            (value, _) => leave_out(value, &Value::Object(Map::new())),
        }
    }
}

/// Secrets of a task that a cluster must not or cannot have.
pub(super) fn refused_in_task(task: &Task, text: &str) -> Vec<Problem> {
    refused(task.secrets(), text)
}

pub(super) fn refused_in_source(source: &Source, text: &str) -> Vec<Problem> {
    refused(source.secrets(), text)
}

pub(super) fn refused_in_sink(sink: &Sink, text: &str) -> Vec<Problem> {
    refused(sink.secrets(), text)
}

fn refused<'a, P: AsRef<str>>(
    secrets: impl Iterator<Item = (P, &'a Secret)>,
    text: &str,
) -> Vec<Problem> {
    let places = Places::of(text);
    let problem = |(path, secret): (P, &Secret)| {
        let (path, text) = (path.as_ref(), why_refused(secret)?);
        Some(Problem { line: places.line(path), path: path.to_owned(), text })
    };
    secrets.filter_map(problem).collect()
}

fn why_refused(secret: &Secret) -> Option<String> {
    match secret.reference() {
        Reference::Literal => Some(format!(
            "a literal secret does not leave this machine; refer to one that the workers have: \
             ${{env:{SECRET_VARIABLES}…}}, or ${{file:…}} below their `secrets_dir`"
        )),
        Reference::Env(variable) if !variable.starts_with(SECRET_VARIABLES) => Some(format!(
            "workers read no variable `{variable}`, only such that begin with {SECRET_VARIABLES}; \
             rename it there, e.g. ${{env:{SECRET_VARIABLES}{variable}}}"
        )),
        Reference::Env(_) | Reference::File(_) => None,
    }
}

/// Puts certificates in the place of the names of their files, which are relative to `folder`.
pub(super) fn inline<'a>(
    certificates: impl Iterator<Item = (String, &'a mut String)>,
    folder: &Path,
    text: &str,
) -> Vec<Problem> {
    let places = Places::of(text);
    let mut found = Vec::new();
    for (path, setting) in certificates {
        match certificates_of(setting, folder) {
            Ok(certificates) => *setting = certificates,
            Err(text) => found.push(Problem { line: places.line(&path), path, text }),
        }
    }
    found
}

fn certificates_of(setting: &str, folder: &Path) -> Result<String, String> {
    let file = match Pem::of(setting) {
        Pem::Text(text) => return pem::certificates(text).map_err(|error| error.to_string()),
        Pem::File(file) => folder.join(file),
    };
    let mut bytes = Vec::new();
    std::fs::File::open(&file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| {
            format!(
                "`{}` cannot be read: {error}; certificates are sent with the spec: give the file's \
                 path on this machine, relative to the spec",
                file.display()
            )
        })?;
    // What explains a certificate may be in any character set.
    let certificates = pem::certificates(&String::from_utf8_lossy(&bytes));
    certificates.map_err(|error| format!("`{}` {error}", file.display()))
}

/// Keys stay where they are: the workers need them, too.
pub(super) fn keys(task: &Task) -> Vec<String> {
    task.keys().map(|(path, file)| format!("{path} ({file})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const INTERFACE: &str = include_str!("../../../config/testdata/interface.yaml");

    const SPEC: &str = "# hunter2
version: 1
task: shop
source: {hosts: [db1:5432], database: shop, user: u, password: '${env:DISTRIBUTARY_SECRET_SHOP}'}
sink: {brokers: [k1:9092], unrepresentable: null, acks: all, topic: 'on', partitions: 12}
objects:
- {table: public.orders, partitions: 3, operations: [insert]}
- {table: public.*}
";

    #[test]
    fn what_is_sent_means_the_same_without_defaults_and_comments() {
        let task = Task::parse(SPEC).expect("a task");
        let sent = yaml(&task).expect("written");
        assert_eq!(Task::parse(&sent).as_ref(), Ok(&task));
        expect![[r#"
            version: 1
            task: shop
            source:
              hosts:
              - db1:5432
              database: shop
              user: u
              password: ${env:DISTRIBUTARY_SECRET_SHOP}
            sink:
              brokers:
              - k1:9092
              topic: "on"
              partitions: 12
              unrepresentable: "null"
            objects:
            - table: public.orders
              partitions: 3
              operations:
              - insert
            - table: public.*
        "#]]
        .assert_eq(&sent);
    }

    #[test]
    fn the_interface_s_own_spec_survives_but_for_its_literals() {
        let spec = INTERFACE
            .replace("password: p", "password: '${file:p}'")
            .replace("\"http://hook/…\"", "'${file:hook}'");
        let task = Task::parse(&spec).expect("a task");
        let sent = yaml(&task).expect("written");
        assert_eq!(Task::parse(&sent).as_ref(), Ok(&task), "{sent}");
    }

    #[test]
    fn what_a_connection_could_say_otherwise_is_sent_though_it_is_the_default() {
        let spec =
            SPEC.replace("hosts: [db1:5432]", "connection: main, ddl: auto, tls: {mode: prefer}");
        let task = Task::parse(&spec).expect("a task");
        let sent = yaml_of_task(&task, &spec).expect("written");
        assert_eq!(Task::parse(&sent).as_ref(), Ok(&task));
        assert!(sent.contains("  ddl: auto\n") && sent.contains("    mode: prefer\n"), "{sent}");
        assert!(!sent.contains("acks"), "{sent}");
    }

    #[test]
    fn secrets_that_a_cluster_cannot_have_are_refused_with_their_lines() {
        let spec = "version: 1
task: shop
source:
  hosts: [db1:5432]
  database: shop
  user: u
  password: ${env:SHOP}
sink:
  brokers: [k1:9092]
  security: {password: hunter2}
objects: [{table: public.*}]
alerts: {webhook: 'http://hook/hunter2'}
";
        let task = Task::parse(spec).expect("a task");
        let found = refused_in_task(&task, spec);
        let places: Vec<_> = found.iter().map(|it| (it.line, it.path.as_str())).collect();
        assert_eq!(
            places,
            [(7, "source.password"), (10, "sink.security.password"), (12, "alerts.webhook")]
        );
        assert!(found[0].text.contains("${env:DISTRIBUTARY_SECRET_SHOP}"), "{}", found[0].text);
        assert!(found.iter().all(|it| !it.text.contains("hunter2")));
    }
}
