//! What a spec that came over the network may make a worker read: its own secrets folder, and variables
//! that are meant for it (interface.md, "Task spec").

use crate::check::problem;
use crate::pem::Pem;
use crate::secret::Reference;
use crate::{Problem, Secret, Security, Sink, Source, Task, Tls};
use std::path::{Component, Path};

/// Variables that specs of a cluster may name.
pub const SECRET_VARIABLES: &str = "DISTRIBUTARY_SECRET_";

impl Source {
    /// Its secrets, with their paths within it.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        self.password.iter().map(|secret| ("password", secret))
    }

    /// Its certificates, to be replaced, with their paths within it.
    pub fn certificates_mut(&mut self) -> impl Iterator<Item = (String, &mut String)> {
        self.tls.certificates_mut().map(|(path, it)| (format!("tls.{path}"), it))
    }
}

impl Tls {
    fn certificates_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut String)> {
        let all = [("ca", &mut self.ca), ("cert", &mut self.cert)];
        all.into_iter().filter_map(|(path, it)| Some((path, it.as_mut()?)))
    }
}

impl Security {
    /// Its secrets, with their paths within it.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        let all = [("password", &self.password), ("key_password", &self.key_password)];
        all.into_iter().filter_map(|(path, secret)| Some((path, secret.as_ref()?)))
    }

    fn certificates_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut String)> {
        let all = [("ca", &mut self.ca), ("cert", &mut self.cert)];
        all.into_iter().filter_map(|(path, it)| Some((path, it.as_mut()?)))
    }
}

impl Sink {
    /// Its secrets, with their paths within it.
    pub fn secrets(&self) -> impl Iterator<Item = (String, &Secret)> {
        let registry = self.registry.iter().flat_map(|registry| {
            let all = [("password", &registry.password), ("token", &registry.token)];
            all.into_iter().filter_map(|(path, secret)| Some((path, secret.as_ref()?)))
        });
        self.security
            .secrets()
            .map(|(path, secret)| (format!("security.{path}"), secret))
            .chain(registry.map(|(path, secret)| (format!("registry.{path}"), secret)))
    }

    /// Its certificates, to be replaced, with their paths within it.
    pub fn certificates_mut(&mut self) -> impl Iterator<Item = (String, &mut String)> {
        let security = self.security.certificates_mut();
        let registry = self.registry.iter_mut().flat_map(|it| it.tls.certificates_mut());
        security
            .map(|(path, it)| (format!("security.{path}"), it))
            .chain(registry.map(|(path, it)| (format!("registry.tls.{path}"), it)))
    }
}

impl Task {
    /// Every secret, with its path.
    pub fn secrets(&self) -> impl Iterator<Item = (String, &Secret)> {
        let webhook = self.alerts.iter().filter_map(|alerts| alerts.webhook.as_ref());
        let source = self.source.secrets().map(|(path, it)| (format!("source.{path}"), it));
        source
            .chain(self.sink.secrets().map(|(path, it)| (format!("sink.{path}"), it)))
            .chain(webhook.map(|it| ("alerts.webhook".to_owned(), it)))
            .chain(self.mask_key.iter().map(|it| ("mask_key".to_owned(), it)))
    }

    /// References to what is not for tasks: files outside of `folder`, other variables.
    #[must_use]
    pub fn unconfined(&self, folder: &Path) -> Vec<Problem> {
        let mut found = Vec::new();
        for (path, secret) in self.secrets() {
            match secret.reference() {
                Reference::Env(name) if !name.starts_with(SECRET_VARIABLES) => {
                    let text = format!(
                        "variable `{name}` is not for tasks of a cluster; give it a name that begins \
                         with {SECRET_VARIABLES}"
                    );
                    found.push(problem(&path, text));
                }
                Reference::File(file) if !is_below(file, folder) => {
                    found.push(problem(&path, outside(file)));
                }
                Reference::Env(_) | Reference::File(_) | Reference::Literal => {}
            }
        }
        for (path, file) in self.files() {
            if !is_below(file, folder) {
                found.push(problem(&path, outside(file)));
            }
        }
        found
    }

