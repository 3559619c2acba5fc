//! A coordinator that answers as it was told, and remembers what it was asked.

use rpc::v1::admin_server::Admin;
use rpc::v1::*;
use rpc::{Error, Principal, Server, Services, Tokens};
use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

pub(crate) const ADMIN: &str = "a";
pub(crate) const VIEWER: &str = "b";

/// The spec in force.
pub(crate) const APPLIED: &str = "version: 1
task: shop
source:
  hosts:
  - db1:5432
  database: shop
  user: distributary
  password: ${env:DISTRIBUTARY_SECRET_SHOP}
sink:
  brokers:
  - k1:9092
objects:
- table: public.*
";

/// Bob may do everything, Ann may read.
pub(crate) fn tokens() -> Tokens {
    let text = "tokens:
- {name: bob, role: admin, sha256: ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb}
- {name: ann, role: viewer, sha256: 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d}
";
    Tokens::new(&config::Tokens::parse(text).expect("parses"))
}

/// What a fake knows and was told.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// So many looks find a coordinator that has just begun.
    pub(crate) starting: usize,
    /// Changes are refused with this.
    pub(crate) refuse: Option<Error>,
    /// What a dry run says, and `apply` after it.
    pub(crate) plan: Plan,
    pub(crate) cluster: ClusterView,
    /// What watching shows, one after the other.
    pub(crate) watched: Vec<Task>,
    pub(crate) connections: Vec<Connection>,
    /// Who asked for what.
    pub(crate) said: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(Arc<Mutex<Script>>);

/// A coordinator of a test; ends with it.
pub(crate) struct Running {
    pub(crate) address: String,
    fake: Fake,
    _runtime: Runtime,
}

impl Running {
    pub(crate) fn start(tokens: Option<Tokens>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = runtime.block_on(Server::bind("127.0.0.1:0", None, tokens)).expect("listens");
        let address = server.address().to_string();
        let fake = Fake::default();
        fake.0.lock().expect("not poisoned").cluster = cluster(&address);
        runtime.spawn(server.serve(Services::new().admin(fake.clone()), std::future::pending()));
        Self { address, fake, _runtime: runtime }
    }

    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.fake.0.lock().expect("not poisoned"));
    }

    /// Who asked for what, but for the question who leads.
    pub(crate) fn said(&self) -> Vec<String> {
        let mut said = self.fake.0.lock().expect("not poisoned").said.clone();
        said.retain(|line| !line.starts_with("ClusterStatus"));
        said
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        distributary(&[&["--coordinator", &self.address], arguments].concat())
    }
}

