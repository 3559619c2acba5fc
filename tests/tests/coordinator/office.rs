//! Coordinators on threads of this process, workers that only say they work, and clients.

use config::{Node, Role};
use node::coordinator::{Timings, run_timed};
use node::{leader, membership};
use rpc::client::Bearer;
use rpc::v1::admin_client::AdminClient;
use rpc::v1::coordinator_message::Message as Down;
use rpc::v1::worker_message::Message as Up;
use rpc::v1::*;
use rpc::{Error, Expected, PROTOCOL_MAX, client};
use secrecy::SecretString;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::process::Distributary;
use tests::seed::unique;
use tests::servers::Server;
use tests::site::free_address;
use tests::topics;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub(crate) type Admin = AdminClient<InterceptedService<Channel, Bearer>>;

/// Anything that one machine must do on a busy day.
pub(crate) const SOON: Duration = Duration::from_secs(90);
const BEAT: Duration = Duration::from_millis(500);
/// After which a follower takes over.
const SILENCE: Duration = Duration::from_secs(4);

/// The order of times is that of the protocol; nobody waits as long. Of workers only the end of their
/// connection tells: no test waits for silence, and a busy machine makes some.
fn timings(silence: Duration) -> Timings {
    let leader = leader::Timing {
        silence,
        jitter_max: Duration::from_secs(1),
        heartbeat: Duration::from_secs(1),
        uncommitted_max: SILENCE,
        settling: Duration::from_secs(5),
        ..leader::Timing::default()
    };
    let (suspect, dead) = (SOON, 2 * SOON);
    let members = membership::Timing { suspect, dead, ..membership::Timing::default() };
    Timings { leader, members }
}

/// A control topic and the coordinators that share it.
pub(crate) struct Office {
    kafka: Server,
    prefix: String,
    folder: tempfile::TempDir,
    /// Lines that every node spec has.
    more: String,
    /// Of those that are started from now on.
    silence: Duration,
    coordinators: Vec<Coordinator>,
}

struct Coordinator {
    name: String,
    address: String,
    stop: CancellationToken,
    running: Option<(Runtime, JoinHandle<Result<(), node::coordinator::Error>>)>,
}

impl Office {
    pub(crate) fn new(coordinators: usize) -> Self {
        Self::with(coordinators, "", &[])
    }

    /// With more lines in the node specs, and files beside them.
    pub(crate) fn with(coordinators: usize, more: &str, files: &[(&str, &str)]) -> Self {
        let (kafka, prefix) = (Server::start("kafka"), format!("coordinator_{}", unique()));
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, mode).expect("its mode");
        }
        let (silence, more) = (SILENCE, more.into());
        let mut office = Self { kafka, prefix, folder, more, silence, coordinators: Vec::new() };
        office.add(coordinators);
        office
    }

    /// Coordinators that begin on a topic that nobody leads may lead one after the other; beside a
    /// leader they follow.
    pub(crate) fn add(&mut self, coordinators: usize) {
        for _ in 0..coordinators {
            let coordinator = self.start(&format!("c{}", self.coordinators.len() + 1));
            self.coordinators.push(coordinator);
        }
    }

    /// Adds one that waits for longer than any test does before it takes over from a silent leader.
    pub(crate) fn add_patient(&mut self) {
        self.silence = 10 * SOON;
        self.add(1);
        self.silence = SILENCE;
    }

    fn node(&self, name: &str, address: &str) -> String {
        format!(
            "node: {name}\nlisten: {address}\nhttp: 127.0.0.1:0\ncontrol: {{brokers: [\"{}\"], prefix: \
             {}}}\n{}",
            self.kafka.address, self.prefix, self.more
        )
    }

    /// A coordinator that is a process of its own, and its address.
    pub(crate) fn process(
        &self,
        name: &str,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> (Distributary, String) {
        let (address, path) = (free_address(), self.folder.path().join(format!("{name}.yaml")));
        std::fs::write(&path, self.node(name, &address)).expect("written");
        let words = ["coordinator", "--config", path.to_str().expect("text")];
        let words = [&words[..], options].concat();
        (Distributary::start_in(self.folder.path(), &words, environment), address)
    }

    fn start(&self, name: &str) -> Coordinator {
        let address = free_address();
        let spec = self.node(name, &address);
        let node = Node::parse(&spec, Role::Coordinator).expect("a node spec");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (stop, folder) = (CancellationToken::new(), PathBuf::from(self.folder.path()));
        let (stopped, timings) = (stop.clone(), timings(self.silence));
        let running =
            runtime.spawn(async move { run_timed(node, &folder, stopped, timings).await });
        Coordinator { name: name.into(), address, stop, running: Some((runtime, running)) }
    }

    /// Addresses of those that run.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let running = self.coordinators.iter().filter(|it| it.running.is_some());
        running.map(|it| it.address.clone()).collect()
    }

    pub(crate) fn address(&self, name: &str) -> String {
        let found = self.coordinators.iter().find(|it| it.name == name);
        found.expect("a coordinator of that name").address.clone()
    }

    /// As with `kill -9`.
    pub(crate) fn kill(&mut self, name: &str) {
        let it = self.coordinators.iter_mut().find(|it| it.name == name).expect("known");
        let (runtime, _) = it.running.take().expect("it runs");
        runtime.shutdown_background();
    }

    /// As with SIGTERM.
    pub(crate) async fn stop(&mut self, name: &str) {
        let it = self.coordinators.iter_mut().find(|it| it.name == name).expect("known");
        let (runtime, running) = it.running.take().expect("it runs");
        it.stop.cancel();
        running.await.expect("no panic").expect("ends well");
        runtime.shutdown_background();
    }

    /// Name of the leader that all who run agree on.
    pub(crate) async fn leader(&self) -> String {
        eventually("a leader", || self.leader_now()).await
    }

    async fn leader_now(&self) -> Option<String> {
        let mut leaders = Vec::new();
        for address in self.addresses() {
            let mut admin = admin(&address, Some("a")).await.ok()?;
            let status = admin.cluster_status(ClusterStatusRequest {}).await.ok()?;
            leaders.push(status.into_inner().cluster?.leader);
        }
        leaders.dedup();
        let one = leaders.pop().filter(|it| leaders.is_empty() && !it.is_empty())?;
        self.coordinators.iter().any(|it| it.name == one && it.running.is_some()).then_some(one)
    }

    /// The admin service of whoever leads at this moment.
    pub(crate) async fn at_leader_now(&self) -> Option<Admin> {
        let leader = self.leader_now().await?;
        admin(&self.address(&leader), Some("a")).await.ok()
    }

    /// The leader's admin service.
    pub(crate) async fn at_leader(&self) -> Admin {
        let leader = self.leader().await;
        admin(&self.address(&leader), Some("a")).await.expect("reachable")
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        for it in &mut self.coordinators {
            if let Some((runtime, _)) = it.running.take() {
                runtime.shutdown_background();
            }
        }
        // It has a runtime of its own, which cannot run on one.
        let (kafka, prefix) = (&self.kafka, &self.prefix);
        std::thread::scope(|scope| {
            scope.spawn(|| topics::delete(kafka, |name| name.starts_with(prefix)));
        });
    }
}

