//! The service that workers join: checks who they are and carries what they say to the desk.

use super::desk::{Handle, Heard, Join, Outward, Request};
use crate::membership::Registration;
use rpc::v1::cluster_server::Cluster;
use rpc::v1::worker_message::Message;
use rpc::v1::{CoordinatorMessage, Register, WorkerMessage};
use rpc::{Code, Error, Principal, Protocols};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request as Call, Response, Status, Streaming};
use tracing::warn;

/// Messages that a worker may leave unread: beats and hints, which can be lost.
const UNREAD_MAX: usize = 64;
/// A stream that says nothing at first is given up.
const FIRST_MAX: Duration = Duration::from_secs(5);
const LABELS_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 256;

#[derive(Clone)]
pub(super) struct Service {
    handle: Handle,
    protocols: Protocols,
    /// Connections in the order of their coming.
    connections: Arc<AtomicU64>,
}

impl Service {
    pub(super) fn new(handle: Handle, protocols: Protocols) -> Self {
        Self { handle, protocols, connections: Arc::default() }
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    type JoinStream = ReceiverStream<Result<CoordinatorMessage, Status>>;

    async fn join(
        &self,
        call: Call<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let principal = Principal::of(&call)?.clone();
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (outward, stream) = mpsc::channel(UNREAD_MAX);
        let caller = Caller { principal, protocols: self.protocols, connection };
        tokio::spawn(hear(self.handle.clone(), caller, call.into_inner(), outward));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Who has opened a stream to whom.
struct Caller {
    principal: Principal,
    /// What this coordinator speaks.
    protocols: Protocols,
    connection: u64,
}

/// All that comes over one stream.
async fn hear(
    handle: Handle,
    Caller { principal, protocols, connection }: Caller,
    mut inward: Streaming<WorkerMessage>,
    outward: Outward,
) {
    let first = tokio::select! {
        first = tokio::time::timeout(FIRST_MAX, inward.message()) => first,
        () = outward.closed() => return,
        () = handle.stop.cancelled() => return,
    };
    let registered = match first {
        Ok(Ok(Some(WorkerMessage { message: Some(Message::Register(register)) }))) => {
            admit(&principal, protocols, register)
        }
        Ok(Ok(_)) => Err(Error::new(Code::Argument, "the first message must be `Register`", "")),
        Ok(Err(_)) => return,
        Err(_) => Err(Error::new(Code::Argument, "no `Register` came in time", "")),
    };
    let (node, registration, protocol) = match registered {
        Ok(registered) => registered,
        Err(error) => {
            warn!(%error, %principal, "worker refused");
            let _ = outward.try_send(Err(error.into()));
            return;
        }
    };
    let ended = CancellationToken::new();
    let say = |said| {
        let request = Request::Heard { node: node.clone(), connection, said };
        handle.requests.send(request)
    };
    // From here on the desk alone holds the way out, and ends the stream by dropping it.
    let join = Join { registration, protocol, outward, ended: ended.clone().drop_guard() };
    if say(Heard::Join(join)).await.is_err() {
        return;
    }
    loop {
        let message = tokio::select! {
            message = inward.message() => message,
            () = ended.cancelled() => return,
        };
        let said = match message {
            Ok(Some(WorkerMessage { message: Some(Message::Beat(beat)) })) => Heard::Beat(beat),
            Ok(Some(WorkerMessage { message: Some(Message::Task(report)) })) => {
                Heard::Report(Box::new(report))
            }
            Ok(Some(WorkerMessage { message: Some(Message::Tables(seen)) })) => {
                Heard::Tables(Box::new(seen))
            }
            Ok(Some(WorkerMessage { message: Some(Message::Leaving(_)) })) => Heard::Leaving,
            Ok(Some(WorkerMessage { message: Some(Message::Register(_)) })) => Heard::Again,
            // Of a later release.
            Ok(Some(WorkerMessage { message: None })) => continue,
            Ok(None) | Err(_) => break,
        };
        if say(said).await.is_err() {
            return;
        }
    }
    let _ = say(Heard::Closed).await;
}

/// Who registers, if it is who it says and we can talk.
fn admit(
    principal: &Principal,
    ours: Protocols,
    register: Register,
) -> Result<(String, Registration, u32), Error> {
    let Register { protocol_min: min, protocol_max: max, version, node, address, labels } =
        register;
    principal.claims(&node)?;
    let protocol = ours.negotiate(Protocols { min, max })?;
    let refuse = |cause: String| Err(Error::new(Code::Argument, cause, ""));
    let is_address = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if node.is_empty() || !is_address {
        return refuse(format!("worker `{node}` cannot be reached at `{address}`: no host:port"));
    }
    let is_long = |it: &String| TEXT_BYTES_MAX < it.len();
    let has_long = labels.iter().any(|(key, value)| is_long(key) || is_long(value));
    let is_wordy = LABELS_MAX < labels.len() || has_long;
    if is_wordy || [&node, &address, &version].into_iter().any(is_long) {
        return refuse(format!("worker `{node}` says too much of itself"));
    }
    Ok((node, Registration { address, labels, ver: version }, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpc::identity::{Identity, Role};
    use rpc::{PROTOCOL_MAX, Who};

    fn code(node: &str, address: &str, protocol: u32) -> Option<Code> {
        let who = Who::Certificate(Identity::new("w1", Role::Worker));
        let principal = Principal { who, address: None };
        let register = Register {
            protocol_min: protocol,
            protocol_max: protocol,
            node: node.into(),
            address: address.into(),
            ..Register::default()
        };
        admit(&principal, Protocols::OURS, register).err().map(|it| it.code)
    }

    #[test]
    fn a_worker_must_be_who_it_says_and_reachable_and_understood() {
        assert_eq!(code("w1", "w1:7420", PROTOCOL_MAX), None);
        assert_eq!(code("w2", "w2:7420", PROTOCOL_MAX), Some(Code::Name));
        assert_eq!(code("w1", "w1:7420", PROTOCOL_MAX + 1), Some(Code::Protocol));
        for address in ["", "w1", "w1:", ":7420", "w1:0"] {
            assert_eq!(code("w1", address, PROTOCOL_MAX), Some(Code::Argument), "{address}");
        }
    }
}
