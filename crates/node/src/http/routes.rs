//! What each path answers.

use super::guard::{answer, guard};
use super::history::{self, History, Round};
use super::{Ready, Status, View, metrics, page};
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use rpc::{Code, Error, Tokens};
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use tracing::debug;

/// Whoever looks so soon again sees the same.
const FRESH: Duration = Duration::from_secs(1);
/// A view that takes longer is given up.
const LOOK_TIME_MAX: Duration = Duration::from_secs(3);

type Looked = Result<Arc<Status>, Error>;

/// The last look, and the hour before it.
pub(super) struct Watch {
    view: View,
    ready: Ready,
    last: tokio::sync::Mutex<Option<(Instant, Looked)>>,
    history: Mutex<History>,
}

impl Watch {
    pub(super) fn new(view: View, ready: Ready) -> Self {
        Self { view, ready, last: tokio::sync::Mutex::default(), history: Mutex::default() }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn can_work(&self) -> Result<(), String> {
        let ready = tokio::time::timeout(LOOK_TIME_MAX, self.ready.look()).await;
        ready.unwrap_or_else(|_| Err("this node does not answer in time".into()))
    }

    /// One at a time; those that wait get what the first one has seen.
    async fn look(&self) -> Looked {
        let mut last = self.last.lock().await;
        if let Some((at, looked)) = &*last
            && at.elapsed() < FRESH
        {
            return looked.clone();
        }
        let looked = tokio::time::timeout(LOOK_TIME_MAX, self.view.look()).await;
        let looked = looked.unwrap_or_else(|_| {
            Err(Error::new(Code::Deadline, "this node does not answer in time", "try again"))
        });
        let looked = looked.map(|mut status| {
            let history = self.history();
            for task in &mut status.tasks {
                let Some(measured) = &mut task.measured else { continue };
                measured.rate = measured.rate.or_else(|| history.rate(&task.name));
            }
            Arc::new(status)
        });
        *last = Some((Instant::now(), looked.clone()));
        looked
    }

    /// Looks again and again, so that there is an hour to show to whoever comes.
    pub(super) async fn remember(self: Arc<Self>) {
        let mut due = tokio::time::interval(history::EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            match tokio::time::timeout(LOOK_TIME_MAX, self.view.look()).await {
                Ok(Ok(status)) => self.history().note(&status, Instant::now()),
                Ok(Err(error)) => debug!(%error, "nothing to remember"),
                Err(_) => debug!("nothing to remember: the node does not answer in time"),
            }
        }
    }
}

pub(super) fn router(watch: Arc<Watch>, tokens: Option<Tokens>) -> Router {
    Router::new()
        .route("/", get(status_page))
        .route("/healthz", get(async || answer(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readiness))
        .route("/metrics", get(scrape))
        .route("/api/status", get(status))
        .route("/api/history", get(past))
        .fallback(async || answer(StatusCode::NOT_FOUND, "there is nothing here; the page is /\n"))
        .layer(from_fn_with_state(tokens, guard))
        .with_state(watch)
}

async fn status_page() -> Response {
    let mut response = of_type("text/html; charset=utf-8", page::HTML.clone());
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, page::POLICY.clone());
    response
}

async fn readiness(State(watch): State<Arc<Watch>>) -> Response {
    match watch.can_work().await {
        Ok(()) => answer(StatusCode::OK, "ready\n"),
        Err(cause) => answer(StatusCode::SERVICE_UNAVAILABLE, &format!("{cause}\n")),
    }
}

/// Also where the view fails: that a node is up and not ready is worth a sample.
async fn scrape(State(watch): State<Arc<Watch>>) -> Response {
    let looked = watch.look().await;
    let ready = watch.can_work().await.is_ok();
    let text = metrics::text(looked.as_deref().ok(), ready);
    of_type(telemetry::metrics::CONTENT_TYPE, text)
}

async fn status(State(watch): State<Arc<Watch>>) -> Response {
    match watch.look().await {
        Ok(status) => json(StatusCode::OK, &*status),
        Err(Error { cause, remedy, .. }) => {
            let body = serde_json::json!({"cause": cause, "remedy": remedy});
            json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

async fn past(State(watch): State<Arc<Watch>>, RawQuery(query): RawQuery) -> Response {
    #[derive(Serialize)]
    struct Past<'a> {
        every_ms: u128,
        rounds_max: usize,
        rounds: Vec<&'a Round>,
    }
    let query = query.unwrap_or_default();
    let since = query.split('&').find_map(|pair| pair.strip_prefix("since="));
    let since = since.map_or(Ok(0), str::parse);
    let Ok(since) = since else {
        return answer(StatusCode::BAD_REQUEST, "`since` is the number of a round\n");
    };
    let history = watch.history();
    let rounds = history.after(since).collect();
    let (every_ms, rounds_max) = (history::EVERY.as_millis(), history::ROUNDS_MAX);
    json(StatusCode::OK, &Past { every_ms, rounds_max, rounds })
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let text = serde_json::to_string(body).expect("text keys and no failing parts");
    let mut response = of_type("application/json", text);
    *response.status_mut() = status;
    response
}

fn of_type(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
