//! Text of a spec → values, with the line of everything.

use crate::{Problem, Problems, Task};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// A spec is written by people.
const TEXT_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 16;
/// More problems than a person reads at once.
const PROBLEMS_MAX: usize = 50;

/// Lines of a spec by path, e.g. `sink.topic` or `objects[0].table`.
#[derive(Debug, Default)]
pub struct Places(HashMap<String, usize>);

impl Places {
    /// Of a text; without any line where it is no YAML.
    #[must_use]
    pub fn of(text: &str) -> Self {
        load(text).map(|(_, places)| places).unwrap_or_default()
    }

    /// Whether the text has a value there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Line of a path, or of the nearest one around it; 0 where there is none.
    #[must_use]
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(&line) = self.0.get(path) {
                return line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 0,
            }
        }
    }
}

impl Task {
    /// Reads and checks a spec.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with line and path.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        parse(text, Self::problems)
    }
}

impl crate::Source {
    /// Reads settings of a source that stand alone. What a task adds may be missing.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with line and path.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        parse(text, |_| Vec::new())
    }
}

impl crate::Sink {
    /// As [`crate::Source::parse`], of a sink.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        parse(text, |_| Vec::new())
    }
}

/// Reads a spec and has `check` look at its values: what is wrong with either comes out at once.
pub(crate) fn parse<T: DeserializeOwned>(
    text: &str,
    check: impl FnOnce(&T) -> Vec<Problem>,
) -> Result<T, Problems> {
    let (value, places) = load(text).map_err(|problem| Problems(vec![problem]))?;
    self::check(value, &places, check)
}

/// The values of a spec as a spec, which `check` looks at.
pub(crate) fn check<T: DeserializeOwned>(
    value: Value,
    places: &Places,
    check: impl FnOnce(&T) -> Vec<Problem>,
) -> Result<T, Problems> {
    let mut problems = Vec::new();
    let spec = deserialize(value, places, &mut problems);
    if let Some(spec) = &spec {
        let known: Vec<String> = problems.iter().map(|known| known.path.clone()).collect();
        let mut found = check(spec);
        // What did not fit was taken out: that it is missing now is nothing new.
        found.retain(|problem| !known.iter().any(|path| is_within(&problem.path, path)));
        for problem in &mut found {
            problem.line = places.line(&problem.path);
        }
        problems.append(&mut found);
    }
    problems.sort_by_key(|problem| problem.line);
    match spec {
        Some(spec) if problems.is_empty() => Ok(spec),
        _ => Err(Problems(problems)),
    }
}

fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Deserializes; what does not fit is noted, taken out and the rest tried again.
fn deserialize<T: DeserializeOwned>(
    mut value: Value,
    places: &Places,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    while problems.len() < PROBLEMS_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
            Ok(spec) => return Some(spec),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let text = error.into_inner().to_string();
        problems.push(Problem {
            line: places.line(&path),
            text: explain(&text),
            path: path.clone(),
        });
        if !remove(&mut value, &path) {
            return None;
        }
    }
    None
}

/// Makes serde's words into ours: the nearest known key, the allowed words, the type wanted. Values
/// are not repeated but for words: they may be secrets.
fn explain(text: &str) -> String {
    if let Some(said) = wrong_type(text) {
        return said;
    }
    let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let Some((wrong, known)) = quoted.split_first() else { return text.to_owned() };
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(wrong, known), *known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(2))
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default();
    if text.starts_with("unknown field") {
        format!("unknown key{nearest} (known here: {})", known.join(", "))
    } else if text.starts_with("unknown variant") {
        format!("`{wrong}` is not allowed{nearest} (allowed: {})", known.join(", "))
    } else {
        text.to_owned()
    }
}

/// `invalid type: string "x", expected i32` in words of a spec.
fn wrong_type(text: &str) -> Option<String> {
    let (found, expected) = text
        .strip_prefix("invalid type: ")
        .or_else(|| text.strip_prefix("invalid value: "))?
        .rsplit_once(", expected ")?;
    let found = match found.split([' ', '`']).next().unwrap_or_default() {
        "string" => "a text",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a set of keys",
        _ => "nothing",
    };
    let number = |least: i64, most: i64| format!("a whole number from {least} to {most}");
    let expected = match expected {
        "a string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "string or map" => "a word".to_owned(),
        "u8" => number(0, u8::MAX.into()),
        "u16" => number(0, u16::MAX.into()),
        "u32" => number(0, u32::MAX.into()),
        "i32" => number(i32::MIN.into(), i32::MAX.into()),
        "u64" => "a whole number, 0 or more".to_owned(),
        "a sequence" => "a list, e.g. [a, b]".to_owned(),
        "a map" => "keys with values".to_owned(),
        structure if structure.starts_with("struct ") => "keys with values".to_owned(),
        other => other.to_owned(),
    };
    let quotes = expected == "a text" && matches!(found, "a number" | "true or false");
    let remedy = if quotes { "; put it in quotes" } else { "" };
    Some(format!("expected {expected}, found {found}{remedy}"))
}

