//! What can go wrong between nodes, with a code for programs, and its way through a gRPC status.

use crate::v1;
use prost::Message;
use std::error::Error as _;
use std::fmt;
use tonic::Status;

/// Why a call was refused: `ErrorCode` of the contract.
pub use crate::v1::ErrorCode as Code;

/// A refused or failed call. Names cause and remedy, and holds no secret and no row's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub code: Code,
    pub cause: String,
    /// Empty where nothing is to be done.
    pub remedy: String,
    /// With [`Code::NotLeader`]: where the leader is, if anybody knows.
    pub leader: Option<String>,
    /// With [`Code::Spec`]: everything that is wrong with it.
    pub spec: Vec<config::Problem>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        for problem in &self.spec {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Error {
    pub fn new(code: Code, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (cause, remedy) = (cause.into(), remedy.into());
        Self { code, cause, remedy, leader: None, spec: Vec::new() }
    }

    /// This coordinator does not lead.
    #[must_use]
    pub fn not_leader(leader: Option<String>) -> Self {
        let remedy = match &leader {
            Some(leader) => format!("ask {leader}"),
            None => "try again in some seconds: no coordinator leads at the moment".into(),
        };
        let refused = Self::new(Code::NotLeader, "this coordinator does not lead", remedy);
        Self { leader, ..refused }
    }

    /// This coordinator knows nothing yet.
    #[must_use]
    pub fn starting() -> Self {
        let cause = "this coordinator has just begun and has not read the control topic yet";
        Self::new(Code::Starting, cause, "try again in some seconds, or ask another one")
    }

    /// A spec that cannot be used.
    #[must_use]
    pub fn spec(problems: config::Problems) -> Self {
        let refused = Self::new(Code::Spec, "the spec cannot be used", "");
        Self { spec: problems.0, ..refused }
    }

    /// No such thing, e.g. `task` `shop`.
    #[must_use]
    pub fn not_found(kind: &str, name: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {kind} `{name}`"), "")
    }

    /// Whether the same call may pass later, here or at the leader.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self.code {
            Code::NotLeader | Code::Busy | Code::Unreachable | Code::Deadline | Code::Starting => {
                true
            }
            Code::Unspecified
            | Code::Spec
            | Code::Argument
            | Code::NotFound
            | Code::State
            | Code::Unauthenticated
            | Code::Forbidden
            | Code::Name
            | Code::Protocol
            | Code::TooLarge
            | Code::Fenced
            | Code::Internal
            | Code::Unsupported => false,
        }
    }

    fn status_code(&self) -> tonic::Code {
        match self.code {
            Code::Unspecified => tonic::Code::Unknown,
            Code::Spec | Code::Argument => tonic::Code::InvalidArgument,
            Code::NotFound => tonic::Code::NotFound,
            Code::State | Code::Protocol => tonic::Code::FailedPrecondition,
            Code::NotLeader | Code::Unreachable | Code::Starting => tonic::Code::Unavailable,
            Code::Unauthenticated => tonic::Code::Unauthenticated,
            Code::Forbidden | Code::Name => tonic::Code::PermissionDenied,
            Code::TooLarge => tonic::Code::OutOfRange,
            Code::Busy => tonic::Code::ResourceExhausted,
            Code::Fenced => tonic::Code::Aborted,
            Code::Deadline => tonic::Code::DeadlineExceeded,
            Code::Internal => tonic::Code::Internal,
            Code::Unsupported => tonic::Code::Unimplemented,
        }
    }
}

impl From<Error> for v1::Problem {
    fn from(error: Error) -> Self {
        let spec = error.spec.into_iter().map(|problem| v1::SpecProblem {
            line: u32::try_from(problem.line).unwrap_or_default(),
            path: problem.path,
            text: problem.text,
        });
        Self {
            code: error.code.into(),
            cause: error.cause,
            remedy: error.remedy,
            leader: error.leader.unwrap_or_default(),
            spec: spec.collect(),
        }
    }
}

impl From<v1::Problem> for Error {
    fn from(problem: v1::Problem) -> Self {
        let spec = problem.spec.into_iter().map(|problem| config::Problem {
            line: problem.line as usize,
            path: problem.path,
            text: problem.text,
        });
        Self {
            code: Code::try_from(problem.code).unwrap_or_default(),
            cause: problem.cause,
            remedy: problem.remedy,
            leader: (!problem.leader.is_empty()).then_some(problem.leader),
            spec: spec.collect(),
        }
    }
}

/// More than any text of ours.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// A refusal travels in the headers of an answer, the cause twice and more than its own size, so it
/// must stay well below their limit.
const DETAILS_BYTES_MAX: usize = 6 << 10;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.status_code();
        let mut problem = v1::Problem::from(error);
        shorten(&mut problem.cause);
        shorten(&mut problem.remedy);
        let problems = problem.spec.len();
        while DETAILS_BYTES_MAX < problem.encoded_len() && problem.spec.pop().is_some() {}
        let left_out = problems - problem.spec.len();
        if left_out != 0 {
            problem.remedy = format!("correct these first: {left_out} more are not shown");
        }
        Self::with_details(code, problem.cause.clone(), problem.encode_to_vec().into())
    }
}

