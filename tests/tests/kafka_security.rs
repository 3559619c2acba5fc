//! Kafka behind TLS and SASL: every way in, what is refused and how it is said, that no secret is
//! shown, and that what is to be compressed lies compressed in the broker.

#[path = "kafka_security/rights.rs"]
mod rights;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::process::{Distributary, Ended};
use tests::reader::Record;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::segments::batches;
use tests::servers::{Server, ask};
use tests::task::Spec;
use tests::topics;

const PORT: u16 = 29_795;
const NAME: &str = "kafka:secure";
const USER: &str = "distributary";
const PASSWORD: &str = "k4fka-pa55";
const WRONG_PASSWORD: &str = "wr0ng-pa55";
const KEY_PASSWORD: &str = "k3y-pa55";

/// All refusals together, whose runs share the machine.
const REFUSAL_MAX: Duration = Duration::from_secs(90);
const WRONG_SPEC: i32 = 2;
const PRECHECK: i32 = 3;

/// Ways into the broker beside the plaintext one, as `servers --help` has them.
const SSL: &str = "127.0.0.1:29797";
const MUTUAL: &str = "127.0.0.1:29798";
const SASL_PLAINTEXT: &str = "127.0.0.1:29799";
const SASL_SSL: &str = "127.0.0.1:29800";
/// The certificate names another address.
const ELSEWHERE: &str = "127.0.0.2:29801";

/// Looking whether a server runs takes a Java start: once is enough.
fn servers() -> (Server, Server) {
    static SERVERS: OnceLock<(Server, Server)> = OnceLock::new();
    let start = || (Server::start("postgres-15"), Server::start_at(NAME, PORT, &["secure=yes"]));
    SERVERS.get_or_init(start).clone()
}

/// A database with a table to capture, and the secrets in files beside the spec. What arrives is read
/// through the plaintext listener.
fn scene(label: &str, rows: u32) -> Scene {
    let (postgres, kafka) = servers();
    let scene = Scene::on(label, postgres, kafka);
    scene.sql().run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, note text); \
         INSERT INTO t SELECT n, 'note ' || n FROM generate_series(1, {rows}) n"
    ));
    fs::write(scene.folder().join("password"), PASSWORD).expect("the folder can be written");
    let key = tls("client.key");
    let words = ["pkcs8", "-topk8", "-in", &key, "-out", "encrypted.key", "-passout"];
    let status = Command::new("openssl")
        .args(words)
        .arg(format!("pass:{KEY_PASSWORD}"))
        .current_dir(scene.folder())
        .status()
        .expect("openssl can be run");
    assert!(status.success(), "the client's key cannot be encrypted");
    scene
}

/// Path of a certificate or key.
fn tls(file: &str) -> String {
    static FOLDER: OnceLock<String> = OnceLock::new();
    format!("{}/{file}", FOLDER.get_or_init(|| ask("tls", NAME)))
}

fn security(protocol: &str, lines: &[String]) -> String {
    let all: Vec<&str> = lines.iter().map(String::as_str).collect();
    format!("security: {{protocol: {protocol}, {}}}", all.join(", "))
}

fn ca() -> String {
    format!("ca: {}", tls("ca.pem"))
}

fn login(mechanism: &str) -> String {
    format!("mechanism: {mechanism}, user: {USER}, password: '${{file:password}}'")
}

fn certificate(name: &str) -> String {
    format!("cert: {}, key: {}", tls(&format!("{name}.pem")), tls(&format!("{name}.key")))
}

/// Snapshot, then changes, by a run each.
fn assert_delivers(label: &str, broker: &str, security: &str) {
    let scene = scene(label, 300);
    let spec = scene.spec().brokers(broker).sink(security).line("lanes: 3");
    let mut ended = vec![scene.catch_up(&spec)];
    scene.sql().run(
        "UPDATE t SET note = 'new' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0; \
         INSERT INTO t VALUES (1000, 'last')",
    );
    ended.push(scene.catch_up(&spec));
    scene.check(Promises::default());
    assert!(300 < scene.topics().records.len(), "too little has arrived");
    for ended in &ended {
        assert_hidden(ended, &[PASSWORD, KEY_PASSWORD]);
    }
}

/// Each on a thread of its own: most of their time is waiting.
fn at_once<T: Send>(all: Vec<T>, each: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for one in all {
            scope.spawn(|| each(one));
        }
    });
}

