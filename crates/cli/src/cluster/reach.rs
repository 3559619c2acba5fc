//! The way to a coordinator that can answer: over those that are named, and from a follower to the
//! leader.

use crate::arguments::Access;
use rpc::client::Bearer;
use rpc::v1::admin_client::AdminClient;
use rpc::{Code, Error, Expected, Tls, client, v1};
use secrecy::SecretString;
use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use telemetry::traces::Span;
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Response, Status};
use tracing::info;

/// More than any token.
const TOKEN_BYTES_MAX: u64 = 1024;
/// Between two looks for a leader.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) type Admin = AdminClient<InterceptedService<Channel, Bearer>>;

/// Coordinators, and what is shown to them.
#[derive(Debug)]
pub(crate) struct Reach {
    coordinators: Vec<String>,
    tls: Option<Tls>,
    token: Option<SecretString>,
    leader_wait: Duration,
}

/// What may be tried again elsewhere when an answer is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Call {
    /// As often as need be.
    Read,
    /// Once: it may have been done.
    Change,
}

impl Call {
    /// Why it is worth asking again after a pause: whoever refuses so has done nothing.
    fn awaits(self, code: Code) -> Option<&'static str> {
        match (self, code) {
            (Self::Change, Code::NotLeader) => {
                Some("no coordinator leads at the moment; waiting for one")
            }
            (Self::Change | Self::Read, Code::Starting) => {
                Some("the coordinator has not read the control topic yet; waiting")
            }
            _ => None,
        }
    }

    /// The refusal of one coordinator, where another one may answer.
    fn elsewhere(self, address: &str, error: Error) -> Result<Error, Error> {
        let lost = matches!(error.code, Code::Unreachable | Code::Deadline);
        match self {
            _ if matches!(error.code, Code::NotLeader | Code::Starting) => Ok(error),
            Self::Read if error.passes() => Ok(error),
            Self::Change if lost => Err(doubtful(address, error)),
            Self::Read | Self::Change => Err(error),
        }
    }
}

