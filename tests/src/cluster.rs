//! A cluster of real processes: coordinators and workers, each with a spec of its own.
//!
//! `ask`: what is said to it by the command line.

mod ask;

use crate::process::{Distributary, Ended};
use crate::scene::Scene;
use crate::seed::unique;
use crate::site::Site;
use crate::sql::{PASSWORD, ROLE};
use crate::task::Spec;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable that holds the password of the source.
const SECRET: &str = "DISTRIBUTARY_SECRET_SOURCE";
/// How long one call of the command line may take, in a debug build on a busy machine.
const CALL_MAX: Duration = Duration::from_secs(120);
/// How long a process may take to say that it has begun.
const BEGIN_MAX: Duration = Duration::from_secs(120);

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
    site: Site<'a>,
    /// Where nodes have their spool.
    disk: PathBuf,
    prefix: String,
    nodes: BTreeMap<String, Node>,
    coordinators: Vec<String>,
    /// Of nodes and calls, beside that of this process.
    environment: Vec<(String, String)>,
}

impl<'a> Cluster<'a> {
    /// `coordinators` coordinators `c1`, `c2`, … and as many workers `w1`, `w2`, …, on loopback.
    ///
    /// # Panics
    /// When a process does not start.
    #[must_use]
    pub fn start(scene: &'a Scene, coordinators: usize, workers: usize) -> Self {
        Self::start_on(scene, Site::Loopback, scene.folder(), coordinators, workers)
    }

    /// The same elsewhere; the spool of all nodes is on `disk`.
    ///
    /// # Panics
    /// When a process does not start.
    #[must_use]
    pub fn start_on(
        scene: &'a Scene,
        site: Site<'a>,
        disk: &Path,
        coordinators: usize,
        workers: usize,
    ) -> Self {
        let prefix = format!("cluster_{}", unique());
        // Workers are told of those that may come later, too.
        let addresses = (1..=3).map(|number| site.address(&format!("c{number}"))).collect();
        let mut cluster = Self {
            scene,
            site,
            disk: disk.to_owned(),
            prefix,
            nodes: BTreeMap::new(),
            coordinators: addresses,
            environment: Vec::new(),
        };
        (1..=coordinators).for_each(|it| cluster.add_coordinator(it));
        (1..=workers).for_each(|it| cluster.add_worker(&format!("w{it}")));
        cluster
    }

    /// Gives nodes that begin from now on, and calls, more environment.
    #[must_use]
    pub fn with_environment(mut self, variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment.extend(variables.iter().map(owned));
        self
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
        self.add(name, Role::Worker, self.site.address(name), "");
    }

    /// Starts another worker that has labels: `key: value`, with commas between them.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_labelled_worker(&mut self, name: &str, labels: &str) {
        self.add(name, Role::Worker, self.site.address(name), labels);
    }

    fn add(&mut self, name: &str, role: Role, address: String, labels: &str) {
        let http = self.site.http();
        let brokers = self.site.servers().map_or(&*self.scene.kafka.address, |it| it.1);
        let mut yaml = format!(
            "node: {name}\nlisten: {address}\nhttp: {http}\ncontrol:\n  brokers: [{brokers}]\n  \
             prefix: {}\ndata_dir: {}\nsecrets_dir: {}\n{}",
            self.prefix,
            self.disk.display(),
            self.scene.folder().display(),
            self.site.identity(name),
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
        let more = self.environment.iter().map(|(name, value)| (&**name, &**value));
        let environment: Vec<_> = more.chain([(SECRET, PASSWORD)]).collect();
        let launcher = self.site.launcher(name);
        let mut process =
            Distributary::start_by(&launcher, self.scene.folder(), &arguments, &environment);
        process.await_log(
            match node.role {
                Role::Coordinator => "node starts",
                Role::Worker => "worker listens",
            },
            BEGIN_MAX,
        );
        node.process = Some(process);
    }

    /// Ends a node, and begins it again as one of a release that speaks protocols up to `protocol_max`; of this release,
    /// where that is not said.
    ///
    /// # Panics
    /// When it does not end well, or does not start.
    pub fn renew(&mut self, name: &str, protocol_max: Option<u32>) {
        self.end(name);
        let spec = &self.nodes[name].spec;
        let yaml = fs::read_to_string(spec).expect("its spec can be read");
        let kept = yaml.lines().filter(|line| !line.starts_with("protocol_max:"));
        let limit = protocol_max.map(|newest| format!("protocol_max: {newest}"));
        let lines: Vec<_> = kept.map(str::to_owned).chain(limit).collect();
        fs::write(spec, lines.join("\n") + "\n").expect("the folder can be written");
        self.begin(name);
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
        self.ids().into_keys().collect()
    }

    /// Process of each node that runs.
    #[must_use]
    pub fn ids(&self) -> BTreeMap<String, u32> {
        let id = |(name, node): (&String, &Node)| Some((name.clone(), node.process.as_ref()?.id()));
        self.nodes.iter().filter_map(id).collect()
    }

    /// Nobody has ended by itself.
    ///
    /// # Panics
    /// When somebody has, with its log.
    pub fn assert_alive(&mut self) {
        for (name, node) in &mut self.nodes {
            if let Some(process) = &mut node.process {
                assert!(!process.has_ended(), "{name} has ended by itself:\n{}", process.log());
            }
        }
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
        self.spec_of(self.scene)
    }

    /// The same of another scene, on the same servers.
    #[must_use]
    pub fn spec_of(&self, scene: &Scene) -> Spec {
        let spec = scene.spec().user(ROLE, Some(&format!("${{env:{SECRET}}}")));
        match self.site.servers() {
            Some((database, brokers)) => spec.hosts(database).brokers(brokers),
            None => spec,
        }
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