    /// Certificates, inline or as files, with their paths.
    pub fn certificates(&self) -> impl Iterator<Item = (String, &str)> {
        let (tls, security, registry) =
            (&self.source.tls, &self.sink.security, &self.sink.registry);
        let registry = registry.as_ref().map(|it| &it.tls);
        [
            ("source.tls.ca", tls.ca.as_deref()),
            ("source.tls.cert", tls.cert.as_deref()),
            ("sink.security.ca", security.ca.as_deref()),
            ("sink.security.cert", security.cert.as_deref()),
            ("sink.registry.tls.ca", registry.and_then(|it| it.ca.as_deref())),
            ("sink.registry.tls.cert", registry.and_then(|it| it.cert.as_deref())),
        ]
        .into_iter()
        .filter_map(|(path, setting)| Some((path.to_owned(), setting?)))
    }

    /// The same, to be replaced.
    pub fn certificates_mut(&mut self) -> impl Iterator<Item = (String, &mut String)> {
        let source =
            self.source.certificates_mut().map(|(path, it)| (format!("source.{path}"), it));
        source.chain(self.sink.certificates_mut().map(|(path, it)| (format!("sink.{path}"), it)))
    }

    /// Files of private keys, with the paths of the settings that name them.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let registry = self.sink.registry.as_ref().and_then(|it| it.tls.key.as_deref());
        [
            ("source.tls.key", self.source.tls.key.as_deref()),
            ("sink.security.key", self.sink.security.key.as_deref()),
            ("sink.registry.tls.key", registry),
        ]
        .into_iter()
        .filter_map(|(path, file)| Some((path, file?)))
    }

    /// Files of certificates and keys, with the paths of the settings that name them.
    pub fn files(&self) -> impl Iterator<Item = (String, &str)> {
        let certificates =
            self.certificates().filter_map(|(path, setting)| match Pem::of(setting) {
                Pem::File(file) => Some((path, file)),
                Pem::Text(_) => None,
            });
        certificates.chain(self.keys().map(|(path, file)| (path.to_owned(), file)))
    }
}

fn outside(file: &str) -> String {
    format!(
        "`{file}` is outside of the worker's `secrets_dir`; put it there and name it relative to it"
    )
}

/// By its names alone: links below the folder are its owner's.
fn is_below(file: &str, folder: &Path) -> bool {
    let path = Path::new(file);
    let climbs = path.components().any(|it| matches!(it, Component::ParentDir));
    !climbs && (path.is_relative() || path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn paths(password: &str, ca: &str) -> Vec<String> {
        let yaml = format!(
            "version: 1\ntask: shop\nsource:\n  hosts: [db]\n  database: d\n  user: u\n  \
             password: {password}\n  tls: {{ca: {ca}}}\nsink:\n  brokers: [k]\nobjects:\n  \
             - {{table: \"*.*\"}}\n"
        );
        let task = Task::parse(&yaml).expect("a spec");
        let found = task.unconfined(Path::new("/run/secrets"));
        found.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn own_variables_and_the_secrets_folder_may_be_read() {
        assert!(paths("${env:DISTRIBUTARY_SECRET_SHOP}", "shop/ca.pem").is_empty());
        assert!(paths("${file:shop}", "/run/secrets/ca.pem").is_empty());
        let text = r#""-----BEGIN CERTIFICATE-----\nMIIB/../etc\n-----END CERTIFICATE-----\n""#;
        assert!(paths("${file:shop}", text).is_empty(), "it names no file");
    }

    #[test]
    fn everything_else_is_refused() {
        assert_eq!(paths("${env:AWS_SECRET_ACCESS_KEY}", "ca.pem"), ["source.password"]);
        assert_eq!(paths("${file:/etc/shadow}", "ca.pem"), ["source.password"]);
        assert_eq!(paths("${file:../w1.key}", "../ca.pem"), ["source.password", "source.tls.ca"]);
        assert_eq!(paths("${file:s}", "/run/secrets/../w1.key"), ["source.tls.ca"]);
    }
}
