//! Services that remember who called.

use crate::authority::Authority;
use bytes::Bytes;
use rpc::identity::Role;
use rpc::v1::admin_server::Admin;
use rpc::v1::cluster_server::Cluster;
use rpc::v1::lane_down::Message as Down;
use rpc::v1::lane_up::Message as Up;
use rpc::v1::link_server::Link;
use rpc::v1::*;
use rpc::{Code, Error, Principal, Protocols, Server, Services, Tls, Tokens};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const VIEWER: &str = "b";
pub(crate) const ADMIN: &str = "a";

/// Ann may read, Bob may do everything.
pub(crate) fn tokens() -> Tokens {
    let text = "tokens:
- {name: bob, role: admin, sha256: ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb}
- {name: ann, role: viewer, sha256: 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d}
";
    Tokens::new(&config::Tokens::parse(text).expect("parses"))
}

/// All services; they note who got through.
#[derive(Clone, Debug, Default)]
struct Fakes(Arc<Mutex<Vec<String>>>);

impl Fakes {
    fn note<T>(&self, request: &Request<T>) -> Result<Principal, Error> {
        let principal = Principal::of(request)?;
        self.0.lock().expect("not poisoned").push(principal.to_string());
        Ok(principal.clone())
    }
}

/// A server of a test; ends with it.
pub(crate) struct Running {
    pub(crate) address: String,
    fakes: Fakes,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// `w1` or `c1`, with TLS and tokens.
    pub(crate) async fn start(ca: &Authority, role: Role) -> Self {
        let name = if role == Role::Worker { "w1" } else { "c1" };
        Self::with(&ca.node(name, role)).await
    }

    pub(crate) async fn with(tls: &Tls) -> Self {
        let server = Server::bind("127.0.0.1:0", Some(tls), Some(tokens())).await;
        Self::serve(server.expect("listens"))
    }

    pub(crate) async fn plain(tokens: Option<Tokens>) -> Self {
        Self::serve(Server::bind("127.0.0.1:0", None, tokens).await.expect("listens"))
    }

    fn serve(server: Server) -> Self {
        let fakes = Fakes::default();
        let address = server.address().to_string();
        let services =
            Services::new().link(fakes.clone()).cluster(fakes.clone()).admin(fakes.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.serve(services, async {
            let _ = stopped.await;
        }));
        Self { address, fakes, stop, serving }
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.fakes.0.lock().expect("not poisoned").clone()
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.serving.await.expect("no panic").expect("ends well");
    }
}

/// Passes bytes on in both directions until it is told to be silent; closes nothing then.
pub(crate) async fn passage(to: &str) -> (String, oneshot::Sender<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("an address").to_string();
    let (silence, silenced) = oneshot::channel::<()>();
    let to = to.to_owned();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.expect("accepted");
        let mut far = tokio::net::TcpStream::connect(to).await.expect("connected");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = silenced => std::future::pending().await,
        }
    });
    (address, silence)
}

/// Sends what it has and never ends.
pub(crate) struct Unended(pub(crate) Option<Bytes>);

impl http_body::Body for Unended {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0
            .take()
            .map_or(Poll::Pending, |head| Poll::Ready(Some(Ok(http_body::Frame::data(head)))))
    }
}

/// How an answer ended.
pub(crate) async fn status(response: http::Response<tonic::body::Body>) -> Status {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let mut body = response.into_body();
    loop {
        let frame = std::future::poll_fn(|context| {
            http_body::Body::poll_frame(Pin::new(&mut body), context)
        });
        let frame = frame.await.expect("trailers").expect("a frame");
        if let Some(trailers) = frame.trailers_ref() {
            return Status::from_header_map(trailers).expect("a status");
        }
    }
}

#[tonic::async_trait]
impl Link for Fakes {
    type LaneStream = ReceiverStream<Result<LaneUp, Status>>;
    type StageStream = ReceiverStream<Result<StageUp, Status>>;
    type ChunksStream = ReceiverStream<Result<ChunksUp, Status>>;

    async fn hand_over(
        &self,
        request: Request<HandOverRequest>,
    ) -> Result<Response<HandOverResponse>, Status> {
        let principal = self.note(&request)?;
        principal.claims(&request.get_ref().owner)?;
        Ok(Response::new(HandOverResponse {}))
    }

