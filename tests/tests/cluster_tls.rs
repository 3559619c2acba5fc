//! Nodes and people prove who they are: real processes with certificates from `cluster/tls/make-certificates`
//! and tokens. Who cannot is told why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tests::deadline::await_true;
use tests::process::{Distributary, Ended};
use tests::reader::Topics;
use tests::scene::{CATCH_UP_MAX, Scene};
use tests::seed::unique;
use tests::servers::repository;
use tests::site::free_address;
use tests::sql::{PASSWORD, ROLE};

const CALL_MAX: Duration = Duration::from_secs(120);
const BEGIN_MAX: Duration = Duration::from_secs(120);
const SECRET: &str = "DISTRIBUTARY_SECRET_SOURCE";
const ROWS: usize = 200;

/// Certificates of these members, each `NAME=ROLE`, and tokens, below `folder`.
fn certificates(folder: &Path, members: &[String]) {
    let made = Command::new(repository().join("cluster/tls/make-certificates"))
        .arg(folder)
        .args(members)
        .arg("--keep-tokens")
        .output()
        .expect("the script can be run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// A cluster whose nodes have certificates.
struct Secured<'a> {
    scene: &'a Scene,
    prefix: String,
    /// Address of the coordinator.
    coordinator: String,
    ours: PathBuf,
    /// Of another authority, with the same names in it.
    strangers: PathBuf,
}

impl<'a> Secured<'a> {
    fn new(scene: &'a Scene, workers: &[&str]) -> Self {
        let [ours, strangers] = ["ours", "strangers"].map(|name| scene.folder().join(name));
        let workers = workers.iter().map(|name| format!("{name}=worker"));
        let members: Vec<_> = workers.chain(["c1=coordinator".to_owned()]).collect();
        certificates(&ours, &members);
        certificates(&strangers, &members);
        let (prefix, coordinator) = (format!("secured_{}", unique()), free_address());
        Self { scene, prefix, coordinator, ours, strangers }
    }

    /// Starts a node that shows the certificate at `shown`, by its files' name without ending.
    fn node(&self, name: &str, role: &str, listen: &str, shown: &Path) -> Distributary {
        let folder = self.scene.folder();
        let shown = shown.display();
        let mut yaml = format!(
            "node: {name}\nlisten: {listen}\nhttp: {}\ncontrol: {{brokers: [\"{}\"], prefix: {}}}\n\
             data_dir: {}\nsecrets_dir: {}\ntls: {{ca: {}/ca.pem, cert: {shown}.pem, key: {shown}.key}}\n\
             auth: {{tokens_file: {}/tokens.yaml}}\n",
            free_address(),
            self.scene.kafka.address,
            self.prefix,
            folder.display(),
            folder.display(),
            self.ours.display(),
            self.ours.display(),
        );
        if role == "worker" {
            yaml.push_str(&format!("coordinators: [\"{}\"]\n", self.coordinator));
            // The name without its number: what a placement chooses by.
            let stage = name.trim_end_matches(|it: char| it.is_ascii_digit());
            yaml.push_str(&format!("labels: {{stage: {stage}}}\n"));
        }
        let spec = folder.join(format!("{name}-{}.yaml", unique()));
        fs::write(&spec, yaml).expect("written");
        let spec = spec.to_str().expect("UTF-8");
        Distributary::start_in(folder, &[role, "--config", spec], &[(SECRET, PASSWORD)])
    }

    fn begin(&self, name: &str, role: &str, listen: &str) -> Distributary {
        let mut node = self.node(name, role, listen, &self.ours.join(name));
        node.await_log(&format!("{role} listens"), BEGIN_MAX);
        node
    }

    /// Calls the command line; files are those of `self.ours`, or absolute.
    fn call(&self, options: &[(&str, &str)], words: &[&str]) -> Ended {
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        all.extend(["--coordinator".into(), self.coordinator.clone()]);
        for (option, file) in options {
            let file = self.ours.join(file).to_str().expect("UTF-8").to_owned();
            all.extend([(*option).to_owned(), file]);
        }
        Distributary::start(self.scene.folder(), &all).wait(CALL_MAX)
    }

    fn as_admin(&self, words: &[&str]) -> Ended {
        self.call(&[("--ca", "ca.pem"), ("--token-file", "admin.token")], words)
    }
}

impl Drop for Secured<'_> {
    fn drop(&mut self) {
        let prefix = &self.prefix;
        tests::topics::delete(&self.scene.kafka, |topic| topic.starts_with(prefix.as_str()));
    }
}

