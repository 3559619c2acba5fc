//! Who may look, and what browsers are told about every answer.
//!
//! With tokens, a token of any role: `Authorization: Bearer TOKEN`, or, as browsers ask for it, any user name with
//! the token as the password. Without tokens the port is on loopback, where a page of some other site could still
//! reach it under a name of its own (DNS rebinding): only requests for an address or for `localhost` are answered.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rpc::Tokens;
use std::net::IpAddr;
use tracing::{debug, warn};

/// Probes have no token, and learn nothing.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];
/// Longer ones are nobody's.
const AUTHORIZATION_BYTES_MAX: usize = 4096;

const HEADERS: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub(super) async fn guard(
    State(tokens): State<Option<Tokens>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let mut response = if OPEN.contains(&path) {
        next.run(request).await
    } else {
        match admit(tokens.as_ref(), &request) {
            Ok(who) => {
                debug!(who, path, "looked at");
                next.run(request).await
            }
            Err((status, why)) => {
                warn!(path, %status, "refused");
                refuse(status, why)
            }
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

type Refused = (StatusCode, &'static str);

fn admit(tokens: Option<&Tokens>, request: &Request) -> Result<String, Refused> {
    let Some(tokens) = tokens else {
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has it in the address.
        let host = request.uri().authority().map(Authority::as_str).or(host);
        return match host {
            Some(host) if !is_plain(host) => Err((
                StatusCode::MISDIRECTED_REQUEST,
                "ask for this port by its address, or as localhost\n",
            )),
            Some(_) | None => Ok("anybody".into()),
        };
    };
    let found = token(request.headers()).and_then(|token| tokens.find(&token));
    found.map(|(who, _)| who).ok_or((
        StatusCode::UNAUTHORIZED,
        "a token is needed: as Bearer, or as the password of any user\n",
    ))
}

fn refuse(status: StatusCode, why: &str) -> Response {
    let mut refused = answer(status, why);
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"distributary\", charset=\"UTF-8\"");
        refused.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    refused
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let given = headers.get(AUTHORIZATION)?.as_bytes();
    if AUTHORIZATION_BYTES_MAX < given.len() {
        return None;
    }
    let space = given.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&given[..space], given[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

/// Whether a host, with or without a port, is an address or this machine's own name: nobody else can make a name
/// of those.
fn is_plain(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// A short plain answer.
pub(super) fn answer(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).expect("a header"));
        token(&headers).map(|token| String::from_utf8(token).expect("text"))
    }

    #[test]
    fn a_token_comes_as_bearer_or_as_a_password() {
        assert_eq!(given("Bearer secret").as_deref(), Some("secret"));
        assert_eq!(given("bearer  secret ").as_deref(), Some("secret"));
        // `ann:se:cret`
        assert_eq!(given("Basic YW5uOnNlOmNyZXQ=").as_deref(), Some("se:cret"));
        for refused in ["Bearer", "Basic !", "Basic YW5u", "Digest secret", ""] {
            assert_eq!(given(refused), None, "{refused}");
        }
        assert_eq!(given(&format!("Bearer {}", "x".repeat(AUTHORIZATION_BYTES_MAX))), None);
    }

    #[test]
    fn only_addresses_and_localhost_are_plain() {
        for host in ["localhost", "LOCALHOST:7421", "127.0.0.1:7421", "[::1]:7421", "10.0.0.1"] {
            assert!(is_plain(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:7421", "", "127.0.0.1.evil:1", "[x]"] {
            assert!(!is_plain(host), "{host}");
        }
    }
}