fn shorten(text: &mut String) {
    if TEXT_BYTES_MAX < text.len() {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if let Some(ours) = within(&status) {
            return ours;
        }
        if !status.details().is_empty()
            && let Ok(problem) = v1::Problem::decode(status.details())
            && problem.code != 0
        {
            return problem.into();
        }
        let code = match status.code() {
            tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::DataLoss => broken(&status),
            tonic::Code::InvalidArgument => Code::Argument,
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Code::Deadline,
            tonic::Code::NotFound => Code::NotFound,
            tonic::Code::AlreadyExists | tonic::Code::FailedPrecondition => Code::State,
            tonic::Code::PermissionDenied => Code::Forbidden,
            tonic::Code::ResourceExhausted => Code::Busy,
            tonic::Code::Aborted => Code::Fenced,
            tonic::Code::OutOfRange => Code::TooLarge,
            tonic::Code::Unimplemented => Code::Unsupported,
            tonic::Code::Internal => broken(&status),
            tonic::Code::Unavailable => Code::Unreachable,
            tonic::Code::Unauthenticated => Code::Unauthenticated,
        };
        let reasons = reasons(&status).map_or(String::new(), |reasons| format!(": {reasons}"));
        if let Some(refused) = refused_by_tls(&reasons).or_else(|| closed(&reasons)) {
            return refused;
        }
        let unreachable = "check that the node runs and can be reached";
        let remedy = if code == Code::Unreachable { unreachable } else { "" };
        Self::new(code, format!("{}{reasons}", status.message()), remedy)
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Self {
        if let Some(ours) = within(&error) {
            return ours;
        }
        let reasons = reasons(&error).map_or(String::new(), |reasons| format!(": {reasons}"));
        refused_by_tls(&reasons).or_else(|| closed(&reasons)).unwrap_or_else(|| {
            let cause = format!("{error}{reasons}");
            Self::new(Code::Unreachable, cause, "check that the node runs and can be reached")
        })
    }
}

/// A broken connection is told as an error of the call.
fn broken(status: &Status) -> Code {
    if status.source().is_some() { Code::Unreachable } else { Code::Internal }
}

/// An error of ours among the reasons of a foreign one.
fn within(error: &dyn std::error::Error) -> Option<Error> {
    let mut next = error.source();
    while let Some(reason) = next {
        if let Some(ours) = reason.downcast_ref::<Error>() {
            return Some(ours.clone());
        }
        next = reason.source();
    }
    None
}

fn reasons(error: &dyn std::error::Error) -> Option<String> {
    let mut reasons = error.source()?.to_string();
    let mut next = error.source()?.source();
    while let Some(reason) = next {
        reasons.push_str(": ");
        reasons.push_str(&reason.to_string());
        next = reason.source();
    }
    Some(reasons)
}

/// With TLS 1.3 a client learns only after its handshake that the server refused its certificate.
pub(crate) fn refused_by_tls(reasons: &str) -> Option<Error> {
    let alert = reasons.split_once("received fatal alert: ")?.1;
    Some(Error::new(
        Code::Unauthenticated,
        format!("the other node refused the certificate ({alert})"),
        "have the certificate signed by the CA that the other node trusts, and check that it is in force",
    ))
}

/// Whoever refuses a certificate, or hears plain text where it expects TLS, may close before its reason is
/// read; or its reason, an alert of TLS, is read as a frame of HTTP/2.
fn closed(reasons: &str) -> Option<Error> {
    let ends = ["connection closed", "broken pipe", "Connection reset"];
    let did = if reasons.contains("frame with invalid size") {
        "answered with what is not HTTP/2"
    } else {
        ends.into_iter().find(|it| reasons.contains(it))?;
        "closed the connection"
    };
    Some(Error::new(
        Code::Unreachable,
        format!("the other node {did}{reasons}"),
        "check that it runs, that both or neither use TLS, and that it takes our certificate: its log says whom it \
         refuses",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_its_way_through_a_status() {
        let problem = config::Problem { line: 3, path: "sink.topic".into(), text: "wrong".into() };
        let errors = [
            Error::not_leader(Some("c2:7420".into())),
            Error::not_leader(None),
            Error::spec(config::Problems(vec![problem])),
            Error::not_found("task", "shop"),
        ];
        for error in errors {
            assert_eq!(Error::from(Status::from(error.clone())), error);
        }
    }

    #[test]
    fn every_code_survives_and_has_a_status() {
        for number in 1..=17 {
            let error = Error::new(Code::try_from(number).expect("a code"), "cause", "remedy");
            let status = Status::from(error.clone());
            assert_ne!(status.code(), tonic::Code::Ok);
            assert_eq!(Error::from(status), error);
        }
    }

    #[test]
    fn long_texts_are_cut_and_problems_left_out_are_counted() {
        let long = "ä".repeat(5000);
        let problem = config::Problem { line: 3, path: String::new(), text: "x".repeat(500) };
        let mut error = Error::spec(config::Problems(vec![problem; 50]));
        error.cause = long;
        let status = Status::from(error);
        assert!(status.details().len() <= DETAILS_BYTES_MAX + TEXT_BYTES_MAX);
        let arrived = Error::from(status);
        let left_out = 50 - arrived.spec.len();
        assert_eq!(arrived.remedy, format!("correct these first: {left_out} more are not shown"));
        assert_eq!(arrived.cause, "ä".repeat(TEXT_BYTES_MAX / 2));
    }

    #[test]
    fn whoever_may_not_speak_our_tls_is_told_of_it() {
        for reasons in [": connection error detected: frame with invalid size", ": broken pipe"] {
            assert!(closed(reasons).expect("an error").remedy.contains("TLS"), "{reasons}");
        }
        assert_eq!(closed(": operation timed out"), None);
    }

    #[test]
    fn a_foreign_status_gets_a_code() {
        let error = Error::from(Status::unavailable("gone"));
        assert_eq!(error.code, Code::Unreachable);
        assert!(error.passes());
    }
}
