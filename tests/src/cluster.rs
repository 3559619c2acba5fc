//! A cluster of real processes on loopback: coordinators and workers, each with a spec of its own.

use crate::deadline::await_true;
use crate::process::{Distributary, Ended};
use crate::scene::Scene;
use crate::seed::unique;
use crate::sql::{PASSWORD, ROLE};
use crate::task::Spec;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The variable that holds the password of the source.
const SECRET: &str = "DISTRIBUTARY_SECRET_SOURCE";
/// Below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 26_000..27_500;
/// How long one call of the command line may take, in a debug build on a busy machine.
const CALL_MAX: Duration = Duration::from_secs(60);
/// How long a process may take to say that it has begun.
const BEGIN_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Coordinator,
    Worker,
}

struct Node {
    role: Role,
    spec: PathBuf,
    address: String,
    http: String,
    process: Option<Distributary>,
}

/// Ended when dropped.
pub struct Cluster<'a> {
    scene: &'a Scene,
    prefix: String,
    nodes: BTreeMap<String, Node>,
    coordinators: Vec<String>,
}

impl<'a> Cluster<'a> {
    /// `coordinators` coordinators `c1`, `c2`, … and as many workers `w1`, `w2`, …
    ///
    /// # Panics
    /// When a process does not start.
    #[must_use]
    pub fn start(scene: &'a Scene, coordinators: usize, workers: usize) -> Self {
        let prefix = format!("cluster_{}", unique());
        // Workers are told of those that may come later, too.
        let addresses = (0..3).map(|_| free_address()).collect();
        let nodes = BTreeMap::new();
        let mut cluster = Self { scene, prefix, nodes, coordinators: addresses };
        (1..=coordinators).for_each(|it| cluster.add_coordinator(it));
        (1..=workers).for_each(|it| cluster.add_worker(&format!("w{it}")));
        cluster
    }

