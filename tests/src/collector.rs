//! A collector of traces: takes OTLP over HTTP in this process, and decodes it.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// A span, and whose it is.
#[derive(Clone, Debug)]
pub struct Told {
    /// `service.name` of the process.
    pub service: String,
    pub span: Span,
}

/// What was heard.
#[derive(Debug, Default)]
struct Heard {
    spans: Vec<Told>,
    /// First lines and headers of the calls.
    heads: Vec<String>,
}

/// Takes spans for as long as the process lives.
#[derive(Debug)]
pub struct Collector {
    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub endpoint: String,
    heard: Arc<Mutex<Heard>>,
}

impl Collector {
    /// # Panics
    /// Without a port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let heard = Arc::<Mutex<Heard>>::default();
        let into = Arc::clone(&heard);
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let into = Arc::clone(&into);
                spawn(move || take(stream, &into));
            }
        });
        Self { endpoint, heard }
    }

    /// What has come so far.
    ///
    /// # Panics
    /// When a call could not be decoded.
    #[must_use]
    pub fn spans(&self) -> Vec<Told> {
        self.heard.lock().expect("every call was understood").spans.clone()
    }

    /// What has come so far of one name.
    ///
    /// # Panics
    /// As [`Self::spans`].
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<Told> {
        self.spans().into_iter().filter(|it| it.span.name == name).collect()
    }

    /// First lines and headers of all calls.
    ///
    /// # Panics
    /// When a call could not be decoded.
    #[must_use]
    pub fn heads(&self) -> String {
        self.heard.lock().expect("every call was understood").heads.concat()
    }
}

impl Told {
    /// An attribute as a text; empty: it has none.
    #[must_use]
    pub fn attribute(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|it| it.key == key);
    let value = found.and_then(|it| it.value.as_ref()?.value.as_ref());
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// Answers calls on one connection until it ends.
fn take(stream: TcpStream, into: &Mutex<Heard>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
            if let Some((name, value)) = head[start..].split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut heard = into.lock().expect("every call was understood");
        let request = ExportTraceServiceRequest::decode(&*body).expect("spans");
        heard.heads.push(head);
        for of_process in request.resource_spans {
            let attributes = of_process.resource.unwrap_or_default().attributes;
            let service = text(&attributes, "service.name");
            let spans = of_process.scope_spans.into_iter().flat_map(|it| it.spans);
            heard.spans.extend(spans.map(|span| Told { service: service.clone(), span }));
        }
        drop(heard);
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        reader.get_mut().write_all(answer).ok()?;
    }
}
