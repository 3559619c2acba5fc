//! Avro as another library reads it, in the JSON of Kafka Connect.

use apache_avro::types::Value as Avro;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

/// A value as Kafka Connect has it in JSON.
pub(crate) fn connect(value: Avro) -> Json {
    let bytes = |bytes: &[u8]| STANDARD.encode(bytes).into();
    match value {
        Avro::Null => Json::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => value.into(),
        Avro::Long(value) | Avro::TimestampMillis(value) => value.into(),
        // The server's text of four bytes is shorter than that of the same number in eight.
        Avro::Float(value) if value.is_finite() => {
            value.to_string().parse::<f64>().expect("a number").into()
        }
        Avro::Float(value) => special(value.into()),
        Avro::Double(value) if value.is_finite() => value.into(),
        Avro::Double(value) => special(value),
        Avro::Bytes(value) => bytes(&value),
        Avro::Decimal(value) => bytes(&<Vec<u8>>::try_from(&value).expect("bytes")),
        Avro::String(value) => value.into(),
        Avro::Union(_, value) => connect(*value),
        Avro::Array(items) => items.into_iter().map(connect).collect(),
        Avro::Map(items) => {
            Json::Object(items.into_iter().map(|(key, value)| (key, connect(value))).collect())
        }
        // An entry of a map whose keys are no texts.
        Avro::Record(fields) if fields.len() == 2 && fields[0].0 == "key" => {
            fields.into_iter().map(|(_, value)| connect(value)).collect()
        }
        Avro::Record(fields) => {
            Json::Object(fields.into_iter().map(|(key, value)| (key, connect(value))).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn special(value: f64) -> Json {
    let name = match value {
        value if value.is_nan() => "NaN",
        value if value < 0.0 => "-Infinity",
        _ => "Infinity",
    };
    name.into()
}
