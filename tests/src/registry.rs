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
    let (host, port) = registry.host_and_port();
    let mut stream = TcpStream::connect((host, port)).expect("the registry answers");
    write!(
        stream,
        "PUT {PATH}/config/{subject} HTTP/1.0\r\nHost: {host}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains(" 200 "), "{answer}");
}