#[track_caller]
fn assert_hidden(ended: &Ended, secrets: &[&str]) {
    for secret in secrets {
        let shown = ended.stdout.contains(secret) || ended.stderr.contains(secret);
        assert!(!shown, "`{secret}` is shown:\n{}{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn every_way_in_delivers() {
    let encrypted =
        format!("cert: {}, key: encrypted.key, key_password: '{KEY_PASSWORD}'", tls("client.pem"));
    at_once(
        vec![
            ("tls", SSL, security("SSL", &[ca()])),
            ("mutual", MUTUAL, security("SSL", &[ca(), certificate("client")])),
            ("mutual_key", MUTUAL, security("SSL", &[ca(), encrypted])),
            ("scram_256", SASL_SSL, security("SASL_SSL", &[ca(), login("SCRAM-SHA-256")])),
            ("scram_512", SASL_SSL, security("SASL_SSL", &[ca(), login("SCRAM-SHA-512")])),
            ("plain", SASL_PLAINTEXT, security("SASL_PLAINTEXT", &[login("PLAIN")])),
        ],
        |(label, broker, security)| assert_delivers(label, broker, &security),
    );
}

/// What cannot work, and what is said about it: cause and remedy.
struct Refusal {
    name: &'static str,
    broker: String,
    security: String,
    code: i32,
    words: &'static [&'static str],
}

fn refused(
    name: &'static str,
    broker: &str,
    protocol: &str,
    lines: &[String],
    words: &'static [&'static str],
) -> Refusal {
    Refusal {
        name,
        broker: broker.into(),
        security: security(protocol, lines),
        code: PRECHECK,
        words,
    }
}

/// Certificates and logins that one side does not accept.
fn wrong_papers() -> Vec<Refusal> {
    let scram = "SCRAM-SHA-512";
    let verified = &["certificate verify failed", "`sink.security.ca`", "name the host"];
    let wanted = &["asks for a client certificate", "`sink.security.cert`"];
    let login_wrong = &["authentication failed", "password", "`sink.security`"];
    let key_wrong = &["`sink.security.key` failed", "`sink.security.key_password`"];
    let not_offered = &["unsupported sasl mechanism", "SCRAM-SHA-512", "`sink.security`"];
    let stranger = format!("ca: {}", tls("stranger-ca.pem"));
    let key = format!("cert: {}, key: encrypted.key", tls("client.pem"));
    let wrong_key = format!("{key}, key_password: {WRONG_PASSWORD}");
    let wrong =
        |mechanism| format!("mechanism: {mechanism}, user: {USER}, password: {WRONG_PASSWORD}");
    vec![
        refused("wrong ca", SSL, "SSL", &[stranger], verified),
        refused("no ca", SSL, "SSL", &[], verified),
        refused("wrong host", ELSEWHERE, "SSL", &[ca()], verified),
        refused("no cert", MUTUAL, "SSL", &[ca()], wanted),
        refused("wrong cert", MUTUAL, "SSL", &[ca(), certificate("stranger-ca")], wanted),
        refused("no key password", MUTUAL, "SSL", &[ca(), key], key_wrong),
        refused("wrong key password", MUTUAL, "SSL", &[ca(), wrong_key], key_wrong),
        refused("wrong scram", SASL_SSL, "SASL_SSL", &[ca(), wrong(scram)], login_wrong),
        refused("wrong plain", SASL_PLAINTEXT, "SASL_PLAINTEXT", &[wrong("PLAIN")], login_wrong),
        refused("not offered", SASL_SSL, "SASL_SSL", &[ca(), login("PLAIN")], not_offered),
    ]
}

/// Settings that do not fit the listener, or each other.
fn wrong_settings() -> Vec<Refusal> {
    let scram = login("SCRAM-SHA-512");
    let to_tls = &["speaks TLS", "`sink.security.protocol`", "SASL_SSL"];
    let to_plaintext = &["speaks no TLS", "`sink.security.protocol`"];
    let no_sasl = &["does it ask for sasl", "`sink.security.protocol`"];
    let no_file = &["sink.security.ca", "no-such.pem"];
    let no_mechanism = &["sink.security.mechanism: is required"];
    let unknown = &["sink.security.mechanism", "GSSAPI", "SCRAM-SHA-512"];
    let plaintext = format!("127.0.0.1:{PORT}");
    let unknown = refused("unknown", SASL_SSL, "SASL_SSL", &[ca(), login("GSSAPI")], unknown);
    vec![
        refused("plaintext to tls", SSL, "PLAINTEXT", &[], to_tls),
        refused("sasl to tls", SASL_SSL, "SASL_PLAINTEXT", &[scram], to_tls),
        refused("tls to plaintext", &plaintext, "SSL", &[ca()], to_plaintext),
        refused("no sasl", SASL_SSL, "SSL", &[ca()], no_sasl),
        refused("no file", SSL, "SSL", &["ca: no-such.pem".into()], no_file),
        refused("no mechanism", SASL_SSL, "SASL_SSL", &[ca()], no_mechanism),
        refused("no protocol", SSL, "PLAINTEXT", &[ca()], &["sink.security.ca: is not used"]),
        Refusal { code: WRONG_SPEC, ..unknown },
    ]
}