    /// Starts coordinator `number` of at most three.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_coordinator(&mut self, number: usize) {
        let address = self.coordinators[number - 1].clone();
        self.add(&format!("c{number}"), Role::Coordinator, address, "");
    }

    /// Starts another worker.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_worker(&mut self, name: &str) {
        self.add(name, Role::Worker, free_address(), "");
    }

    /// Starts another worker that has labels: `key: value`, with commas between them.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_labelled_worker(&mut self, name: &str, labels: &str) {
        self.add(name, Role::Worker, free_address(), labels);
    }

    fn add(&mut self, name: &str, role: Role, address: String, labels: &str) {
        let http = free_address();
        let mut yaml = format!(
            "node: {name}\nlisten: {address}\nhttp: {http}\ncontrol:\n  brokers: [{}]\n  prefix: {}\n\
             data_dir: {}\nsecrets_dir: {}\n",
            self.scene.kafka.address,
            self.prefix,
            self.scene.folder().display(),
            self.scene.folder().display(),
        );
        if role == Role::Worker {
            yaml.push_str(&format!("coordinators: [{}]\n", self.coordinators.join(", ")));
            yaml.push_str(&format!("labels: {{{labels}}}\n"));
        }
        let spec = self.scene.folder().join(format!("{name}.yaml"));
        fs::write(&spec, yaml).expect("the folder can be written");
        self.nodes.insert(name.into(), Node { role, spec, address, http, process: None });
        self.begin(name);
    }

    /// Starts the process of a node, again after it has ended.
    ///
    /// # Panics
    /// When it does not start.
    pub fn begin(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).expect("a node of that name");
        let command = match node.role {
            Role::Coordinator => "coordinator",
            Role::Worker => "worker",
        };
        let spec = node.spec.to_str().expect("UTF-8").to_owned();
        let arguments = [command, "--config", &spec];
        let environment = [(SECRET, PASSWORD)];
        let mut process = Distributary::start_in(self.scene.folder(), &arguments, &environment);
        process.await_log(
            match node.role {
                Role::Coordinator => "node starts",
                Role::Worker => "worker listens",
            },
            BEGIN_MAX,
        );
        node.process = Some(process);
    }

    fn process(&mut self, name: &str) -> &mut Distributary {
        let node = self.nodes.get_mut(name).expect("a node of that name");
        node.process.as_mut().expect("a running node")
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, name: &str) {
        let node = self.nodes.get_mut(name).expect("a node of that name");
        node.process.take().expect("a running node").kill();
    }

    /// Sends a signal: `STOP`, `CONT`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&mut self, name: &str, signal: Signal) {
        self.process(name).signal(signal);
    }

    /// SIGTERM, and waits until it has ended.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn end(&mut self, name: &str) -> Ended {
        let node = self.nodes.get_mut(name).expect("a node of that name");
        let process = node.process.take().expect("a running node");
        process.signal(Signal::TERM);
        let ended = process.wait(CALL_MAX);
        ended.expect(0);
        ended
    }

    /// Names of the nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let runs = |node: &Node| node.process.is_some();
        self.nodes.iter().filter(|(_, node)| runs(node)).map(|(name, _)| name.clone()).collect()
    }

    /// Log of a node that runs.
    #[must_use]
    pub fn log(&mut self, name: &str) -> String {
        self.process(name).log()
    }

    /// Where the status page of a node is.
    #[must_use]
    pub fn http(&self, name: &str) -> String {
        self.nodes[name].http.clone()
    }

    /// The scene's spec, whose password is a reference.
    #[must_use]
    pub fn spec(&self) -> Spec {
        self.scene.spec().user(ROLE, Some(&format!("${{env:{SECRET}}}")))
    }

    /// Calls the command line with all coordinators.
    #[must_use]
    pub fn call(&self, arguments: &[&str]) -> Ended {
        let coordinators = self.coordinators.join(",");
        let mut all = arguments.to_vec();
        all.extend(["--coordinator", &coordinators]);
        Distributary::start(self.scene.folder(), &all).wait(CALL_MAX)
    }

    /// Applies the spec and starts the task.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply(&self, spec: &Spec) {
        let path = spec.write(self.scene.folder());
        let path = path.to_str().expect("UTF-8");
        self.call(&["task", "apply", path]).expect(0);
        self.call(&["task", "start", spec.task()]).expect(0);
    }

    /// What `task status -o json` says.
    ///
    /// # Panics
    /// When it says no JSON.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        let ended = self.ask_status();
        ended.expect(0);
        serde_json::from_str(&ended.stdout).expect("JSON")
    }

    fn ask_status(&self) -> Ended {
        self.call(&["task", "status", &self.scene.name, "-o", "json"])
    }

    /// Waits until the task's status is as it shall be.
    ///
    /// # Panics
    /// When it is not in time.
    pub fn await_status(
        &self,
        what: &str,
        longest: Duration,
        is: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut last = serde_json::Value::Null;
        await_true(what, longest, || {
            // A coordinator that has just begun does not know the task yet.
            let ended = self.ask_status();
            if ended.code != Some(0) {
                return false;
            }
            last = serde_json::from_str(&ended.stdout).expect("JSON");
            is(&last)
        });
        last
    }

    /// Address of a node's gRPC.
    #[must_use]
    pub fn address(&self, name: &str) -> String {
        self.nodes[name].address.clone()
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // Paused ones cannot be waited for.
        for node in self.nodes.values() {
            if let Some(process) = &node.process {
                process.signal(Signal::CONT);
            }
        }
        self.nodes.clear();
        let prefix = &self.prefix;
        crate::topics::delete(&self.scene.kafka, |topic| topic.starts_with(prefix.as_str()));
    }
}

/// An address where nobody listens.
#[must_use]
pub fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Suites run side by side: each begins elsewhere.
        let offset = (std::process::id() as u16).wrapping_mul(31);
        let count = PORTS.end - PORTS.start;
        let port = PORTS.start + offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}