    async fn stage(
        &self,
        request: Request<Streaming<StageDown>>,
    ) -> Result<Response<Self::StageStream>, Status> {
        self.note(&request)?;
        let (_, answers) = tokio::sync::mpsc::channel(1);
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn chunks(
        &self,
        request: Request<Streaming<ChunksDown>>,
    ) -> Result<Response<Self::ChunksStream>, Status> {
        self.note(&request)?;
        let (_, answers) = tokio::sync::mpsc::channel(1);
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn lane(
        &self,
        request: Request<Streaming<LaneDown>>,
    ) -> Result<Response<Self::LaneStream>, Status> {
        let principal = self.note(&request)?;
        let mut down = request.into_inner();
        let (up, answers) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let answer = match down.message().await {
                    Err(status) => Err(status),
                    Ok(None) => return,
                    Ok(Some(LaneDown { message: Some(Down::Open(open)) })) => {
                        let admitted =
                            principal.claims(&open.owner).and_then(|()| rpc::speaks(open.protocol));
                        let opened = LaneUp { message: Some(Up::Opened(Opened::default())) };
                        admitted.map(|_| opened).map_err(Status::from)
                    }
                    Ok(Some(_)) => continue,
                };
                if up.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tonic::async_trait]
impl Cluster for Fakes {
    type JoinStream = ReceiverStream<Result<CoordinatorMessage, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let principal = self.note(&request)?;
        let first = request.into_inner().message().await?.and_then(|first| first.message);
        let Some(worker_message::Message::Register(register)) = first else {
            return Err(Error::new(Code::Argument, "no `Register`", "").into());
        };
        principal.claims(&register.node)?;
        let theirs = Protocols { min: register.protocol_min, max: register.protocol_max };
        let welcome = Welcome { protocol: rpc::negotiate(theirs)?, ..Welcome::default() };
        let message = Some(coordinator_message::Message::Welcome(welcome));
        let (down, answers) = tokio::sync::mpsc::channel(1);
        let _ = down.send(Ok(CoordinatorMessage { message })).await;
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

type Pending<T> = tokio_stream::Pending<Result<T, Status>>;

fn unused() -> Status {
    Error::new(Code::Unsupported, "not in this test", "").into()
}

#[tonic::async_trait]
impl Admin for Fakes {
    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        self.note(&request)?;
        Ok(Response::new(ListTasksResponse::default()))
    }

    async fn start_task(
        &self,
        request: Request<StartTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        self.note(&request)?;
        match request.get_ref().task.as_str() {
            "shop" => Ok(Response::new(TaskChanged::default())),
            "long" => {
                let problem = config::Problem {
                    line: 1,
                    path: "objects[0].table".into(),
                    text: "ä".repeat(200),
                };
                let mut error = Error::spec(config::Problems(vec![problem; 50]));
                error.cause = "ä".repeat(5000);
                Err(error.into())
            }
            _ => Err(Error::not_leader(Some("c2:7420".into())).into()),
        }
    }

    async fn apply_task(
        &self,
        _: Request<ApplyTaskRequest>,
    ) -> Result<Response<ApplyTaskResponse>, Status> {
        Err(unused())
    }

    async fn get_task(
        &self,
        _: Request<GetTaskRequest>,
    ) -> Result<Response<GetTaskResponse>, Status> {
        Err(unused())
    }

    type WatchTaskStream = Pending<WatchTaskResponse>;

    async fn watch_task(
        &self,
        _: Request<WatchTaskRequest>,
    ) -> Result<Response<Self::WatchTaskStream>, Status> {
        Err(unused())
    }

    async fn suspend_task(
        &self,
        _: Request<SuspendTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        Err(unused())
    }

    async fn resume_task(
        &self,
        _: Request<ResumeTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        Err(unused())
    }

    async fn restart_task(
        &self,
        _: Request<RestartTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        Err(unused())
    }

    async fn release_task(
        &self,
        _: Request<ReleaseTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        Err(unused())
    }

    async fn reseed_task(
        &self,
        _: Request<ReseedTaskRequest>,
    ) -> Result<Response<TaskChanged>, Status> {
        Err(unused())
    }

    async fn snapshot_task(
        &self,
        _: Request<SnapshotTaskRequest>,
    ) -> Result<Response<SnapshotTaskResponse>, Status> {
        Err(unused())
    }

    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        Err(unused())
    }

    type WatchClusterStream = Pending<WatchClusterResponse>;

    async fn watch_cluster(
        &self,
        _: Request<WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        Err(unused())
    }

    async fn drain_node(
        &self,
        _: Request<DrainNodeRequest>,
    ) -> Result<Response<NodeChanged>, Status> {
        Err(unused())
    }

    async fn uncordon_node(
        &self,
        _: Request<UncordonNodeRequest>,
    ) -> Result<Response<NodeChanged>, Status> {
        Err(unused())
    }

    async fn move_lane(
        &self,
        _: Request<MoveLaneRequest>,
    ) -> Result<Response<MoveLaneResponse>, Status> {
        Err(unused())
    }

    async fn set_connection(
        &self,
        _: Request<SetConnectionRequest>,
    ) -> Result<Response<SetConnectionResponse>, Status> {
        Err(unused())
    }

    async fn list_connections(
        &self,
        _: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        Err(unused())
    }

    async fn remove_connection(
        &self,
        _: Request<RemoveConnectionRequest>,
    ) -> Result<Response<RemoveConnectionResponse>, Status> {
        Err(unused())
    }
}
