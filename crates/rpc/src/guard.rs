//! Who may call what, decided in one place before any handler is reached. What is not listed is
//! refused.

use crate::connection::Peer;
use crate::identity::Role;
use crate::principal::{Principal, Who};
use crate::tokens::Tokens;
use crate::{Code, Error};
use config::tokens::Access;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use std::task::{Context, Poll};
use tonic::Status;
use tower::{Layer, Service};
use tracing::warn;

/// How callers are known on this server.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// Whether connections are encrypted; without, only this machine reaches the server.
    pub(crate) tls: bool,
    pub(crate) tokens: Option<Tokens>,
}

/// What a method asks of its caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Needs {
    Nothing,
    /// To be known, as whoever.
    Name,
    /// The certificate of a worker.
    Worker,
    Admin(Access),
}

/// What a method needs; none: there is no such method.
fn needs(path: &str) -> Option<Needs> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    Some(match service {
        "grpc.health.v1.Health" => Needs::Nothing,
        "grpc.reflection.v1.ServerReflection" => Needs::Name,
        "distributary.v1.Link" | "distributary.v1.Cluster" => Needs::Worker,
        "distributary.v1.Admin" => Needs::Admin(access(method)?),
        _ => return None,
    })
}

fn access(method: &str) -> Option<Access> {
    Some(match method {
        "ListTasks" | "GetTask" | "WatchTask" | "ClusterStatus" | "WatchCluster"
        | "ListConnections" => Access::Viewer,
        "StartTask" | "SuspendTask" | "ResumeTask" | "RestartTask" | "SnapshotTask"
        | "DrainNode" | "UncordonNode" | "MoveLane" => Access::Operator,
        "ApplyTask" | "ReleaseTask" | "ReseedTask" | "SetConnection" | "RemoveConnection" => {
            Access::Admin
        }
        _ => return None,
    })
}

impl Guard {
    /// Who calls, if it may.
    fn admit(
        &self,
        path: &str,
        peer: &Peer,
        authorization: Option<&HeaderValue>,
    ) -> Result<Principal, Error> {
        let principal = |who| Principal { who, address: peer.address };
        match needs(path) {
            None => Err(Error::new(
                Code::Unsupported,
                format!("this node has no method `{path}`"),
                "use tools of the node's own release",
            )),
            Some(Needs::Nothing) => Ok(principal(Who::Unknown)),
            Some(Needs::Worker) => self.worker(peer).map(principal),
            Some(Needs::Name) => match &peer.identity {
                Some(Ok(identity)) => Ok(principal(Who::Certificate(identity.clone()))),
                Some(Err(_)) | None => self.person(peer, authorization).map(principal),
            },
            Some(Needs::Admin(wanted)) => {
                let principal = principal(self.person(peer, authorization)?);
                if principal.access().is_some_and(|access| wanted <= access) {
                    return Ok(principal);
                }
                let cause = format!("{principal} may not do this, which needs the role {wanted}");
                Err(Error::new(Code::Forbidden, cause, format!("use a token of a {wanted}")))
            }
        }
    }

    fn worker(&self, peer: &Peer) -> Result<Who, Error> {
        match &peer.identity {
            None if !self.tls => Ok(Who::Local),
            None => Err(Error::new(
                Code::Unauthenticated,
                "the caller shows no certificate",
                "set `tls` in the spec of the calling node",
            )),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(identity)) if identity.role == Role::Worker => {
                Ok(Who::Certificate(identity.clone()))
            }
            Some(Ok(identity)) => Err(Error::new(
                Code::Forbidden,
                format!("the certificate is of {identity}, and only workers may call this"),
                "give the calling node a worker's certificate",
            )),
        }
    }

    /// Somebody who uses the admin service. A node's certificate is refused whatever token comes with it: nodes that
    /// were broken into must not change tasks.
    fn person(&self, peer: &Peer, authorization: Option<&HeaderValue>) -> Result<Who, Error> {
        let certificate = peer.identity.clone().transpose()?;
        if let Some(identity) = &certificate
            && identity.role != Role::Admin
        {
            return Err(Error::new(
                Code::Forbidden,
                format!("the certificate of {identity} may not use the admin service"),
                "use a certificate with the role admin, or none and a token",
            ));
        }
        let Some(tokens) = &self.tokens else {
            return match certificate {
                Some(identity) => Ok(Who::Certificate(identity)),
                None if !self.tls => Ok(Who::Local),
                None => Err(Error::new(
                    Code::Unauthenticated,
                    "this node has no tokens and takes certificates with the role admin only",
                    "set `auth.tokens_file` in its spec, or give --cert and --key",
                )),
            };
        };
        let refuse = |cause: &str, remedy: &str| Error::new(Code::Unauthenticated, cause, remedy);
        let header = match (authorization, certificate) {
            (Some(header), _) => header,
            // The CA says who it is; a token beside it would count instead.
            (None, Some(identity)) => return Ok(Who::Certificate(identity)),
            (None, None) => {
                let remedy = "give one with --token-file, or a certificate with the role admin with --cert and --key";
                return Err(refuse("the admin service needs a token", remedy));
            }
        };
        let token = header.as_bytes().strip_prefix(b"Bearer ");
        let found = token.and_then(|token| tokens.find(token.trim_ascii()));
        let (name, access) = found.ok_or_else(|| {
            refuse("nobody has this token", "use one whose hash is in the node's tokens file")
        })?;
        Ok(Who::Token { name, access })
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.clone(), inner }
    }
}

