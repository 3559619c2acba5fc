//! Alerts and the throttle of a running task: a webhook that counts hears of what lasts, once, and of its end; and
//! nothing that is secret.

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::{Duration, Instant};
use tests::checker::Promises;
use tests::deadline::await_true;
use tests::network::{Link, Weather};
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::say;
use tests::sql::{PASSWORD, quoted};

/// Takes what is posted.
struct Receiver {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url =
            format!("http://{}/hook?token=hunter2", listener.local_addr().expect("an address"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = take(stream);
                into.lock().expect("no panic").extend(said);
            }
        });
        Self { url, heard }
    }

    fn texts(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").clone()
    }

    /// Events and states, in their order.
    fn events(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().expect("a word").to_owned();
        let event = |text: &String| {
            let value: Value = serde_json::from_str(text).expect("JSON");
            (word(&value["event"]), word(&value["state"]))
        };
        self.texts().iter().map(event).collect()
    }

    #[track_caller]
    fn await_events(&self, expected: &[(&str, &str)]) {
        let is_there = || self.events().len() >= expected.len();
        await_true("the alerts", CATCH_UP_MAX, is_there);
        let events = self.events();
        let events: Vec<_> = events.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(events, expected);
        for text in self.texts() {
            assert!(!text.contains("hunter2"), "a secret: {text}");
        }
    }
}

fn take(mut stream: TcpStream) -> Option<String> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('}')
        {
            let body = body.to_owned();
            let answer = b"HTTP/1.1 204 Taken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).ok()?;
            return Some(body);
        }
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
}

fn line(receiver: &Receiver, more: &str) -> String {
    format!("alerts: {{webhook: \"{}\"{more}}}", receiver.url)
}

#[test]
fn what_lasts_is_told_once_and_so_is_its_end() {
    let (scene, receiver) = (Scene::new("alerted", "postgres-15"), Receiver::start());
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let link = Link::to(&scene.postgres.address);
    let spec = scene.spec().hosts(&link.address).line(&line(&receiver, ""));
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    link.set(Weather::Cut);
    receiver.await_events(&[("failure", "retrying")]);
    link.set(Weather::Clear);
    sql.run("INSERT INTO t VALUES (2)");
    let expected = [("failure", "retrying"), ("recovered", "running")];
    receiver.await_events(&expected);
    let ended = run.interrupt(CATCH_UP_MAX);
    ended.expect(0);
    assert!(!ended.stderr.contains("hunter2"), "a secret: {}", ended.stderr);
    receiver.await_events(&expected);

    // What a person must decide is told at once.
    scene.superuser().run(&format!("SELECT pg_drop_replication_slot('{}')", scene.slot()));
    scene.run(&spec, &[]).wait(CATCH_UP_MAX).expect(1);
    receiver.await_events(&[expected[0], expected[1], ("failure", "parked")]);
}

#[test]
fn a_throttle_makes_a_burst_late_and_that_is_told() {
    let (scene, receiver) = (Scene::new("throttled", "postgres-15"), Receiver::start());
    let mut sql = scene.sql();
    sql.run("CREATE TABLE t (id int PRIMARY KEY, note text)");
    let spec = scene
        .spec()
        .line(&line(&receiver, ", latency: 2s"))
        .line("throttle: {incremental: {rows: 25, bytes: 0}}");
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    // One after the other, so that each can be late by itself.
    let insert = |id| format!("INSERT INTO t VALUES ({id}, 'x');");
    sql.run(&(0..500).map(insert).collect::<Vec<_>>().join("COMMIT;"));
    let began = Instant::now();
    receiver.await_events(&[("latency", "running"), ("latency-recovered", "running")]);
    run.interrupt(CATCH_UP_MAX).expect(0);
    let report = scene.check(Promises::default());
    assert_eq!(report.rows, 500);
    // 500 rows at 25 a second take 20 s, less what the first slice and the timers may make up.
    let took = began.elapsed();
    assert!(Duration::from_secs(17) < took, "500 rows passed in {took:?}");
    say(&format!("throttled: 500 rows at 25 rows/s and the notice after {took:?}"));
}

#[test]
fn a_statement_that_could_not_be_captured_is_told() {
    let (scene, receiver) = (Scene::new("gap", "postgres-15"), Receiver::start());
    let mut sql = scene.superuser();
    let role = format!("{}_admin", scene.name);
    sql.run(&format!(
        "CREATE ROLE {} SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}'; CREATE TABLE t (id int PRIMARY KEY)",
        quoted(&role)
    ));
    let spec = scene.spec().user(&role, Some(PASSWORD)).line(&line(&receiver, ""));
    let mut run = scene.run(&spec, &[]);
    scene.await_streaming(&mut run);
    sql.run(&format!(
        "SET distributary.ddl_capture = off; CREATE OR REPLACE FUNCTION {}.relations(oids oid[]) \
         RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$; RESET distributary.ddl_capture",
        quoted(&scene.slot())
    ));
    sql.run("CREATE TABLE unseen (id int PRIMARY KEY)");
    receiver.await_events(&[("ddl-gap", "running")]);
    let said: Value = serde_json::from_str(&receiver.texts()[0]).expect("JSON");
    let cause = said["cause"].as_str().expect("a cause");
    assert!(cause.starts_with("1 DDL statement could not be captured"), "{cause}");
    run.interrupt(CATCH_UP_MAX).expect(0);
    sql.run(&format!(
        "REASSIGN OWNED BY {0} TO postgres; DROP OWNED BY {0}; DROP ROLE {0}",
        quoted(&role)
    ));
}
