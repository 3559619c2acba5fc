//! The registry's client against a scripted server: what it asks, what it makes of the answers.

use config::{Registry as Settings, Secret};
use kafka::registry::{Registry, RegistryError, Verdict};
use record::schema::{Language, Schema};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

/// A request as the server got it.
#[derive(Debug)]
struct Asked {
    line: String,
    authorization: Option<String>,
    body: serde_json::Value,
}

/// Answers one request per connection, with these in turn; then it is gone.
fn server(answers: &[&str]) -> (Settings, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/api/", listener.local_addr().expect("an address"));
    let answers: Vec<String> = answers.iter().map(|&answer| answer.into()).collect();
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().expect("a connection");
            // Nobody may be listening to what was asked any more.
            let _ = asked.send(serve(stream, &answer));
        }
    });
    (Settings { url, ..Settings::default() }, requests)
}

fn serve(mut stream: TcpStream, answer: &str) -> Asked {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let named = head.iter().find_map(|line| line.split_once(": ").filter(|it| it.0 == name));
        named.map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").map_or(0, |text| text.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    // A client that has read enough closes the connection.
    let _ = stream.write_all(answer.as_bytes());
    Asked {
        line: head[0].clone(),
        authorization: header("authorization"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn client(settings: &Settings) -> Registry {
    Registry::new(settings, Path::new(".")).expect("a client")
}

fn schema() -> Schema {
    let (subject, text) = ("shop/orders-value".into(), "\"long\"".into());
    Schema { subject, language: Language::Avro, text }
}

fn secret(text: &str) -> Option<Secret> {
    serde_json::from_value(text.into()).ok()
}

#[test]
fn a_schema_is_registered_once() {
    let (settings, asked) = server(&[&json("200 OK", r#"{"id":7}"#)]);
    let client = client(&settings);
    assert_eq!(client.register(&schema()), Ok(7));
    assert_eq!(client.clone().register(&schema()), Ok(7), "clones know what one has learned");
    let request = asked.recv().expect("a request");
    assert_eq!(request.line, "POST /api/subjects/shop%2Forders-value/versions HTTP/1.1");
    assert_eq!(request.body, serde_json::json!({ "schema": "\"long\"" }));
    assert_eq!(request.authorization, None);
    assert!(asked.recv().is_err(), "asked once");
}

#[test]
fn protobuf_is_named() {
    let (settings, asked) = server(&[&json("200 OK", r#"{"id":7}"#)]);
    let schema = Schema { language: Language::Protobuf, ..schema() };
    client(&settings).register(&schema).expect("registered");
    assert_eq!(asked.recv().expect("a request").body["schemaType"], "PROTOBUF");
}

#[test]
fn who_we_are_is_said_to_the_registry_and_to_nobody_else() {
    let level = json("200 OK", r#"{"compatibilityLevel":"FULL"}"#);
    let (settings, asked) = server(&[&level]);
    let basic = Settings { user: Some("u".into()), password: secret("hunter2"), ..settings };
    assert_eq!(client(&basic).level().as_deref(), Ok("FULL"));
    let basic = asked.recv().expect("a request").authorization;
    assert_eq!(basic.as_deref(), Some("Basic dTpodW50ZXIy"));

    let elsewhere =
        "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (settings, asked) = server(&[elsewhere]);
    let bearer = client(&Settings { token: secret("t0ken"), ..settings });
    let error = bearer.level().expect_err("not followed");
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    let bearer_said = asked.recv().expect("a request").authorization;
    assert_eq!(bearer_said.as_deref(), Some("Bearer t0ken"));
    for shown in [format!("{bearer:?}"), error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains("t0ken"), "{shown}");
    }
}

#[test]
fn an_incompatible_schema_is_told_from_other_refusals() {
    let refusal = |status, code, message| {
        json(status, &format!(r#"{{"error_code":{code},"message":"{message}"}}"#))
    };
    let asked = |answer: &str| {
        let (settings, _asked) = server(&[answer]);
        client(&settings).register(&schema()).expect_err("refused")
    };
    let error = asked(&refusal("409 Conflict", 409, "READER_FIELD_MISSING\\n at /fields/3"));
    let RegistryError::Incompatible { subject, reason } = &error else { panic!("{error}") };
    assert_eq!(&**subject, "shop/orders-value");
    assert_eq!(reason, "READER_FIELD_MISSING at /fields/3");
    let error = asked(&refusal("422 Unprocessable", 42201, "Invalid schema"));
    assert!(error.to_string().contains("status 422: Invalid schema"), "{error}");
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    let error = asked(&refusal("401 Unauthorized", 401, "who are you"));
    assert!(matches!(error, RegistryError::NotAuthorized { .. }), "{error}");
}

#[test]
fn what_may_pass_is_tried_again() {
    let busy = json("503 Service Unavailable", "busy");
    let (settings, _asked) = server(&[&busy, &json("200 OK", r#"{"id":7}"#)]);
    assert_eq!(client(&settings).register(&schema()), Ok(7));
    let (settings, _asked) = server(&[&busy, &busy, &busy]);
    let error = client(&settings).register(&schema()).expect_err("busy");
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
    let nobody = client(&Settings { url: "http://127.0.0.1:1".into(), ..settings });
    let error = nobody.level().expect_err("nobody listens");
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
}

#[test]
fn a_verdict_registers_nothing() {
    let verdict = |status, body| {
        let (settings, asked) = server(&[&json(status, body)]);
        let verdict = client(&settings).check(&schema()).expect("a verdict");
        let line = asked.recv().expect("a request").line;
        assert!(line.contains("/compatibility/subjects/shop%2Forders-value/versions/latest"));
        verdict
    };
    assert_eq!(verdict("200 OK", r#"{"is_compatible":true}"#), Verdict::Compatible);
    let null = r#"{"is_compatible":true,"reason":null,"messages":null}"#;
    assert_eq!(verdict("200 OK", null), Verdict::Compatible);
    let no = r#"{"is_compatible":false,"messages":["a","b"]}"#;
    assert_eq!(verdict("200 OK", no), Verdict::Incompatible("a; b".into()));
    let apicurio = r#"{"is_compatible":false,"reason":"c"}"#;
    assert_eq!(verdict("200 OK", apicurio), Verdict::Incompatible("c".into()));
    let absent = r#"{"error_code":40401,"message":"Subject not found"}"#;
    assert_eq!(verdict("404 Not Found", absent), Verdict::New);
}

#[test]
fn an_answer_that_is_none_is_no_schema() {
    let asked = |answer: &str| {
        let (settings, _asked) = server(&[answer]);
        client(&settings).register(&schema()).expect_err("no answer")
    };
    let error = asked(&json("200 OK", "<html>"));
    assert!(matches!(error, RegistryError::Answer { .. }), "{error}");
    let error = asked(&json("200 OK", &" ".repeat((4 << 20) + 1)));
    assert!(matches!(error, RegistryError::Answer { .. }), "{error}");
    let not_found = asked(&json("404 Not Found", "no such page"));
    assert!(matches!(not_found, RegistryError::Refused { .. }), "{not_found}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let with = |tls| Settings { url: "https://r".into(), tls, ..Settings::default() };
    let tls = config::Tls { ca: Some("no/such.pem".into()), ..config::Tls::default() };
    let error = Registry::new(&with(tls), Path::new(".")).expect_err("no file").to_string();
    assert!(error.starts_with("sink.registry.tls.ca: `./no/such.pem` cannot be used"), "{error}");
    let user = Some("u".into());
    let settings =
        Settings { user, password: secret("${env:NO_SUCH_VAR}"), ..with(config::Tls::default()) };
    let error = Registry::new(&settings, Path::new(".")).expect_err("no variable").to_string();
    assert!(error.contains("sink.registry.password") && error.contains("NO_SUCH_VAR"), "{error}");
}
