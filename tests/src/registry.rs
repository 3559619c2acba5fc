//! A schema registry, as tests speak to it beside the code under test.

use crate::servers::Server;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Path of the interface of Confluent's registry in Apicurio's.
pub const PATH: &str = "/apis/ccompat/v7";

/// What a task spec has for it.
#[must_use]
pub fn url(registry: &Server) -> String {
    format!("http://{}{PATH}", registry.address)
}

/// Sets what a subject takes beside its older versions.
///
/// # Panics
/// When the registry does not answer, or refuses.
pub fn set_compatibility(registry: &Server, subject: &str, level: &str) {
    let body = json!({ "compatibility": level }).to_string();
    answer(registry, "PUT", &format!("config/{subject}"), &body);
}

/// Its subjects that contain a text, in order, each with the number of its versions.
///
/// # Panics
/// As [`set_compatibility`].
#[must_use]
pub fn subjects(registry: &Server, part: &str) -> Vec<(String, usize)> {
    let all: Vec<String> =
        serde_json::from_str(&answer(registry, "GET", "subjects", "")).expect("a list");
    let versions = |subject: &str| {
        let all = answer(registry, "GET", &format!("subjects/{subject}/versions"), "");
        serde_json::from_str::<Vec<u64>>(&all).expect("a list").len()
    };
    let wanted = all.into_iter().filter(|it| it.contains(part));
    let mut found: Vec<_> = wanted.map(|it| (it.clone(), versions(&it))).collect();
    found.sort();
    found
}

/// What it says to a request.
fn answer(registry: &Server, method: &str, path: &str, body: &str) -> String {
    let (host, port) = registry.host_and_port();
    let mut stream = TcpStream::connect((host, port)).expect("the registry answers");
    write!(
        stream,
        "{method} {PATH}/{path} HTTP/1.0\r\nHost: {host}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    assert!(head.contains(" 200 "), "{answer}");
    body.to_owned()
}
