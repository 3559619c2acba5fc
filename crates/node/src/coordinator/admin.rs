//! The service for people: carries orders to the desk, and what the desk sees back.
//!
//! Every change is a line of the audit log: target and message are `audit`.

use super::desk::{Desk, Handle};
use super::orders::{Done, Order};
use super::watch::watch;
use crate::link::trace;
use crate::task_state;
use rpc::v1::admin_server::Admin;
use rpc::v1::*;
use rpc::{Error, Principal};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::info;

pub(super) struct Service {
    handle: Handle,
}

impl Service {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    /// Has the leader carry out an order, and writes the line.
    async fn change<T>(
        &self,
        call: &'static str,
        object: &str,
        request: &Request<T>,
        order: Order,
    ) -> Result<Done, Status>
    where
        T: Sync,
    {
        let principal = Principal::of(request)?.clone();
        let by = Principal { address: None, ..principal.clone() }.to_string();
        let mut span = trace::serve("admin.call", request)
            .with("rpc.method", call)
            .with("object", object.to_owned());
        let ordered = span.child("coordinator.order");
        let result = self.handle.order(order, by).await;
        drop(ordered);
        if let Err(error) = &result {
            span.fail(error.cause.clone());
        }
        match &result {
            Ok(done) => {
                let revision = done.revision;
                info!(target: "audit", %principal, call, object, revision, outcome = "done", "audit");
            }
            Err(error) => {
                let (code, reason) = (error.code.as_str_name(), error.cause.as_str());
                let outcome = "refused";
                info!(target: "audit", %principal, call, object, outcome, code, reason, "audit");
            }
        }
        Ok(result?)
    }

    async fn task_order<T: Sync>(
        &self,
        call: &'static str,
        request: &Request<T>,
        name: &str,
        order: task_state::Order,
        accept_gap: bool,
    ) -> Result<Response<TaskChanged>, Status> {
        let order = Order::Task { name: name.to_owned(), order, accept_gap };
        let Done { notes, .. } = self.change(call, name, request, order).await?;
        let name = name.to_owned();
        // A task that is gone has nothing to be seen.
        let task = self.handle.ask(move |desk| desk.view().task(&name).ok()).await?;
        Ok(Response::new(TaskChanged { task, notes }))
    }

