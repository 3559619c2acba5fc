//! `distributary tail`: events from now on, without Kafka.

use crate::arguments::Tail;
use crate::exit::Exit;
use crate::output::{Output, OutputFormat};
use crate::{report, run, spec, system};
use record::Record;
use serde_json::{Map, Value, json};
use std::io;
use tokio_util::sync::CancellationToken;

pub(crate) fn tail(arguments: &Tail, output: Output) -> io::Result<Exit> {
    let spec = match spec::load(&arguments.spec, output) {
        Ok(spec) => spec,
        Err(exit) => return Ok(exit),
    };
    let stop = CancellationToken::new();
    let mut written = Ok(());
    let ended = system::block_on(async {
        run::stop_on_signals(stop.clone())?;
        let mut show = |record: &Record<'_>| {
            // After a failure nothing more is tried; what was decoded already is dropped.
            if written.is_ok() {
                written = write(record, output);
            }
            if written.is_err() {
                stop.cancel();
            }
        };
        let table = arguments.table.as_deref();
        Ok::<_, io::Error>(
            pipeline::tail(&spec.task, &spec.folder, table, &mut show, stop.clone()).await,
        )
    })?;
    written?;
    Ok(match ended {
        Ok(()) => Exit::Done,
        Err(failure) => {
            report::error(output, &failure.to_string(), "");
            Exit::Failed
        }
    })
}

fn write(record: &Record<'_>, output: Output) -> io::Result<()> {
    let value = match output.format {
        OutputFormat::Text => Value::Null,
        OutputFormat::Json | OutputFormat::Yaml => value(record),
    };
    output.item(&value, || line(record))
}

fn line(record: &Record<'_>) -> String {
    let text = |bytes: Option<&[u8]>| match bytes {
        None => "null".into(),
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    let (topic, partition) = (record.topic, record.partition);
    format!("{topic}/{partition}\t{}\t{}\n", text(record.key), text(record.value))
}

fn value(record: &Record<'_>) -> Value {
    let headers: Map<String, Value> = record
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into()))
        .collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "timestamp_ms": record.timestamp_ms,
        "key": parsed(record.key),
        "value": parsed(record.value),
        "headers": headers,
    })
}

/// JSON as it is; any other bytes as text.
fn parsed(bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record<'static> = Record {
        topic: "shop.public.orders",
        partition: 3,
        key: Some(br#"{"id":1}"#),
        value: None,
        headers: &[("distributary.task", b"shop")],
        timestamp_ms: 7,
    };

    #[test]
    fn a_line_holds_place_key_and_value() {
        assert_eq!(line(&RECORD), "shop.public.orders/3\t{\"id\":1}\tnull\n");
    }

    #[test]
    fn json_of_a_record_is_not_wrapped_in_text() {
        let value = value(&RECORD);
        assert_eq!(value["key"]["id"], 1);
        assert_eq!(value["value"], Value::Null);
        assert_eq!(value["headers"]["distributary.task"], "shop");
    }

    #[test]
    fn what_is_no_json_is_text() {
        assert_eq!(parsed(Some(b"plain \xff")), "plain \u{fffd}");
    }
}
