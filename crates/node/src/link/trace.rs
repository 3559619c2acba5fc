//! To which span of its caller a call between processes belongs (W3C Trace Context).

use telemetry::traces::{Span, TRACEPARENT};
use tonic::Request;
use tonic::metadata::MetadataValue;

/// A call that belongs to the span of this `traceparent`. One that cannot stand in a header says nothing.
pub(crate) fn within<T>(message: T, traceparent: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = traceparent.and_then(|it| MetadataValue::try_from(it).ok()) {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    request
}

/// What is done here for the caller.
pub(crate) fn serve<T>(name: &'static str, request: &Request<T>) -> Span {
    let caller = request.metadata().get(TRACEPARENT).and_then(|it| it.to_str().ok());
    Span::serve(name, caller)
}
