//! Traces: what was done and how long it took, for a collector that takes OTLP over HTTP (`docs/traces.md`).
//!
//! Off unless the environment names a collector by OpenTelemetry's own variables; then a span that is asked for is
//! none, and costs a look. Spans are sent by a thread of their own from a queue that drops what it cannot hold, and
//! counts it: a collector that is slow or away holds nothing back. Attributes hold names and positions, no row and no
//! secret.

use crate::webhook;
use async_trait::async_trait;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span as SdkSpan,
    SpanData, SpanProcessor,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use tracing::{debug, info, warn};
use ureq::Agent;

/// Either of them switches traces on.
pub const ENDPOINT_VARIABLES: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// `true`: nothing is sent in spite of them.
const DISABLED_VARIABLE: &str = "OTEL_SDK_DISABLED";
/// The header of W3C Trace Context that names a span of the caller.
pub const TRACEPARENT: &str = "traceparent";
/// Who calls the command line within a trace says so by it.
const TRACEPARENT_VARIABLE: &str = "TRACEPARENT";
/// What a process is called where the environment gives it no name.
const SERVICE: &str = "distributary";
/// Spans that may wait for the collector, those on their way to it included.
const QUEUE_MAX: usize = 2048;
/// How long a process that ends waits for the collector to take the last spans.
const FINISH_MAX: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 << 10;

static SENDING: OnceLock<Sending> = OnceLock::new();

struct Sending {
    tracer: SdkTracer,
    queue: Arc<Queue>,
}

/// Sends spans for as long as it lives; the last ones when it is dropped.
pub struct Traces(SdkTracerProvider);

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // A collector that is away must not hold the end back.
        let _ = self.0.shutdown_with_timeout(FINISH_MAX);
    }
}

/// The environment does not name a collector that can be used. The text holds no value of a variable: each may be secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "no traces are sent: `{variable}` names no collector; give the base URL of one that takes OTLP over HTTP, as \
     http://127.0.0.1:4318, and leave `OTEL_EXPORTER_OTLP_COMPRESSION` out"
)]
pub struct TracesError {
    variable: &'static str,
}

/// Begins to send spans, where the environment names a collector; `None`: it does not.
///
/// # Errors
/// When what it names cannot be used.
pub fn start() -> Result<Option<Traces>, TracesError> {
    let is_disabled =
        std::env::var(DISABLED_VARIABLE).is_ok_and(|it| it.eq_ignore_ascii_case("true"));
    let variable = ENDPOINT_VARIABLES.into_iter().find(|it| is_set(it));
    let Some(variable) = variable.filter(|_| !is_disabled) else { return Ok(None) };
    let queue = Arc::new(Queue::default());
    let client = Client { agent: webhook::agent(), queue: Arc::clone(&queue) };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|_| TracesError { variable })?;
    let exporter = CountingExporter { exporter, queue: Arc::clone(&queue) };
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE_MAX).build();
    let next = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let processor = Bounded { next, queue: Arc::clone(&queue) };
    let provider =
        SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource());
    let provider = provider.build();
    let tracer = provider.tracer(SERVICE);
    let _ = SENDING.set(Sending { tracer, queue });
    debug!("traces are sent, as the environment says");
    Ok(Some(Traces(provider)))
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|it| !it.is_empty())
}

/// What is common to all spans of the process. The environment's word goes first.
fn resource() -> Resource {
    let attributes = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_named = is_set("OTEL_SERVICE_NAME")
        || attributes.split(',').any(|it| it.trim_start().starts_with("service.name="));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    if is_named { resource.build() } else { resource.with_service_name(SERVICE).build() }
}

/// Spans that were to be sent and were not.
#[must_use]
pub fn dropped() -> u64 {
    SENDING.get().map_or(0, |it| it.queue.dropped.load(Relaxed))
}

/// Whether spans are sent.
#[must_use]
pub fn is_on() -> bool {
    SENDING.get().is_some()
}

/// What waits for the collector.
#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    /// The collector's last answer; 0: there was none.
    status: AtomicU16,
    is_failing: AtomicBool,
}

impl Queue {
    /// Takes a place for a span, where one is free.
    fn enter(&self) -> bool {
        let is_free = self.waiting.fetch_add(1, Relaxed) < QUEUE_MAX;
        if !is_free {
            self.leave(1, false);
        }
        is_free
    }

