//! Connect schemas as Kafka Connect's JSON converter writes them (formats/debezium.md, section 5).

use crate::json;

/// The schema of a value, without what its field adds (optional, default, name of the field).
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    type_: &'static str,
    /// JSON members between `type` and `optional`: fields, items, keys and values.
    inner: String,
    name: Option<&'static str>,
    doc: Option<&'static str>,
    parameters: Vec<(&'static str, String)>,
    /// Of an array: type and name of its items.
    item: Option<(&'static str, Option<&'static str>)>,
}

/// What a field adds to its schema.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FieldOf<'a> {
    pub(crate) optional: bool,
    /// A JSON value.
    pub(crate) default: Option<&'a [u8]>,
    pub(crate) name: Option<&'a str>,
}

impl Schema {
    pub(crate) fn of(type_: &'static str) -> Self {
        Self { type_, ..Self::default() }
    }

    pub(crate) fn named(type_: &'static str, name: &'static str) -> Self {
        Self { type_, name: Some(name), ..Self::default() }
    }

    pub(crate) fn with_name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    pub(crate) fn parameter(mut self, key: &'static str, value: String) -> Self {
        self.parameters.push((key, value));
        self
    }

    /// Items are always optional.
    pub(crate) fn array(item: &Self) -> Self {
        let mut inner = b",\"items\":".to_vec();
        item.write(FieldOf { optional: true, ..FieldOf::default() }, &mut inner);
        let item = Some((item.type_, item.name));
        Self { inner: lossless(inner), item, ..Self::of("array") }
    }

    /// Connect's type: of an array, that of its items.
    pub(super) fn primitive(&self) -> &'static str {
        self.item.map_or(self.type_, |(type_, _)| type_)
    }

    /// Name of the schema: of an array without one, that of its items.
    pub(super) fn semantic(&self) -> Option<&'static str> {
        self.name.or(self.item.and_then(|(_, name)| name))
    }

    pub(crate) fn string_map() -> Self {
        let inner = ",\"keys\":{\"type\":\"string\",\"optional\":false},\
                     \"values\":{\"type\":\"string\",\"optional\":true}";
        Self { inner: inner.into(), ..Self::of("map") }
    }

    pub(crate) fn variable_decimal() -> Self {
        let fields = "{\"type\":\"int32\",\"optional\":false,\"field\":\"scale\"},\
                      {\"type\":\"bytes\",\"optional\":false,\"field\":\"value\"}";
        let doc = "Variable scaled decimal";
        Self::structure("io.debezium.data.VariableScaleDecimal", Some(doc), fields)
    }

    pub(crate) fn point() -> Self {
        let fields = "{\"type\":\"double\",\"optional\":false,\"field\":\"x\"},\
                      {\"type\":\"double\",\"optional\":false,\"field\":\"y\"},\
                      {\"type\":\"bytes\",\"optional\":true,\"field\":\"wkb\"},\
                      {\"type\":\"int32\",\"optional\":true,\"field\":\"srid\"}";
        Self::structure("io.debezium.data.geometry.Point", Some("Geometry (POINT)"), fields)
    }

    /// `Geometry` or `Geography`.
    pub(crate) fn geometry(what: &'static str) -> Self {
        let fields = "{\"type\":\"bytes\",\"optional\":false,\"field\":\"wkb\"},\
                      {\"type\":\"int32\",\"optional\":true,\"field\":\"srid\"}";
        let name = match what {
            "Geography" => "io.debezium.data.geometry.Geography",
            _ => "io.debezium.data.geometry.Geometry",
        };
        Self::structure(name, Some(what), fields)
    }

    pub(crate) fn sparse_vector() -> Self {
        let fields = "{\"type\":\"int16\",\"optional\":false,\"field\":\"dimensions\"},\
                      {\"type\":\"map\",\"keys\":{\"type\":\"int16\",\"optional\":false},\
                      \"values\":{\"type\":\"double\",\"optional\":false},\
                      \"optional\":false,\"field\":\"vector\"}";
        Self::structure("io.debezium.data.SparseDoubleVector", None, fields)
    }

    fn structure(name: &'static str, doc: Option<&'static str>, fields: &str) -> Self {
        Self { inner: format!(",\"fields\":[{fields}]"), doc, ..Self::named("struct", name) }
    }

    /// Writes the schema as one JSON object.
    pub(crate) fn write(&self, field: FieldOf<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":");
        json::str(self.type_, out);
        out.extend_from_slice(self.inner.as_bytes());
        out.extend_from_slice(if field.optional {
            b",\"optional\":true".as_slice()
        } else {
            b",\"optional\":false"
        });
        if let Some(name) = self.name {
            out.extend_from_slice(b",\"name\":");
            json::str(name, out);
            out.extend_from_slice(b",\"version\":1");
        }
        if let Some(doc) = self.doc {
            out.extend_from_slice(b",\"doc\":");
            json::str(doc, out);
        }
        for (index, (key, value)) in self.parameters.iter().enumerate() {
            let before = if index == 0 { ",\"parameters\":{" } else { "," };
            out.extend_from_slice(before.as_bytes());
            json::str(key, out);
            out.push(b':');
            json::str(value, out);
        }
        if !self.parameters.is_empty() {
            out.push(b'}');
        }
        if let Some(default) = field.default {
            out.extend_from_slice(b",\"default\":");
            out.extend_from_slice(default);
        }
        if let Some(name) = field.name {
            out.extend_from_slice(b",\"field\":");
            json::str(name, out);
        }
        out.push(b'}');
    }
}