pub(crate) async fn admin(address: &str, token: Option<&str>) -> Result<Admin, Error> {
    let channel = client::connect(address, None, &Expected::Coordinator).await?;
    let token = token.map(SecretString::from);
    client::admin(channel, token.as_ref())
}

/// A worker that joins whoever leads and reports what it is told to; nothing runs on it.
pub(crate) struct Worker {
    reports: Arc<Mutex<Vec<TaskReport>>>,
    leaving: CancellationToken,
    life: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start(office: &Office, name: &str) -> Self {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let leaving = CancellationToken::new();
        let (addresses, name) = (office.addresses(), name.to_owned());
        let (said, leave) = (Arc::clone(&reports), leaving.clone());
        let life = tokio::spawn(async move {
            loop {
                for address in &addresses {
                    // It ends with an error, or since another one leads.
                    let _ = join(address, &name, &said, &leave).await;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { reports, leaving, life }
    }

    /// Says from now on how a task fares by its present placement.
    pub(crate) fn report(&self, task: &Task, state: &str, cause: &str) {
        let placement = task.placement.as_ref().expect("it is placed");
        let report = TaskReport {
            task: task.name.clone(),
            placement_rev: placement.placement_rev,
            state: state.into(),
            cause: cause.into(),
            records: 42,
            ..TaskReport::default()
        };
        *self.reports.lock().expect("not poisoned") = vec![report];
    }

    pub(crate) fn leave(&self) {
        self.leaving.cancel();
    }

    pub(crate) fn kill(&self) {
        self.life.abort();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.life.abort();
    }
}

fn up(message: Up) -> WorkerMessage {
    WorkerMessage { message: Some(message) }
}

/// What a worker says first.
pub(crate) fn register(name: &str, protocol: u32) -> WorkerMessage {
    up(Up::Register(Register {
        protocol_min: protocol,
        protocol_max: protocol,
        version: "test".into(),
        node: name.into(),
        address: format!("{name}:7420"),
        ..Register::default()
    }))
}

async fn join(
    address: &str,
    name: &str,
    reports: &Mutex<Vec<TaskReport>>,
    leaving: &CancellationToken,
) -> Result<(), Error> {
    let channel = client::connect(address, None, &Expected::Coordinator).await?;
    let (say, said) = mpsc::channel(16);
    let _ = say.send(register(name, PROTOCOL_MAX)).await;
    let down = client::cluster(channel).join(ReceiverStream::new(said)).await?;
    let mut down = down.into_inner();
    let mut beat = tokio::time::interval(BEAT);
    let mut seq = 0;
    let mut left = false;
    loop {
        tokio::select! {
            message = down.message() => match message? {
                Some(CoordinatorMessage { message: Some(Down::NotLeader(_)) }) | None => return Ok(()),
                Some(_) => {}
            },
            _ = beat.tick() => {
                seq += 1;
                let _ = say.send(up(Up::Beat(Beat { seq }))).await;
                let all = reports.lock().expect("not poisoned").clone();
                for report in all {
                    let _ = say.send(up(Up::Task(report))).await;
                }
                if leaving.is_cancelled() && !std::mem::replace(&mut left, true) {
                    let _ = say.send(up(Up::Leaving(Leaving {}))).await;
                }
            }
        }
    }
}

/// One stream of a worker that says `first`; what comes back.
pub(crate) async fn first_answer(
    address: &str,
    first: WorkerMessage,
) -> Result<Option<Down>, Error> {
    let channel = client::connect(address, None, &Expected::Coordinator).await?;
    let (say, said) = mpsc::channel(1);
    let _ = say.send(first).await;
    let down = client::cluster(channel).join(ReceiverStream::new(said)).await?;
    Ok(down.into_inner().message().await?.and_then(|it| it.message))
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < SOON, "waited {SOON:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