    fn leave(&self, spans: usize, arrived: bool) {
        self.waiting.fetch_sub(spans, Relaxed);
        if !arrived {
            self.dropped.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// A line of the log each time that it changes.
    fn tell(&self, arrived: bool) {
        if self.is_failing.swap(!arrived, Relaxed) == arrived {
            match (arrived, self.status.load(Relaxed)) {
                (true, _) => info!("the collector takes spans again"),
                (false, 0) => warn!("the collector of traces cannot be reached, spans are dropped"),
                (false, status) => {
                    warn!(status, "the collector of traces takes no spans, they are dropped");
                }
            }
        }
    }
}

/// Drops and counts what finds no place, before the library's own queue is full.
#[derive(Debug)]
struct Bounded {
    next: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.queue.enter() {
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Counts what has arrived, and what has not.
#[derive(Debug)]
struct CountingExporter {
    exporter: SpanExporter,
    queue: Arc<Queue>,
}

impl opentelemetry_sdk::trace::SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        self.queue.leave(spans, exported.is_ok());
        self.queue.tell(exported.is_ok());
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Posts what the exporter has made, on the exporter's thread, which may block.
#[derive(Debug)]
struct Client {
    agent: Agent,
    queue: Arc<Queue>,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.queue.status.store(0, Relaxed);
        let (parts, body) = request.into_parts();
        let mut answer = self.agent.run(Request::from_parts(parts, body.to_vec()))?;
        self.queue.status.store(answer.status().as_u16(), Relaxed);
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        let (parts, _) = answer.into_parts();
        Ok(Response::from_parts(parts, body.into()))
    }
}

/// Something that takes time; it ends when this is dropped. None where no traces are sent.
#[derive(Debug, Default)]
pub struct Span(Option<SdkSpan>);

impl Span {
    fn new(
        name: &'static str,
        kind: SpanKind,
        parent: &Context,
        began: Option<SystemTime>,
    ) -> Self {
        let Some(Sending { tracer, .. }) = SENDING.get() else { return Self(None) };
        let mut builder = tracer.span_builder(name).with_kind(kind);
        builder.start_time = began;
        Self(Some(tracer.build_with_context(builder, parent)))
    }

    /// One that belongs to no other.
    #[must_use]
    pub fn root(name: &'static str) -> Self {
        Self::new(name, SpanKind::Internal, &Context::new(), None)
    }

    /// One that began at a moment of the past and ends now; a clock that is ahead of ours makes it short, never negative.
    pub fn record(name: &'static str, began: SystemTime, attributes: &[(&'static str, &str)]) {
        let began = began.min(SystemTime::now());
        let mut span = Self::new(name, SpanKind::Internal, &Context::new(), Some(began));
        for (key, value) in attributes {
            span = span.with(key, (*value).to_owned());
        }
    }

    /// A call of another process. Below the span that the variable `TRACEPARENT` names, if any.
    #[must_use]
    pub fn call(name: &'static str) -> Self {
        let caller = std::env::var(TRACEPARENT_VARIABLE).ok();
        Self::new(name, SpanKind::Client, &context_of(caller.as_deref()), None)
    }

    /// The answer to a call; `caller`: its header [`TRACEPARENT`], of which nothing is believed that is not well-formed.
    #[must_use]
    pub fn serve(name: &'static str, caller: Option<&str>) -> Self {
        Self::new(name, SpanKind::Server, &context_of(caller), None)
    }

    /// A part of this one.
    #[must_use]
    pub fn child(&self, name: &'static str) -> Self {
        Self::new(name, SpanKind::Internal, &self.context(), None)
    }

    fn context(&self) -> Context {
        let own = self.0.as_ref().map_or(SpanContext::NONE, |it| it.span_context().clone());
        Context::new().with_remote_span_context(own)
    }

    /// The header [`TRACEPARENT`] of calls that belong to this span. Where no traces are sent, the one that this process
    /// itself was called with.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        if self.0.is_none() {
            return std::env::var(TRACEPARENT_VARIABLE).ok();
        }
        let mut headers = HashMap::new();
        TraceContextPropagator::new().inject_context(&self.context(), &mut headers);
        headers.remove(TRACEPARENT)
    }

    /// Notes what it is about.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
        self
    }

    /// Notes that it failed, and why: in words that a log may hold.
    pub fn fail(&mut self, cause: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(cause));
        }
    }

    /// Notes how it ended.
    pub fn note<T, E: fmt::Display>(&mut self, result: &Result<T, E>) {
        if let (Err(error), Some(_)) = (result, &self.0) {
            self.fail(error.to_string());
        }
    }
}

