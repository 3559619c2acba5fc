//! What the types of the node spec cannot say. Pure; all problems at once, each with its path.

use super::address::split;
use super::{Node, Role, is_loopback};
use crate::Problem;
use crate::check::{check_addresses, problem};

/// Whether a name may be part of topic names, certificates and host names.
fn is_node_name(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    name.len() <= 40
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(plain)
}

/// Kafka's letters for topic names, short enough for what follows the prefix.
fn is_prefix(prefix: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=100).contains(&prefix.len()) && prefix.bytes().all(plain)
}

impl Node {
    /// What is wrong with the values for a node of this role, beyond what their types say.
    pub(super) fn problems(&self, role: Role) -> Vec<Problem> {
        let mut found = Vec::new();
        if !is_node_name(&self.node) {
            let text = "is required: a small letter, then up to 39 small letters, digits, _ or -";
            found.push(problem("node", text));
        }
        self.check_listeners(&mut found);
        self.check_control(&mut found);
        self.check_coordinators(role, &mut found);
        for (path, folder) in [("data_dir", &self.data_dir), ("secrets_dir", &self.secrets_dir)] {
            if folder.is_empty() {
                found.push(problem(path, "must not be empty"));
            }
        }
        self.check_tls(&mut found);
        found
    }

    fn check_listeners(&self, found: &mut Vec<Problem>) {
        for (path, address) in [("listen", &self.listen), ("http", &self.http)] {
            if split(address).is_none() {
                let text =
                    format!("`{address}` is no host:port, e.g. 127.0.0.1:7420 or [::1]:7420");
                found.push(problem(path, text));
                continue;
            }
            if is_loopback(address) {
                continue;
            }
            let missing = match (&self.tls, &self.auth) {
                (Some(_), Some(_)) => continue,
                (None, None) => "`tls` and `auth`",
                (None, Some(_)) => "`tls`",
                (Some(_), None) => "`auth`",
            };
            let text = format!(
                "`{address}` can be reached from other machines and needs {missing}; or listen on 127.0.0.1"
            );
            found.push(problem(path, text));
        }
        // Port 0 means a free one, as often as it is written.
        let free = split(&self.listen).is_none_or(|(_, port)| port == 0);
        if self.listen == self.http && !free {
            found.push(problem("http", "must be another address than `listen`"));
        }
    }

    fn check_control(&self, found: &mut Vec<Problem>) {
        let control = &self.control;
        if control.brokers.is_empty() {
            found.push(problem("control.brokers", "is required, e.g. [k1:9092]"));
        }
        check_addresses("control.brokers", &control.brokers, found);
        if !is_prefix(&control.prefix) {
            let text = "must be 1 to 100 of the letters that topics may have: a-z, A-Z, 0-9, . _ -";
            found.push(problem("control.prefix", text));
        }
    }

    fn check_coordinators(&self, role: Role, found: &mut Vec<Problem>) {
        if role == Role::Worker && self.coordinators.is_empty() {
            found.push(problem("coordinators", "is required for a worker, e.g. [c1:7420]"));
        }
        for (index, address) in self.coordinators.iter().enumerate() {
            let path = format!("coordinators[{index}]");
            if split(address).is_none_or(|(_, port)| port == 0) {
                let text = format!("`{address}` is no host:port, e.g. c1:7420 or [::1]:7420");
                found.push(problem(&path, text));
            } else if self.tls.is_none() && !is_loopback(address) {
                let text = format!("`{address}` is on another machine, which needs `tls`");
                found.push(problem(&path, text));
            }
        }
    }

    fn check_tls(&self, found: &mut Vec<Problem>) {
        if let Some(tls) = &self.tls {
            let files = [("tls.ca", &tls.ca), ("tls.cert", &tls.cert), ("tls.key", &tls.key)];
            for (path, _) in files.into_iter().filter(|(_, file)| file.is_empty()) {
                found.push(problem(path, "is required: `ca`, `cert` and `key` go together"));
            }
        }
        if self.auth.as_ref().is_some_and(|auth| auth.tokens_file.is_empty()) {
            found.push(problem("auth.tokens_file", "is required"));
        }
    }

    /// Secrets whose value stands in the spec, by path.
    #[must_use]
    pub fn literal_secrets(&self) -> Vec<String> {
        let secrets = self.control.security.secrets();
        let named = secrets.map(|(path, secret)| (format!("control.security.{path}"), secret));
        crate::secret::literals(named)
    }
}