impl Reach {
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn new(access: &Access) -> Result<Self, Error> {
        let wrong = |cause: &str, remedy: &str| Error::new(Code::Argument, cause, remedy);
        let own = match (&access.cert, &access.key) {
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(wrong("--cert was given without --key", "give both, or a token"));
            }
            (None, Some(_)) => {
                return Err(wrong("--key was given without --cert", "give both, or a token"));
            }
        };
        let tls = match (&access.ca, own) {
            (Some(ca), own) => Some(Tls::of_tool(ca, own)?),
            (None, None) => None,
            (None, Some(_)) => {
                let remedy = "give the CA that signs the certificates of the nodes";
                return Err(wrong("--cert and --key were given without --ca", remedy));
            }
        };
        let token = access.token_file.as_deref().map(token).transpose()?;
        let given = access.coordinator.iter().map(|address| address.trim());
        let coordinators = given.filter(|address| !address.is_empty()).map(str::to_owned);
        let coordinators: Vec<_> = coordinators.collect();
        if coordinators.is_empty() {
            return Err(wrong("no coordinator is named", "give one: --coordinator HOST:PORT"));
        }
        let leader_wait = Duration::from_secs(access.leader_wait);
        Ok(Self { coordinators, tls, token, leader_wait })
    }

    /// Asks for something, of whoever can be reached.
    ///
    /// # Errors
    /// When it is refused, or nobody can be reached.
    pub(crate) async fn read<T>(
        &self,
        call: impl AsyncFn(&mut Admin) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        self.patiently(Call::Read, call).await
    }

    /// Orders something, of the leader. Waits for one where the cluster has none.
    ///
    /// # Errors
    /// When it is refused, or nobody can be reached.
    pub(crate) async fn change<T>(
        &self,
        call: impl AsyncFn(&mut Admin) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        self.patiently(Call::Change, call).await
    }

    async fn patiently<T>(
        &self,
        kind: Call,
        call: impl AsyncFn(&mut Admin) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let mut span = match kind {
            Call::Read => Span::default(),
            Call::Change => Span::call("admin.call"),
        };
        let until = Instant::now() + self.leader_wait;
        let mut said = false;
        loop {
            let answered = self.ask(kind, &span, &call).await;
            let code = answered.as_ref().err().map(|error| error.code);
            let reason = code.and_then(|code| kind.awaits(code));
            match reason.filter(|_| Instant::now() < until) {
                None => {
                    if let Err(error) = &answered {
                        span.fail(error.cause.clone());
                    }
                    return answered;
                }
                Some(reason) => {
                    if !std::mem::replace(&mut said, true) {
                        info!("{reason}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The same, with the leader first where one is known: only it knows how everything fares.
    pub(crate) async fn toward_leader(&self) -> Self {
        let request = v1::ClusterStatusRequest {};
        let known = self.read(async |admin| admin.cluster_status(request).await).await;
        // A refusal comes back from the call that follows, too.
        let cluster = known.ok().and_then(|answer| answer.cluster).unwrap_or_default();
        let v1::ClusterView { leader, nodes, .. } = cluster;
        let leads = |node: &&v1::Node| node.name == leader && node.role == "coordinator";
        let leader = nodes.iter().find(leads).map(|node| node.address.clone());
        let coordinators = leader.into_iter().filter(|address| !address.is_empty());
        Self {
            coordinators: coordinators.chain(self.coordinators.iter().cloned()).collect(),
            tls: self.tls.clone(),
            token: self.token.clone(),
            leader_wait: self.leader_wait,
        }
    }

    async fn ask<T>(
        &self,
        kind: Call,
        span: &Span,
        call: impl AsyncFn(&mut Admin) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let mut next: VecDeque<String> = self.coordinators.iter().cloned().collect();
        let mut asked = BTreeSet::new();
        let mut failed = Vec::new();
        while let Some(address) = next.pop_front() {
            if !asked.insert(bare(&address).to_owned()) {
                continue;
            }
            let error = match self.at(&address, span).await {
                Err(error) if error.code == Code::Argument => return Err(error),
                // A node that is not what it should be must not hide those that are.
                Err(error) => error,
                Ok(mut admin) => match call(&mut admin).await.map_err(Error::from) {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(error) => kind.elsewhere(&address, error)?,
                },
            };
            if let Some(leader) = &error.leader {
                next.push_front(leader.clone());
            }
            failed.push((address, error));
        }
        Err(together(failed))
    }

    async fn at(&self, address: &str, span: &Span) -> Result<Admin, Error> {
        let channel = client::connect(address, self.tls.as_ref(), &Expected::Coordinator).await?;
        client::admin_within(channel, self.token.as_ref(), span.traceparent().as_deref())
    }
}

/// Address without scheme: the leader's name for itself has none.
fn bare(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest.trim_end_matches('/'))
}

fn doubtful(address: &str, error: Error) -> Error {
    let cause = format!("{address} gave no answer: {}", error.cause);
    Error { cause, remedy: "it may still have been done: look at the status first".into(), ..error }
}

/// What cannot be reached is named already.
fn named(address: &str, cause: &str) -> String {
    if cause.contains(bare(address)) { cause.to_owned() } else { format!("{address}: {cause}") }
}

/// Nobody could answer: why, of each.
fn together(mut failed: Vec<(String, Error)>) -> Error {
    if failed.len() == 1
        && let Some((address, error)) = failed.pop()
    {
        return Error { cause: named(&address, &error.cause), ..error };
    }
    // A coordinator that answers knows more than those that do not.
    let told = failed.iter().rev().find(|(_, error)| error.code != Code::Unreachable);
    let (code, remedy) = match told.or(failed.last()) {
        Some((_, error)) if error.code != Code::NotLeader => (error.code, error.remedy.clone()),
        Some((_, error)) => {
            (error.code, "try again in some seconds: the cluster may be choosing a leader".into())
        }
        None => (Code::Unreachable, String::new()),
    };
    let each =
        failed.iter().map(|(address, error)| format!("\n  {}", named(address, &error.cause)));
    let cause = format!("no coordinator could answer:{}", each.collect::<String>());
    Error::new(code, cause, remedy)
}

fn token(path: &Path) -> Result<SecretString, Error> {
    let wrong = |reason: &str, remedy: String| {
        let cause = format!("the token file `{}` {reason}", path.display());
        Error::new(Code::Argument, cause, remedy)
    };
    let unreadable =
        |error: &std::io::Error| wrong(&format!("cannot be read: {error}"), String::new());
    let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    let mode = file.metadata().map_err(|error| unreadable(&error))?.permissions().mode();
    if mode & 0o007 != 0 {
        let remedy = format!("chmod 600 {}", path.display());
        return Err(wrong("can be read by everybody on this machine", remedy));
    }
    let mut text = String::new();
    let content = file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text);
    content.map_err(|error| unreadable(&error))?;
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if text.trim().is_empty() || TOKEN_BYTES_MAX < length {
        let remedy = "put the token into it, and nothing else".to_owned();
        return Err(wrong("holds no token", remedy));
    }
    Ok(SecretString::from(text.trim()))
}