#[test]
fn what_cannot_work_is_refused_with_cause_and_remedy() {
    let scene = scene("refused", 1);
    // All at once: most of their time is waiting.
    let start = |(number, refusal): (usize, Refusal)| {
        let name = format!("{}_{number}", scene.name);
        let spec = Spec::new(&name, &scene.postgres, &scene.name, &scene.kafka);
        let spec = spec.brokers(&refusal.broker).sink(&refusal.security);
        (scene.run(&spec, &["--until-caught-up"]), refusal)
    };
    let begun = Instant::now();
    let refusals = [wrong_papers(), wrong_settings()];
    let runs: Vec<_> = refusals.into_iter().flatten().enumerate().map(start).collect();
    for (run, refusal) in runs {
        let ended = run.wait(REFUSAL_MAX.saturating_sub(begun.elapsed()));
        ended.expect(refusal.code);
        let said = errors(&ended.stderr).to_lowercase();
        for word in refusal.words {
            let is_said = said.contains(&word.to_lowercase());
            assert!(is_said, "{}: `{word}` is not said:\n{}", refusal.name, ended.stderr);
        }
        assert!(said.contains("remedy") || refusal.code == WRONG_SPEC, "{}", ended.stderr);
        for words in ["panicked", "recompile", "ssl.ca.location"] {
            assert!(!said.contains(words), "{}: {}", refusal.name, ended.stderr);
        }
        assert_hidden(&ended, &[PASSWORD, WRONG_PASSWORD, KEY_PASSWORD]);
    }
    assert_eq!(scene.slots(), [""; 0], "a slot is left behind");
    let left = topics::list(&scene.kafka, |topic| topic.contains(&scene.name));
    assert!(left.is_empty(), "topics are left behind: {left:?}");
}

/// What is said for people, without the lines of the log.
fn errors(said: &str) -> String {
    said.lines().filter(|line| !line.contains("facility=")).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_secret_is_shown_anywhere() {
    let literal = format!("mechanism: SCRAM-SHA-512, user: {USER}, password: {PASSWORD}");
    let environment = login("SCRAM-SHA-512").replace("file:password", "env:KAFKA_PASSWORD");
    at_once(vec![literal, login("SCRAM-SHA-512"), environment], |login| assert_silent(&login));
}

fn assert_silent(login: &str) {
    let scene = scene("hidden", 20);
    let spec = scene.spec().brokers(SASL_SSL).sink(&security("SASL_SSL", &[ca(), login.into()]));
    let path = spec.line("lanes: 3").write(scene.folder());
    let path = path.to_str().expect("a path is text");
    for words in [
        &["check", path, "--connectivity"][..],
        &["check", path, "--output", "json", "--log-level", "trace"],
        &["objects", path],
        &["run", path, "--until-caught-up", "--verbose", "--log-level", "trace"],
    ] {
        let ended = start(&scene, words).wait(CATCH_UP_MAX);
        ended.expect(0);
        assert_hidden(&ended, &[PASSWORD]);
    }
    let mut run = start(&scene, &["run", path, "--log-level", "debug"]);
    scene.await_streaming(&mut run);
    let line = fs::read(format!("/proc/{}/cmdline", run.id())).expect("it runs");
    let line = String::from_utf8_lossy(&line).into_owned();
    assert!(line.contains(path) && !line.contains(PASSWORD), "{line}");
    let ended = run.interrupt(CATCH_UP_MAX);
    ended.expect(0);
    assert_hidden(&ended, &[PASSWORD]);
    scene.check(Promises::default());
    let mut records = scene.topics().records;
    records.extend(scene.state().records);
    assert!(20 < records.len(), "too little to look at");
    for Record { topic, key, value, headers, .. } in &records {
        let headers = headers.iter().map(|(_, value)| value);
        for bytes in headers.chain(key).chain(value) {
            let shown = String::from_utf8_lossy(bytes).contains(PASSWORD);
            assert!(!shown, "the password lies in `{topic}`");
        }
    }
}

fn start(scene: &Scene, words: &[&str]) -> Distributary {
    Distributary::start_in(scene.folder(), words, &[("KAFKA_PASSWORD", PASSWORD)])
}

#[test]
fn every_compression_arrives_whole_and_lies_so_in_the_broker() {
    let all = ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate().collect();
    at_once(all, |(codec, name)| assert_compressed(name, codec));
}

fn assert_compressed(name: &str, codec: usize) {
    let scene = scene(name, 2000);
    scene.catch_up(&scene.spec().sink(&format!("compression: {name}")).line("lanes: 3"));
    scene.check(Promises::default());
    let topic = format!("{}.public.t", scene.name);
    let found = batches(&scene.kafka, &topic);
    let records: u32 = found.iter().map(|batch| batch.records).sum();
    assert_eq!(records, 2000, "{name}: the segments do not hold the topic");
    let codecs: BTreeSet<usize> = found.iter().map(|batch| batch.codec).collect();
    assert_eq!(codecs, BTreeSet::from([codec]), "{name}: {} batches", found.len());
}