#[test]
fn a_task_runs_among_nodes_that_prove_who_they_are_and_strangers_get_nothing() {
    let scene = Scene::new("secured", "postgres-15");
    scene.sql().run(&format!(
        "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, {ROWS})"
    ));
    let secured = Secured::new(&scene, &["w1", "w2"]);
    let _c1 = secured.begin("c1", "coordinator", &secured.coordinator);
    let _w1 = secured.begin("w1", "worker", &free_address());
    let _w2 = secured.begin("w2", "worker", &free_address());

    let password = format!("${{env:{SECRET}}}");
    let spec = scene.spec().user(ROLE, Some(&password)).line("lanes: 4");
    let path = spec.write(scene.folder());
    secured.as_admin(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
    secured.as_admin(&["task", "start", spec.task(), "--wait"]).expect(0);
    await_true("lanes on both workers", CATCH_UP_MAX, || {
        let status = secured.as_admin(&["task", "status", spec.task(), "-o", "json"]);
        let status: serde_json::Value =
            serde_json::from_str(&status.expect(0).stdout).expect("JSON");
        let lanes = status["lanes"].as_array().expect("lanes");
        let on = |node: &str| lanes.iter().any(|it| it["node"] == node && it["state"] == "running");
        on("w1") && on("w2") && status["state"] == "synchronizing"
    });
    scene.sql().run(&format!("INSERT INTO orders SELECT {ROWS} + generate_series(1, {ROWS})"));
    await_true("all rows", CATCH_UP_MAX, || {
        Topics::read(&scene.kafka, &format!("{}.", scene.name)).records.len() == 2 * ROWS
    });

    people_without_the_right_are_told_why(&secured, spec.task());
    nodes_that_are_not_what_they_say_do_not_join(&secured);
    secured.as_admin(&["task", "release", spec.task(), "--yes"]).expect(0);
    await_true("the slot gone", CATCH_UP_MAX, || scene.slots().is_empty());
}

/// Reader, decoder, router and lanes on nodes of their own, each link with certificates at both ends; also after the
/// decoder has moved.
#[test]
fn a_parted_front_runs_over_mutual_tls() {
    let scene = Scene::new("parted", "postgres-15");
    scene.sql().run(&format!(
        "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, {ROWS})"
    ));
    let names = ["reader1", "decoder1", "decoder2", "router1", "producer1", "producer2"];
    let secured = Secured::new(&scene, &names);
    let _c1 = secured.begin("c1", "coordinator", &secured.coordinator);
    let mut nodes: Vec<_> =
        names.iter().map(|name| (*name, secured.begin(name, "worker", &free_address()))).collect();
    let password = format!("${{env:{SECRET}}}");
    let spec = scene.spec().user(ROLE, Some(&password)).line("lanes: 4").line(
        "placement: {reader: {stage: reader}, decoder: {stage: decoder}, router: {stage: router}, \
         producers: {stage: producer}}",
    );
    let path = spec.write(scene.folder());
    secured.as_admin(&["task", "apply", path.to_str().expect("UTF-8")]).expect(0);
    secured.as_admin(&["task", "start", spec.task(), "--wait"]).expect(0);
    let stage = |stage: &str| {
        let status = secured.as_admin(&["task", "status", spec.task(), "-o", "json"]);
        let status = &status.expect(0).stdout;
        let status: serde_json::Value = serde_json::from_str(status).expect("JSON");
        status["placement"][stage].as_str().unwrap_or_default().to_owned()
    };
    let rows = |total: usize| {
        await_true(&format!("{total} rows"), CATCH_UP_MAX, || {
            Topics::read(&scene.kafka, &format!("{}.", scene.name)).records.len() == total
        });
    };
    rows(ROWS);
    scene.sql().run(&format!("INSERT INTO orders SELECT {ROWS} + generate_series(1, {ROWS})"));
    rows(2 * ROWS);
    assert_eq!(["reader", "router"].map(&stage), ["reader1", "router1"]);
    let decoder = stage("decoder");
    for (name, node) in &mut nodes {
        let runs = [*name == "reader1", *name == decoder];
        assert_eq!(node.log().contains("a stage begins here"), runs.contains(&true), "{name}");
    }
    secured.as_admin(&["cluster", "drain", &decoder]).expect(0);
    await_true("the decoder elsewhere", CATCH_UP_MAX, || stage("decoder") != decoder);
    scene.sql().run(&format!("INSERT INTO orders SELECT 2 * {ROWS} + generate_series(1, {ROWS})"));
    rows(3 * ROWS);
    secured.as_admin(&["task", "release", spec.task(), "--yes"]).expect(0);
    await_true("the slot gone", CATCH_UP_MAX, || scene.slots().is_empty());
}

fn people_without_the_right_are_told_why(secured: &Secured<'_>, task: &str) {
    let ca = ("--ca", "ca.pem");
    let admin = ("--token-file", "admin.token");
    let viewer = ("--token-file", "viewer.token");
    let list = ["task", "list"];
    secured.call(&[ca, viewer], &list).expect(0);
    let certified = [ca, ("--cert", "admin.pem"), ("--key", "admin.key")];
    secured.call(&[&certified[..], &[admin]].concat(), &list).expect(0);
    // In place of a token, as `--help` says.
    secured.call(&certified, &list).expect(0);
    let stranger = secured.strangers.join("ca.pem");
    let stranger = ("--ca", stranger.to_str().expect("UTF-8"));
    let strange_cert = secured.strangers.join("admin.pem");
    let strange_key = secured.strangers.join("admin.key");
    let strange = [
        ca,
        ("--cert", strange_cert.to_str().expect("UTF-8")),
        ("--key", strange_key.to_str().expect("UTF-8")),
    ];
    let strange_token = secured.strangers.join("admin.token");
    let strange_token = ("--token-file", strange_token.to_str().expect("UTF-8"));
    let worker = [ca, admin, ("--cert", "w1.pem"), ("--key", "w1.key")];
    let suspend = ["task", "suspend", task];
    for (options, words, said) in [
        (&[ca][..], &list[..], "needs a token"),
        (&[ca, viewer], &suspend, "viewer `viewer`"),
        (&[ca, strange_token], &list, "token"),
        (&[admin], &list, "TLS"),
        (&[stranger, admin], &list, "cannot be trusted"),
        (&strange, &list, "certificate"),
        (&worker, &list, "worker `w1`"),
    ] {
        let refused = secured.call(options, words);
        refused.expect(1);
        assert!(refused.stderr.contains(said), "{options:?}: `{said}` in {}", refused.stderr);
        assert!(refused.stderr.contains("remedy: "), "{options:?}: {}", refused.stderr);
        assert!(refused.stdout.is_empty(), "{}", refused.stdout);
    }
}

fn nodes_that_are_not_what_they_say_do_not_join(secured: &Secured<'_>) {
    // What can be seen at home ends the process.
    for (name, role, shown, said) in [
        ("w3", "worker", "w1", "`w1`"),
        ("w1", "worker", "c1", "coordinator `c1`"),
        ("c2", "coordinator", "w1", "worker `w1`"),
    ] {
        let ended = secured.node(name, role, &free_address(), &secured.ours.join(shown));
        let ended = ended.wait(BEGIN_MAX);
        assert_eq!(ended.code, Some(1), "{name} as {shown}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{name} as {shown}: {}", ended.stderr);
    }
    // One whose certificate another authority has signed is refused before it can say anything.
    let stranger = secured.node("w2", "worker", &free_address(), &secured.strangers.join("w2"));
    await_refused(stranger, "certificate");
    let status = secured.as_admin(&["cluster", "status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.expect(0).stdout).expect("JSON");
    let nodes = status["nodes"].as_array().expect("nodes");
    let states: Vec<_> =
        nodes.iter().map(|it| (it["name"].as_str(), it["state"].as_str())).collect();
    let alive = |name, state| (Some(name), Some(state));
    assert_eq!(states, [alive("c1", "leader"), alive("w1", "alive"), alive("w2", "alive")]);
}

/// It says why it cannot join, and goes on trying.
fn await_refused(mut node: Distributary, why: &str) {
    node.await_log("cannot join there", BEGIN_MAX);
    let log = node.log();
    let line = log.lines().find(|line| line.contains("cannot join there")).expect("a line");
    assert!(line.contains(why), "`{why}` in {line}");
}