    async fn node_order<T: Sync>(
        &self,
        call: &'static str,
        request: &Request<T>,
        node: &str,
        order: Order,
    ) -> Result<Response<NodeChanged>, Status> {
        self.change(call, node, request, order).await?;
        let node = node.to_owned();
        let node = self.handle.ask(move |desk| desk.view().worker(&node).ok()).await?;
        Ok(Response::new(NodeChanged { node }))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Admin for Service {
    type WatchTaskStream = ReceiverStream<Result<WatchTaskResponse, Status>>;
    type WatchClusterStream = ReceiverStream<Result<WatchClusterResponse, Status>>;

    async fn apply_task(&self, request: Request<ApplyTaskRequest>) -> Answer<ApplyTaskResponse> {
        let ApplyTaskRequest { yaml, dry_run } = request.get_ref().clone();
        if dry_run {
            let plan = self.handle.ask(move |desk| desk.preview(&yaml)).await??;
            return Ok(Response::new(ApplyTaskResponse { plan: Some(plan), revision: 0 }));
        }
        let name = task_name(&yaml);
        let order = Order::Apply { yaml };
        let Done { plan, revision, .. } = self.change("ApplyTask", &name, &request, order).await?;
        Ok(Response::new(ApplyTaskResponse { plan, revision }))
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        let tasks = self.handle.ask(|desk| desk.view().tasks()).await?;
        Ok(Response::new(ListTasksResponse { tasks }))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Answer<GetTaskResponse> {
        let GetTaskRequest { task: name } = request.into_inner();
        let look = move |desk: &Desk| {
            let task = desk.view().task(&name)?;
            let yaml = desk.cluster().tasks.get(&name).map(|it| it.as_applied().to_owned());
            let history = desk.view().history(&name);
            let (task, yaml) = (Some(task), yaml.unwrap_or_default());
            Ok::<_, Error>(GetTaskResponse { task, yaml, history })
        };
        Ok(Response::new(self.handle.ask(look).await??))
    }

    async fn watch_task(
        &self,
        request: Request<WatchTaskRequest>,
    ) -> Answer<Self::WatchTaskStream> {
        let WatchTaskRequest { task } = request.into_inner();
        let name = task.clone();
        self.handle.ask(move |desk| desk.view().task(&name)).await??;
        let stream = watch(self.handle.clone(), task, |desk, name| {
            let task = desk.view().task(name).ok();
            Ok(task.map(|task| WatchTaskResponse { task: Some(task) }))
        });
        Ok(Response::new(stream))
    }

    async fn start_task(&self, request: Request<StartTaskRequest>) -> Answer<TaskChanged> {
        let name = &request.get_ref().task;
        self.task_order("StartTask", &request, name, task_state::Order::Start, false).await
    }

    async fn suspend_task(&self, request: Request<SuspendTaskRequest>) -> Answer<TaskChanged> {
        let name = &request.get_ref().task;
        self.task_order("SuspendTask", &request, name, task_state::Order::Suspend, false).await
    }

    async fn resume_task(&self, request: Request<ResumeTaskRequest>) -> Answer<TaskChanged> {
        let name = &request.get_ref().task;
        self.task_order("ResumeTask", &request, name, task_state::Order::Resume, false).await
    }

    async fn restart_task(&self, request: Request<RestartTaskRequest>) -> Answer<TaskChanged> {
        let name = &request.get_ref().task;
        self.task_order("RestartTask", &request, name, task_state::Order::Restart, false).await
    }

    async fn release_task(&self, request: Request<ReleaseTaskRequest>) -> Answer<TaskChanged> {
        let name = &request.get_ref().task;
        self.task_order("ReleaseTask", &request, name, task_state::Order::Release, false).await
    }

    async fn reseed_task(&self, request: Request<ReseedTaskRequest>) -> Answer<TaskChanged> {
        let ReseedTaskRequest { task, accept_gap } = request.get_ref();
        let order = task_state::Order::Reseed;
        self.task_order("ReseedTask", &request, task, order, *accept_gap).await
    }

    async fn snapshot_task(
        &self,
        request: Request<SnapshotTaskRequest>,
    ) -> Answer<SnapshotTaskResponse> {
        let SnapshotTaskRequest { task: name, table, condition } = request.get_ref().clone();
        let object = format!("{name}: {table}");
        let order = Order::Snapshot { name, table, condition };
        let Done { snapshot, .. } = self.change("SnapshotTask", &object, &request, order).await?;
        Ok(Response::new(SnapshotTaskResponse { snapshot }))
    }

    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Answer<ClusterStatusResponse> {
        let cluster = Some(self.handle.ask(|desk| desk.view().cluster()).await?);
        Ok(Response::new(ClusterStatusResponse { cluster }))
    }

    async fn watch_cluster(
        &self,
        _: Request<WatchClusterRequest>,
    ) -> Answer<Self::WatchClusterStream> {
        self.handle.ask(|_| ()).await?;
        let stream = watch(self.handle.clone(), String::new(), |desk, _| {
            Ok(Some(WatchClusterResponse { cluster: Some(desk.view().cluster()) }))
        });
        Ok(Response::new(stream))
    }

    async fn drain_node(&self, request: Request<DrainNodeRequest>) -> Answer<NodeChanged> {
        let node = request.get_ref().node.clone();
        let order = Order::Drain { node: node.clone() };
        self.node_order("DrainNode", &request, &node, order).await
    }

    async fn uncordon_node(&self, request: Request<UncordonNodeRequest>) -> Answer<NodeChanged> {
        let node = request.get_ref().node.clone();
        let order = Order::Uncordon { node: node.clone() };
        self.node_order("UncordonNode", &request, &node, order).await
    }

    async fn move_lane(&self, request: Request<MoveLaneRequest>) -> Answer<MoveLaneResponse> {
        let MoveLaneRequest { task, lane, node } = request.get_ref().clone();
        let object =
            format!("{task}/{lane} to {}", if node.is_empty() { "another" } else { &node });
        let order = Order::MoveLane {
            task: task.clone(),
            lane: lane as usize,
            node: Some(node).filter(|it| !it.is_empty()),
        };
        self.change("MoveLane", &object, &request, order).await?;
        let placement = self.handle.ask(move |desk| desk.view().placement(&task)).await??;
        Ok(Response::new(MoveLaneResponse { placement: Some(placement) }))
    }

    async fn set_connection(
        &self,
        request: Request<SetConnectionRequest>,
    ) -> Answer<SetConnectionResponse> {
        let Connection { name, kind, yaml, .. } =
            request.get_ref().connection.clone().unwrap_or_default();
        let order = Order::SetConnection { name: name.clone(), kind, yaml };
        let Done { created, users: tasks, .. } =
            self.change("SetConnection", &name, &request, order).await?;
        Ok(Response::new(SetConnectionResponse { created, tasks }))
    }

    async fn list_connections(
        &self,
        _: Request<ListConnectionsRequest>,
    ) -> Answer<ListConnectionsResponse> {
        let connections = self.handle.ask(|desk| desk.view().connections()).await?;
        Ok(Response::new(ListConnectionsResponse { connections }))
    }

    async fn remove_connection(
        &self,
        request: Request<RemoveConnectionRequest>,
    ) -> Answer<RemoveConnectionResponse> {
        let name = request.get_ref().name.clone();
        let order = Order::RemoveConnection { name: name.clone() };
        self.change("RemoveConnection", &name, &request, order).await?;
        Ok(Response::new(RemoveConnectionResponse {}))
    }
}

/// Whose spec it is, for the audit log; `?` where it cannot be told.
fn task_name(yaml: &str) -> String {
    config::Task::parse(yaml).map_or_else(|_| "?".into(), |it| it.task)
}