/// The binary; options of a cluster stand behind its first word.
pub(crate) fn distributary(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary can be run")
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let options =
        arguments.iter().position(|word| ["task", "cluster", "connection"].contains(word));
    let (options, words) = arguments.split_at(options.expect("a command of a cluster"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_distributary"));
    command.args(words).args(options);
    for name in ["LOG", "COORDINATOR", "TOKEN_FILE", "CA", "CERT", "KEY"] {
        command.env_remove(format!("DISTRIBUTARY_{name}"));
    }
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// In front, two lanes, on two workers.
pub(crate) fn task(state: &str) -> Task {
    let lane = |lane, node: &str, position| LaneReport {
        lane,
        node: node.into(),
        state: "running".into(),
        position,
        records: 1200,
    };
    Task {
        name: "shop".into(),
        labels: BTreeMap::from([("environment".into(), "production".into())]),
        revision: 3,
        wanted: "running".into(),
        placement: Some(placement()),
        report: Some(TaskReport {
            task: "shop".into(),
            placement_rev: 7,
            state: state.into(),
            phase: "incremental".into(),
            watermark_lsn: 0x016B_3748,
            retained_bytes: 12 << 20,
            latency_ms: Some(35),
            records: 2400,
            rate: 1234.0,
            retries: 2,
            lanes: vec![
                lane(0, "w1", Some(Position { commit_lsn: 0x016B_3748, ordinal: 4 })),
                lane(1, "w2", None),
            ],
            tables: vec![
                table("orders", "reading", 1_500_000, 3_000_000),
                table("items", "waiting", 0, 0),
                table("shops", "done", 12, 12),
            ],
            tables_count: 3,
            tables_over: 1,
            snapshot_rate: 30_000.0,
            ..TaskReport::default()
        }),
    }
}

fn table(name: &str, state: &str, rows: u64, estimated: u64) -> TableReport {
    TableReport {
        schema: "public".into(),
        table: name.into(),
        snapshot: "1-77".into(),
        state: state.into(),
        rows,
        bytes: 100 * rows,
        rows_estimated: estimated,
        rate: if state == "reading" { 30_000.0 } else { 0.0 },
        left_ms: (state == "reading").then_some(50_000),
        ..TableReport::default()
    }
}

fn placement() -> Placement {
    Placement {
        placement_rev: 7,
        reader: "w1".into(),
        decoder: "w1".into(),
        router: "w1".into(),
        lanes: vec!["w1".into(), "w3".into()],
        snapshot: Vec::new(),
    }
}

fn cluster(address: &str) -> ClusterView {
    let node = |name: &str, role: &str, state: &str, address: &str| Node {
        name: name.into(),
        role: role.into(),
        address: address.into(),
        version: "0.1.0".into(),
        state: state.into(),
        ..Node::default()
    };
    let worker = Node { fronts: 1, lanes: 2, ..node("w1", "worker", "alive", "w1:7420") };
    ClusterView {
        leader: "c1".into(),
        term: 12,
        nodes: vec![node("c1", "coordinator", "leader", address), worker],
        tasks: vec![task("synchronizing")],
    }
}

impl Fake {
    fn note<T: std::fmt::Debug>(&self, method: &str, request: &Request<T>) {
        let who = Principal::of(request).expect("through the guard").who.clone();
        let who = match who {
            rpc::Who::Token { name, .. } => name,
            rpc::Who::Local => "local".into(),
            rpc::Who::Certificate(_) | rpc::Who::Unknown => "other".into(),
        };
        let line = format!("{method} by {who}: {:?}", request.get_ref());
        self.0.lock().expect("not poisoned").said.push(line);
    }

    fn look<T: std::fmt::Debug>(&self, name: &str, request: &Request<T>) -> Result<(), Status> {
        {
            let starting = &mut self.0.lock().expect("not poisoned").starting;
            if let Some(left) = starting.checked_sub(1) {
                *starting = left;
                return Err(Error::starting().into());
            }
        }
        self.note(name, request);
        Ok(())
    }

    fn change<T: std::fmt::Debug>(&self, name: &str, request: &Request<T>) -> Result<(), Status> {
        self.note(name, request);
        match &self.0.lock().expect("not poisoned").refuse {
            Some(error) => Err(error.clone().into()),
            None => Ok(()),
        }
    }

    fn ordered<T: std::fmt::Debug>(
        &self,
        name: &str,
        request: &Request<T>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.change(name, request)?;
        let notes = vec!["the slot holds 12 MiB of WAL".to_owned()];
        Ok(Response::new(TaskChanged { task: Some(task("prechecking")), notes }))
    }

    fn node<T: std::fmt::Debug>(
        &self,
        name: &str,
        request: &Request<T>,
    ) -> Result<Response<NodeChanged>, Status> {
        self.change(name, request)?;
        let node = self.0.lock().expect("not poisoned").cluster.nodes.last().cloned();
        Ok(Response::new(NodeChanged { node }))
    }
}

#[tonic::async_trait]
impl Admin for Fake {
    type WatchTaskStream = ReceiverStream<Result<WatchTaskResponse, Status>>;
    type WatchClusterStream = ReceiverStream<Result<WatchClusterResponse, Status>>;

    async fn apply_task(
        &self,
        request: Request<ApplyTaskRequest>,
    ) -> Result<Response<ApplyTaskResponse>, Status> {
        self.change("ApplyTask", &request)?;
        let plan = self.0.lock().expect("not poisoned").plan.clone();
        let revision = if request.get_ref().dry_run { 0 } else { 4 };
        Ok(Response::new(ApplyTaskResponse { plan: Some(plan), revision }))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        self.look("ListTasks", &request)?;
        let tasks = self.0.lock().expect("not poisoned").cluster.tasks.clone();
        Ok(Response::new(ListTasksResponse { tasks }))
    }

    async fn get_task(
        &self,
        request: Request<GetTaskRequest>,
    ) -> Result<Response<GetTaskResponse>, Status> {
        self.look("GetTask", &request)?;
        let name = &request.get_ref().task;
        if name != "shop" {
            return Err(Error::not_found("task", name).into());
        }
        let task = task("synchronizing");
        let change = |state: &str, since_unix_ms, cause: &str, by: &str| StateChange {
            state: state.into(),
            since_unix_ms,
            cause: cause.into(),
            by: by.into(),
        };
        let history = vec![
            change("not-configured", 1_700_000_000_000, "", "bob"),
            change("prechecking", 1_700_000_005_000, "", "bob"),
            change("retrying", 1_700_000_006_500, "connection refused", ""),
            change("synchronizing", 1_700_000_186_500, "", ""),
        ];
        Ok(Response::new(GetTaskResponse { task: Some(task), yaml: APPLIED.into(), history }))
    }

    async fn watch_task(
        &self,
        request: Request<WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        self.note("WatchTask", &request);
        let watched = self.0.lock().expect("not poisoned").watched.clone();
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        for task in watched {
            let message = WatchTaskResponse { task: Some(task) };
            sender.try_send(Ok(message)).expect("it has a place");
        }
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn start_task(
        &self,
        request: Request<StartTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.ordered("StartTask", &request)
    }

    async fn suspend_task(
        &self,
        request: Request<SuspendTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.ordered("SuspendTask", &request)
    }

    async fn resume_task(
        &self,
        request: Request<ResumeTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.ordered("ResumeTask", &request)
    }

    async fn restart_task(
        &self,
        request: Request<RestartTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.ordered("RestartTask", &request)
    }

    async fn release_task(
        &self,
        request: Request<ReleaseTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.ordered("ReleaseTask", &request)
    }

    async fn reseed_task(
        &self,
        request: Request<ReseedTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.ordered("ReseedTask", &request)
    }

    async fn snapshot_task(
        &self,
        request: Request<SnapshotTaskRequest>,
    ) -> Result<Response<SnapshotTaskResponse>, Status> {
        self.change("SnapshotTask", &request)?;
        Ok(Response::new(SnapshotTaskResponse { snapshot: "s-9".into() }))
    }

    async fn cluster_status(
        &self,
        request: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        self.look("ClusterStatus", &request)?;
        let cluster = self.0.lock().expect("not poisoned").cluster.clone();
        Ok(Response::new(ClusterStatusResponse { cluster: Some(cluster) }))
    }

    async fn watch_cluster(
        &self,
        request: Request<WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        self.note("WatchCluster", &request);
        Err(Status::unimplemented("not in this test"))
    }

    async fn drain_node(
        &self,
        request: Request<DrainNodeRequest>,
    ) -> Result<Response<NodeChanged>, Status> {
        self.node("DrainNode", &request)
    }

    async fn uncordon_node(
        &self,
        request: Request<UncordonNodeRequest>,
    ) -> Result<Response<NodeChanged>, Status> {
        self.node("UncordonNode", &request)
    }

    async fn move_lane(
        &self,
        request: Request<MoveLaneRequest>,
    ) -> Result<Response<MoveLaneResponse>, Status> {
        self.change("MoveLane", &request)?;
        Ok(Response::new(MoveLaneResponse { placement: Some(placement()) }))
    }

    async fn set_connection(
        &self,
        request: Request<SetConnectionRequest>,
    ) -> Result<Response<SetConnectionResponse>, Status> {
        self.change("SetConnection", &request)?;
        Ok(Response::new(SetConnectionResponse { created: true, tasks: vec![] }))
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        self.note("ListConnections", &request);
        let connections = self.0.lock().expect("not poisoned").connections.clone();
        Ok(Response::new(ListConnectionsResponse { connections }))
    }

    async fn remove_connection(
        &self,
        request: Request<RemoveConnectionRequest>,
    ) -> Result<Response<RemoveConnectionResponse>, Status> {
        self.change("RemoveConnection", &request)?;
        Ok(Response::new(RemoveConnectionResponse {}))
    }
}
