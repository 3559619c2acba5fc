//! The schema registry of formats whose records carry the id of their schema.

use crate::check::problem;
use crate::task::{Tls, TlsMode, word};
use crate::{Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Confluent-compatible schema registry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Of its REST interface, e.g. `http://registry:8081`.
    pub url: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Sent as a bearer token, in place of `user` and `password`.
    pub token: Option<Secret>,
    /// For https, which is always verified, name and all; `mode` is not read.
    pub tls: Tls,
    pub subject: Subject,
    pub on_incompatible: OnIncompatible,
}

word! {
    /// Confluent's strategies: what a subject is named by.
    Subject { #[default] Topic, Record, TopicRecord }
}
word! {
    /// What becomes of a table whose new schema the registry refuses.
    OnIncompatible { #[default] Park, DeadLetter }
}

impl Registry {
    /// What the types cannot say, with paths below `sink.registry`.
    pub(crate) fn check(&self, found: &mut Vec<Problem>) {
        let mut add = |key: &str, text: &str| {
            found.push(problem(&format!("sink.registry.{key}"), text));
        };
        if let Some(text) = url_problem(&self.url) {
            add("url", text);
        }
        if self.password.is_some() && self.user.is_none() {
            add("password", "needs `user`; or give a `token`");
        }
        if self.token.is_some() && self.user.is_some() {
            add("token", "takes the place of `user` and `password`; leave one of them out");
        }
        let Tls { mode, ca, cert, key } = &self.tls;
        if !matches!(mode, TlsMode::Prefer | TlsMode::VerifyFull) {
            add("tls.mode", "https is always verified, and http never has TLS; leave it out");
        }
        if cert.is_some() != key.is_some() {
            add("tls", "`cert` and `key` go together");
        }
        if self.url.starts_with("http:") && [ca, cert, key].iter().any(|it| it.is_some()) {
            add("tls", "is for https; correct `url`, or leave it out");
        }
    }
}

fn url_problem(url: &str) -> Option<&'static str> {
    if url.is_empty() {
        return Some("is required, e.g. http://registry:8081");
    }
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return Some("must begin with http:// or https://");
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') {
        return Some("names no host");
    }
    // Addresses are shown; what stands before an `@` may be a password.
    if host.contains('@') {
        return Some("must not hold a user; give `user` and `password`");
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    (!rest.bytes().all(plain)).then_some("may have a path, but no blanks, `?` or `#`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(registry: &Registry) -> Vec<String> {
        let mut found = Vec::new();
        registry.check(&mut found);
        found.into_iter().map(|problem| problem.path).collect()
    }

    fn at(url: &str) -> Registry {
        Registry { url: url.into(), ..Registry::default() }
    }

    #[test]
    fn an_address_is_http_without_a_secret() {
        for url in ["http://r:8081", "https://r/apis/ccompat/v7", "http://[::1]:8081/"] {
            assert!(problems(&at(url)).is_empty(), "{url}");
        }
        for url in ["", "r:8081", "ftp://r", "http://", "http://:1", "http://u:p@r", "http://r?a"] {
            assert_eq!(problems(&at(url)), ["sink.registry.url"], "{url}");
        }
    }

    #[test]
    fn who_we_are_is_said_once() {
        let secret = || serde_json::from_str::<Secret>("\"hunter2\"").ok();
        let registry = Registry { password: secret(), ..at("http://r") };
        assert_eq!(problems(&registry), ["sink.registry.password"]);
        let registry = Registry { user: Some("u".into()), token: secret(), ..at("http://r") };
        assert_eq!(problems(&registry), ["sink.registry.token"]);
    }

    #[test]
    fn certificates_are_for_https() {
        let tls = Tls { ca: Some("ca.pem".into()), ..Tls::default() };
        assert_eq!(
            problems(&Registry { tls: tls.clone(), ..at("http://r") }),
            ["sink.registry.tls"]
        );
        assert!(problems(&Registry { tls, ..at("https://r") }).is_empty());
        let tls = Tls { mode: TlsMode::Disable, ..Tls::default() };
        assert_eq!(problems(&Registry { tls, ..at("https://r") }), ["sink.registry.tls.mode"]);
    }
}
