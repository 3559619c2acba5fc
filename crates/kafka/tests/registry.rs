//! The registry's client against a scripted server: what it asks, what it makes of the answers.

use config::{Registry as Settings, Secret};
use kafka::registry::{Registry, RegistryError, Verdict};
use record::plan::{TablePlan, TaskPlan};
use record::schema::{Draft, Language, Schema, Version};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use wal::table::ReplicaIdentity;
use wal::types::{Type, oid};
use wal::{Column, Table};

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
    Schema { subject, language: Language::Avro, text, references: &[] }
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
    let after = |answers: &[&str]| {
        let (settings, _asked) = server(answers);
        client(&settings).register(&schema()).expect_err("refused")
    };
    let asked = |answer: &str| after(&[answer]);
    let incompatible = json("200 OK", r#"{"is_compatible":false}"#);
    let conflict = refusal("409 Conflict", 409, "READER_FIELD_MISSING\\n at /fields/3");
    let error = after(&[&conflict, &incompatible]);
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
fn a_password_that_was_replaced_is_read_again() {
    let path = std::env::temp_dir().join(format!("distributary-registry-{}", std::process::id()));
    std::fs::write(&path, "old").expect("written");
    let unknown = json("401 Unauthorized", r#"{"error_code":401,"message":"who are you"}"#);
    let (settings, asked) = server(&[&unknown, &json("200 OK", r#"{"id":7}"#)]);
    let (user, password) = (Some("u".into()), secret(&format!("${{file:{}}}", path.display())));
    let client = client(&Settings { user, password, ..settings });
    std::fs::write(&path, "new").expect("written");
    assert_eq!(client.register(&schema()), Ok(7));
    std::fs::remove_file(&path).expect("removed");
    let said: Vec<_> = asked.iter().filter_map(|it| it.authorization).collect();
    assert_eq!(said, ["Basic dTpvbGQ=", "Basic dTpuZXc="]);
}

#[test]
fn a_conflict_over_what_is_compatible_passes() {
    let conflict = json("409 Conflict", r#"{"error_code":409,"message":"it exists already"}"#);
    let absent = json("404 Not Found", r#"{"error_code":40401,"message":"no subject"}"#);
    for verdict in [absent, json("200 OK", r#"{"is_compatible":true}"#)] {
        let (settings, _asked) = server(&[&conflict, &verdict, &json("200 OK", r#"{"id":7}"#)]);
        let client = client(&settings);
        let error = client.register(&schema()).expect_err("a conflict");
        assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("it exists already"), "{error}");
        assert_eq!(client.register(&schema()), Ok(7));
    }
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

/// A Protobuf schema of a table with these columns, whose fields have no numbers yet.
fn draft(columns: &[(&str, Type)]) -> Draft {
    let column = |(name, type_): &(&str, Type)| Column {
        name: (*name).into(),
        type_: Arc::new(type_.clone()),
        type_modifier: -1,
        not_null: false,
        default: None,
        in_identity: true,
    };
    let table = Table {
        oid: 16_400,
        version: 1,
        schema: "shop".into(),
        name: "orders".into(),
        identity: ReplicaIdentity::Full,
        columns: columns.iter().map(column).collect(),
        key: Vec::new(),
        unique: Vec::new(),
    };
    let spec = "version: 1\ntask: shop\nsource: {hosts: [h], database: d, user: u}\n\
                sink: {brokers: [b], format: protobuf, registry: {url: \"http://r\"}}\n\
                objects: [{table: \"*.*\"}]\n";
    let task = TaskPlan::new(&config::Task::parse(spec).expect("a spec"), "d").expect("a plan");
    let plan = TablePlan::new(Arc::new(table), &task, 0, 1, 1).expect("a plan");
    plan.schemas().expect("schemas").value.clone()
}

fn text_type() -> Type {
    Type::builtin(oid::TEXT, "text")
}

fn absent() -> String {
    json("404 Not Found", r#"{"error_code":40401,"message":"Subject not found"}"#)
}

fn version(id: u32, draft: &Draft, versions: &[Version]) -> String {
    let body = serde_json::json!({ "id": id, "version": 1, "schema": draft.after(versions).text });
    json("200 OK", &body.to_string())
}

#[test]
fn numbers_come_from_the_versions_and_are_looked_at_again() {
    let draft =
        draft(&[("a", text_type()), ("at", Type::builtin(oid::TIMESTAMPTZ, "timestamptz"))]);
    let (settings, asked) = server(&[
        &absent(),
        &json("200 OK", r#"{"id":6}"#),
        &json("200 OK", r#"{"id":6,"version":3}"#),
        &json("200 OK", r#"{"id":7}"#),
        &json("200 OK", "[1]"),
        &version(7, &draft, &[]),
    ]);
    let taken = client(&settings).settle(&draft).expect("taken");
    assert_eq!((taken.id, &*taken.numbers), (7, &[1, 2][..]));
    let asked: Vec<_> = asked.iter().take(6).collect();
    let lines: Vec<_> = asked.iter().map(|it| it.line.trim_end_matches(" HTTP/1.1")).collect();
    let subject = "/api/subjects/shop.orders-value/versions";
    let imported = "/api/subjects/distributary%2Fsemantic.proto";
    assert_eq!(
        lines,
        [
            format!("GET {subject}"),
            format!("POST {imported}/versions"),
            format!("POST {imported}"),
            format!("POST {subject}"),
            format!("GET {subject}"),
            format!("GET {subject}/1"),
        ]
    );
    let name = "distributary/semantic.proto";
    let reference = serde_json::json!([{ "name": name, "subject": name, "version": 3 }]);
    assert_eq!(asked[3].body["references"], reference);
    assert_eq!(asked[3].body["schemaType"], "PROTOBUF");
}

#[test]
fn a_version_that_is_known_is_not_registered_again() {
    let draft = draft(&[("a", text_type())]);
    let (settings, asked) = server(&[&json("200 OK", "[4]"), &version(9, &draft, &[])]);
    let taken = client(&settings).settle(&draft).expect("taken");
    assert_eq!((taken.id, &*taken.numbers), (9, &[1][..]));
    assert!(asked.iter().all(|it| it.line.starts_with("GET ")));
}

#[test]
fn another_lane_s_numbers_come_first() {
    let (mine, other) = (draft(&[("a", text_type())]), draft(&[("b", text_type())]));
    let theirs = Version { id: 8, text: other.after(&[]).text.into() };
    let both = [theirs.clone(), Version { id: 9, text: mine.after(&[]).text.into() }];
    let (settings, _asked) = server(&[
        &absent(),
        &json("200 OK", r#"{"id":9}"#),
        // The other's version was registered just before.
        &json("200 OK", "[1,2]"),
        &version(8, &other, &[]),
        &version(9, &mine, &[]),
        &json("200 OK", r#"{"id":10}"#),
        &json("200 OK", "[1,2,3]"),
        &version(8, &other, &[]),
        &version(9, &mine, &[]),
        &version(10, &mine, &both),
    ]);
    let taken = client(&settings).settle(&mine).expect("taken");
    assert_eq!((taken.id, &*taken.numbers), (10, &[2][..]));
}

#[test]
fn a_verdict_of_a_numbered_schema_registers_nothing() {
    let (old, new) = (draft(&[("a", text_type())]), draft(&[("b", text_type())]));
    let (settings, _asked) = server(&[&absent()]);
    assert_eq!(client(&settings).check_draft(&old), Ok(Verdict::New));
    let known = [json("200 OK", "[1]"), version(9, &old, &[])];
    let (settings, _asked) = server(&[&known[0], &known[1]]);
    assert_eq!(client(&settings).check_draft(&old), Ok(Verdict::Compatible));
    let no = json("200 OK", r#"{"is_compatible":false,"messages":["removed"]}"#);
    let (settings, asked) = server(&[&known[0], &known[1], &no]);
    let verdict = client(&settings).check_draft(&new);
    assert_eq!(verdict, Ok(Verdict::Incompatible("removed".into())));
    let last = asked.iter().last().expect("asked");
    assert!(last.line.starts_with("POST /api/compatibility/"), "{}", last.line);
    let text = last.body["schema"].as_str().expect("a text");
    assert!(text.contains("reserved 1;") && text.contains("string b = 2"), "{text}");
}