/// A service that only those reach who may.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Guarded<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: Default + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        futures_util::future::Either<std::future::Ready<Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let path = request.uri().path();
        match self.guard.admit(path, &peer, request.headers().get(AUTHORIZATION)) {
            Ok(principal) => {
                // What handlers do not have, they cannot log.
                request.headers_mut().remove(AUTHORIZATION);
                request.extensions_mut().insert(principal);
                futures_util::future::Either::Right(self.inner.call(request))
            }
            Err(error) => {
                let address = peer.address.map(tracing::field::display);
                warn!(%error, path, address, "call refused");
                let response = Status::from(error).into_http();
                futures_util::future::Either::Left(std::future::ready(Ok(response)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use prost::Message;

    const PLAIN: Guard = Guard { tls: false, tokens: None };
    const TLS: Guard = Guard { tls: true, tokens: None };

    fn peer(role: Role) -> Peer {
        Peer { address: None, identity: Some(Ok(Identity::new("n1", role))) }
    }

    fn code(guard: &Guard, path: &str, peer: &Peer) -> Option<Code> {
        guard.admit(path, peer, None).err().map(|error| error.code)
    }

    #[test]
    fn every_method_of_the_contract_has_its_rule() {
        let files = prost_types::FileDescriptorSet::decode(crate::DESCRIPTORS).expect("decodes");
        let mut methods = 0;
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(needs(&path).is_some(), "{path}");
                    methods += 1;
                }
            }
        }
        assert!(20 <= methods, "{methods}");
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        for path in ["/distributary.v1.Admin/Other", "/other/Method", "", "/"] {
            assert_eq!(code(&PLAIN, path, &Peer::default()), Some(Code::Unsupported), "{path}");
        }
    }

    #[test]
    fn certificates_open_what_their_role_is_for() {
        let (link, admin) = ("/distributary.v1.Link/Lane", "/distributary.v1.Admin/ApplyTask");
        assert_eq!(code(&TLS, link, &peer(Role::Worker)), None);
        assert_eq!(code(&TLS, link, &peer(Role::Coordinator)), Some(Code::Forbidden));
        assert_eq!(code(&TLS, link, &peer(Role::Admin)), Some(Code::Forbidden));
        assert_eq!(code(&TLS, link, &Peer::default()), Some(Code::Unauthenticated));
        assert_eq!(code(&TLS, admin, &peer(Role::Worker)), Some(Code::Forbidden));
        assert_eq!(code(&TLS, admin, &peer(Role::Coordinator)), Some(Code::Forbidden));
        assert_eq!(code(&TLS, admin, &peer(Role::Admin)), None);
        assert_eq!(code(&TLS, admin, &Peer::default()), Some(Code::Unauthenticated));
    }

    #[test]
    fn an_admin_certificate_needs_no_token_and_a_token_beside_it_counts() {
        // Of `a`.
        let text = "tokens: [{name: ann, role: admin, sha256: \
            ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb}]";
        let tokens = Tokens::new(&config::Tokens::parse(text).expect("parses"));
        let guard = Guard { tls: true, tokens: Some(tokens) };
        let apply = "/distributary.v1.Admin/ApplyTask";
        assert_eq!(code(&guard, apply, &peer(Role::Admin)), None);
        assert_eq!(code(&guard, apply, &Peer::default()), Some(Code::Unauthenticated));
        assert_eq!(code(&guard, apply, &peer(Role::Worker)), Some(Code::Forbidden));
        let token = HeaderValue::from_static("Bearer nobody-has-this");
        let refused = guard.admit(apply, &peer(Role::Admin), Some(&token)).err();
        assert_eq!(refused.map(|it| it.code), Some(Code::Unauthenticated));
    }

    #[test]
    fn loopback_without_tls_trusts_this_machine() {
        for path in ["/distributary.v1.Link/Lane", "/distributary.v1.Admin/ApplyTask"] {
            assert_eq!(code(&PLAIN, path, &Peer::default()), None, "{path}");
        }
    }
}