fn lossless(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}

/// The key's schema around its fields.
pub(crate) fn key(fields: &[u8], name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[");
    out.extend_from_slice(fields);
    out.extend_from_slice(b"],\"optional\":false,\"name\":");
    json::str(name, out);
    out.push(b'}');
}

/// The envelope's schema around the fields of a row.
pub(crate) fn envelope(row_fields: &[u8], row_name: &str, name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[");
    for field in ["before", "after"] {
        out.extend_from_slice(b"{\"type\":\"struct\",\"fields\":[");
        out.extend_from_slice(row_fields);
        out.extend_from_slice(b"],\"optional\":true,\"name\":");
        json::str(row_name, out);
        out.extend_from_slice(b",\"field\":");
        json::str(field, out);
        out.extend_from_slice(b"},");
    }
    out.extend_from_slice(SOURCE.as_bytes());
    out.push(b',');
    out.extend_from_slice(TRANSACTION.as_bytes());
    out.extend_from_slice(
        b",{\"type\":\"string\",\"optional\":false,\"field\":\"op\"},\
          {\"type\":\"int64\",\"optional\":true,\"field\":\"ts_ms\"},\
          {\"type\":\"int64\",\"optional\":true,\"field\":\"ts_us\"},\
          {\"type\":\"int64\",\"optional\":true,\"field\":\"ts_ns\"}],\
          \"optional\":false,\"name\":",
    );
    json::str(name, out);
    out.extend_from_slice(b",\"version\":2}");
}

pub(super) const SOURCE: &str = concat!(
    r#"{"type":"struct","fields":["#,
    r#"{"type":"string","optional":false,"field":"version"},"#,
    r#"{"type":"string","optional":false,"field":"connector"},"#,
    r#"{"type":"string","optional":false,"field":"name"},"#,
    r#"{"type":"int64","optional":false,"field":"ts_ms"},"#,
    r#"{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"#,
    r#""parameters":{"allowed":"true,first,first_in_data_collection,last_in_data_collection,"#,
    r#"last,false,incremental"},"default":"false","field":"snapshot"},"#,
    r#"{"type":"string","optional":false,"field":"db"},"#,
    r#"{"type":"string","optional":true,"field":"sequence"},"#,
    r#"{"type":"int64","optional":true,"field":"ts_us"},"#,
    r#"{"type":"int64","optional":true,"field":"ts_ns"},"#,
    r#"{"type":"string","optional":false,"field":"schema"},"#,
    r#"{"type":"string","optional":false,"field":"table"},"#,
    r#"{"type":"int64","optional":true,"field":"txId"},"#,
    r#"{"type":"int64","optional":true,"field":"lsn"},"#,
    r#"{"type":"int64","optional":true,"field":"xmin"}],"#,
    r#""optional":false,"name":"io.debezium.connector.postgresql.Source","version":1,"#,
    r#""field":"source"}"#
);

const TRANSACTION: &str = concat!(
    r#"{"type":"struct","fields":["#,
    r#"{"type":"string","optional":false,"field":"id"},"#,
    r#"{"type":"int64","optional":false,"field":"total_order"},"#,
    r#"{"type":"int64","optional":false,"field":"data_collection_order"}],"#,
    r#""optional":true,"name":"event.block","version":1,"field":"transaction"}"#
);