fn context_of(traceparent: Option<&str>) -> Context {
    let Some(traceparent) = traceparent else { return Context::new() };
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &headers)
}

/// What takes several steps, until it is over: the start of a task, until it streams.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Option<Span>>);

impl From<Span> for Trace {
    /// What is under way already.
    fn from(span: Span) -> Self {
        Self(Mutex::new(Some(span)))
    }
}

impl Trace {
    /// The task starts, if it did not already.
    pub fn begin(&self, task: &str) {
        if is_on() {
            let start = || Span::root("task.start").with("task", task.to_owned());
            self.lock().get_or_insert_with(start);
        }
    }

    /// It is over: the task streams.
    pub fn end(&self) {
        if is_on() {
            drop(self.lock().take());
        }
    }

    /// It has failed for good.
    pub fn fail(&self, cause: &str) {
        if let Some(mut start) = is_on().then(|| self.lock().take()).flatten() {
            start.fail(cause.to_owned());
        }
    }

    /// Notes what it is about.
    pub fn note(&self, key: &'static str, value: impl Into<Value>) {
        let mut span = self.lock();
        *span = span.take().map(|it| it.with(key, value));
    }

    /// Something that the task does: part of its start while that is under way.
    #[must_use]
    pub fn span(&self, name: &'static str, task: &str) -> Span {
        if !is_on() {
            return Span(None);
        }
        let span = self.lock().as_ref().map_or_else(|| Span::root(name), |it| it.child(name));
        span.with("task", task.to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records source transactions from their commit until they are durable: those that end a pause, at most one in each.
#[derive(Debug)]
pub struct Sampler {
    task: String,
    last_us: Option<u64>,
    due: std::time::Instant,
}

/// Between two source transactions of a task that are recorded.
const SAMPLE_PAUSE: Duration = Duration::from_secs(10);

impl Sampler {
    /// For a task; `None`: no traces are sent.
    #[must_use]
    pub fn new(task: &str) -> Option<Self> {
        let (task, due) = (task.to_owned(), std::time::Instant::now());
        is_on().then_some(Self { task, last_us: None, due })
    }

    /// The newest transaction that is durable ended at `commit_us`, microseconds since 1970 by the server's clock, and at
    /// `lsn`. Called each time that one may have become so.
    pub fn durable(&mut self, commit_us: Option<u64>, lsn: impl fmt::Display) {
        let Some(us) = commit_us.filter(|_| self.last_us != commit_us) else { return };
        self.last_us = commit_us;
        let now = std::time::Instant::now();
        if now < self.due {
            return;
        }
        self.due = now + SAMPLE_PAUSE;
        let began = SystemTime::UNIX_EPOCH + Duration::from_micros(us);
        Span::record("transaction", began, &[("task", &self.task), ("lsn", &lsn.to_string())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_sent_costs_nothing_and_says_nothing() {
        let mut span = Span::root("x").with("key", "value");
        span.fail("cause");
        assert!(!is_on() && dropped() == 0 && Sampler::new("t").is_none());
        assert!(span.child("y").0.is_none());
    }

    #[test]
    fn a_queue_that_is_full_drops_and_counts() {
        let queue = Queue::default();
        assert!((0..QUEUE_MAX).all(|_| queue.enter()));
        assert!(!queue.enter() && !queue.enter());
        queue.leave(QUEUE_MAX, true);
        assert!(queue.enter());
        queue.leave(1, false);
        assert_eq!((queue.dropped.load(Relaxed), queue.waiting.load(Relaxed)), (3, 0));
    }

    #[test]
    fn only_a_well_formed_caller_is_believed() {
        let trace = |header| context_of(header).span().span_context().trace_id().to_string();
        let right = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(trace(Some(right)), "0af7651916cd43dd8448eb211c80319c");
        for wrong in [None, Some(""), Some("x"), Some(&right[..40])] {
            assert_eq!(trace(wrong), "0".repeat(32), "{wrong:?}");
        }
    }
}