/// Takes the value at a path out; false where there is none. Keys may have dots of their own.
fn remove(value: &mut Value, path: &str) -> bool {
    match value {
        Value::Object(map) => {
            let path = path.strip_prefix('.').unwrap_or(path);
            let leads = |key: &&String| is_within(path, key);
            let Some(key) = map.keys().filter(leads).max_by_key(|key| key.len()).cloned() else {
                return false;
            };
            match &path[key.len()..] {
                "" => map.remove(&key).is_some(),
                rest => map.get_mut(&key).is_some_and(|inner| remove(inner, rest)),
            }
        }
        Value::Array(items) => {
            let Some((index, rest)) = path.strip_prefix('[').and_then(|path| path.split_once(']'))
            else {
                return false;
            };
            let Some(item) = index.parse().ok().and_then(|index: usize| items.get_mut(index))
            else {
                return false;
            };
            if !rest.is_empty() {
                return remove(item, rest);
            }
            // An empty rule keeps the numbers of the others right.
            let empty = Value::Object(Map::new());
            let taken = *item != empty;
            *item = empty;
            taken
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The values of a text, and where they stand.
pub(crate) fn load(text: &str) -> Result<(Value, Places), Problem> {
    let whole = |line, text: String| Problem { line, path: String::new(), text };
    if TEXT_BYTES_MAX < text.len() {
        return Err(whole(0, format!("the spec is larger than {TEXT_BYTES_MAX} bytes")));
    }
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| whole(error.marker().line(), format!("not YAML: {}", error.info())))?;
    let mut documents = documents.into_iter();
    let (Some(document), None) = (documents.next(), documents.next()) else {
        return Err(whole(0, "expected one YAML document with the keys of a spec".into()));
    };
    let mut places = Places::default();
    let value = convert(&document, "", DEPTH_MAX, &mut places)?;
    if !value.is_object() {
        return Err(whole(1, "expected keys with values, e.g. `task: shop` or `node: w1`".into()));
    }
    Ok((value, places))
}

fn convert(
    node: &MarkedYaml<'_>,
    path: &str,
    depth: usize,
    places: &mut Places,
) -> Result<Value, Problem> {
    let line = node.span.start.line();
    let problem = |text: &str| Problem { line, path: path.to_owned(), text: text.to_owned() };
    let depth = depth.checked_sub(1).ok_or_else(|| problem("nested too deeply"))?;
    places.0.entry(path.to_owned()).or_insert(line);
    Ok(match &node.data {
        YamlData::Value(Scalar::Null) => Value::Null,
        YamlData::Value(Scalar::Boolean(value)) => Value::Bool(*value),
        YamlData::Value(Scalar::Integer(value)) => Value::Number(Number::from(*value)),
        YamlData::Value(Scalar::FloatingPoint(value)) => {
            Number::from_f64(value.into_inner()).map_or(Value::Null, Value::Number)
        }
        YamlData::Value(Scalar::String(value)) => Value::String(value.to_string()),
        YamlData::Sequence(items) => {
            let item = |(index, item)| convert(item, &format!("{path}[{index}]"), depth, places);
            Value::Array(items.iter().enumerate().map(item).collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                let name = if let YamlData::Value(Scalar::String(name)) = &key.data {
                    name.to_string()
                } else if let YamlData::Value(Scalar::Integer(number)) = &key.data {
                    number.to_string()
                } else {
                    return Err(problem("a key must be a text"));
                };
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{name}");
                places.0.insert(path.clone(), key.span.start.line());
                map.insert(name, convert(value, &path, depth, places)?);
            }
            Value::Object(map)
        }
        YamlData::Representation(..)
        | YamlData::Tagged(..)
        | YamlData::Alias(_)
        | YamlData::BadValue => {
            return Err(problem("anchors, aliases and tags are not used in specs"));
        }
    })
}
