//! The schema of one side of a table version's records: one file with one message.

use super::form::{Form, Scalar};
use super::numbers::Past;
use crate::schema::Reference;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What says how Debezium calls the values of a field.
const SEMANTIC: Reference =
    Reference { name: "distributary/semantic.proto", text: include_str!("semantic.proto") };

/// One file and its message, without the numbers of the columns' fields.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(super) package: Box<str>,
    pub(super) side: Side,
    pub(super) fields: Box<[Field]>,
    messages: Box<str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Key,
    Envelope,
}

/// The field of a column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) signature: Signature,
}

/// What must not change while a field keeps its number.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Signature {
    pub(super) type_: Box<str>,
    pub(super) semantic: Option<Box<str>>,
    /// The column's own name, wherever Protobuf can hold it.
    pub(super) json: Box<str>,
}

impl Field {
    pub(super) fn new(name: &str, column: &str, form: &Form, semantic: Option<&str>) -> Self {
        // No compiler takes a bracket there: it would look like an extension.
        let json = if column.starts_with('[') { camel(name) } else { column.into() };
        let semantic = semantic.map(Into::into);
        let signature = Signature { type_: form.word().into(), semantic, json: json.into() };
        Self { name: name.into(), signature }
    }
}

/// The JSON name of a field that has none of its own (`ToJsonName` of the compiler).
pub(crate) fn camel(name: &str) -> String {
    let mut upper = false;
    let mut out = String::with_capacity(name.len());
    for sign in name.chars() {
        if sign == '_' {
            upper = true;
        } else {
            out.push(if std::mem::take(&mut upper) { sign.to_ascii_uppercase() } else { sign });
        }
    }
    out
}

impl Message {
    /// `forms`: of all columns, which may need messages of their own.
    pub(super) fn new<'a>(
        package: &str,
        side: Side,
        fields: Box<[Field]>,
        forms: impl Iterator<Item = &'a Form>,
    ) -> Self {
        let messages = messages(forms).into();
        Self { package: package.into(), side, fields, messages }
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.package, self.side.name())
    }

    pub(crate) fn references(&self) -> &'static [Reference] {
        const ALL: &[Reference] = &[SEMANTIC];
        let is_used = self.fields.iter().any(|field| field.signature.semantic.is_some());
        if is_used { ALL } else { &[] }
    }

    /// The text with these numbers. `past`: what earlier versions used must not be used again.
    pub(crate) fn text(&self, numbers: &[u32], past: &Past) -> String {
        let mut out = format!("syntax = \"proto3\";\n\npackage {};\n\n", self.package);
        for Reference { name, .. } in self.references() {
            let _ = writeln!(out, "import \"{name}\";\n");
        }
        let _ = writeln!(out, "message {} {{", self.side.name());
        match self.side {
            Side::Key => self.row(numbers, past, "  ", &mut out),
            Side::Envelope => {
                out.push_str(ENVELOPE);
                out.push_str("\n  message Value {\n");
                self.row(numbers, past, "    ", &mut out);
                out.push_str("  }\n");
                out.push_str(SOURCE_AND_TRANSACTION);
            }
        }
        out.push_str(&self.messages);
        out.push_str("}\n");
        out
    }

    fn row(&self, numbers: &[u32], past: &Past, indent: &str, out: &mut String) {
        let (gone, names) = past.gone(&self.fields, numbers);
        for number in gone {
            let _ = writeln!(out, "{indent}reserved {number};");
        }
        for name in names {
            let _ = writeln!(out, "{indent}reserved \"{name}\";");
        }
        for (field, number) in self.fields.iter().zip(numbers) {
            let Field { name, signature: Signature { type_, semantic, json } } = field;
            let _ = write!(out, "{indent}optional {type_} {name} = {number}");
            let json = (camel(name) != **json).then(|| format!("json_name = {}", quoted(json)));
            let semantic = semantic.as_deref();
            let semantic = semantic.map(|it| format!("(distributary.semantic) = {}", quoted(it)));
            let options: Vec<_> = json.into_iter().chain(semantic).collect();
            if !options.is_empty() {
                let _ = write!(out, " [{}]", options.join(", "));
            }
            out.push_str(";\n");
        }
    }
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "Key",
            Self::Envelope => "Envelope",
        }
    }
}

/// A string literal.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => out.extend(['\\', sign]),
            '\n' => out.push_str("\\n"),
            sign if sign.is_ascii_control() => {
                let _ = write!(out, "\\{:03o}", u32::from(sign));
            }
            sign => out.push(sign),
        }
    }
    out.push('"');
    out
}

/// The messages that values of these forms are made of.
fn messages<'a>(forms: impl Iterator<Item = &'a Form>) -> String {
    let (mut has_decimal, mut arrays) = (false, BTreeMap::new());
    for form in forms {
        let scalar = match form {
            Form::Scalar(scalar) => *scalar,
            Form::Array { element, .. } => {
                let (word, array) = element.words();
                arrays.insert(array, word);
                *element
            }
        };
        has_decimal |= scalar == Scalar::Decimal;
    }
    let mut out = String::new();
    if has_decimal {
        out.push_str(DECIMAL);
    }
    for (array, word) in arrays {
        out.push_str(&ARRAY.replace("ARRAY", array).replace("VALUE", word));
    }
    out
}

/// Fields of the envelope and their numbers, which [`super::encoder`] writes.
const ENVELOPE: &str = "  Value before = 1;
  Value after = 2;
  Source source = 3;
  string op = 4;
  optional int64 ts_ms = 5 [json_name = \"ts_ms\"];
  optional int64 ts_us = 6 [json_name = \"ts_us\"];
  optional int64 ts_ns = 7 [json_name = \"ts_ns\"];
  Transaction transaction = 8;
";

const SOURCE_AND_TRANSACTION: &str = "
  message Source {
    string version = 1;
    string connector = 2;
    string name = 3;
    int64 ts_ms = 4 [json_name = \"ts_ms\"];
    optional string snapshot = 5;
    string db = 6;
    optional string sequence = 7;
    optional int64 ts_us = 8 [json_name = \"ts_us\"];
    optional int64 ts_ns = 9 [json_name = \"ts_ns\"];
    string schema = 10;
    string table = 11;
    optional int64 txId = 12;
    optional int64 lsn = 13;
    optional int64 xmin = 14;
  }

  message Transaction {
    string id = 1;
    int64 total_order = 2 [json_name = \"total_order\"];
    int64 data_collection_order = 3 [json_name = \"data_collection_order\"];
  }
";

/// The number is `value`, a big-endian two's complement, divided by ten to the power of `scale`.
const DECIMAL: &str = "
  message Decimal {
    int32 scale = 1;
    bytes value = 2;
  }
";

/// An item that has neither field is null; one of an array of several dimensions is an array.
const ARRAY: &str = "
  message ARRAY {
    message Item {
      optional VALUE value = 1;
      optional ARRAY array = 2;
    }
    repeated Item items = 1;
    // Where the dimensions begin, if not at 1.
    repeated int32 lower_bounds = 2 [json_name = \"lower_bounds\"];
  }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_the_compiler_s() {
        assert_eq!(camel("foo_bar"), "fooBar");
        assert_eq!(camel("_foo__bar_"), "FooBar");
        assert_eq!(camel("fooBar"), "fooBar");
    }

    #[test]
    fn a_literal_has_nothing_that_ends_it() {
        assert_eq!(quoted("a \"b\"\\\n\u{1}ä"), "\"a \\\"b\\\"\\\\\\n\\001ä\"");
    }
}
