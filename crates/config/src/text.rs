//! Text of a spec → values, with the line of everything.

use crate::{Problem, Problems, Task};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
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
        let (value, places) = load(text).map_err(|problem| Problems(vec![problem]))?;
        let mut problems = Vec::new();
        let task = deserialize(value, &places, &mut problems);
        if let Some(task) = &task {
            let known: Vec<String> = problems.iter().map(|known| known.path.clone()).collect();
            let mut found = task.problems();
            found.retain(|problem| {
                !known.iter().any(|path| problem.path.starts_with(path.as_str()))
            });
            for problem in &mut found {
                problem.line = places.line(&problem.path);
            }
            problems.append(&mut found);
        }
        problems.sort_by_key(|problem| problem.line);
        match task {
            Some(task) if problems.is_empty() => Ok(task),
            _ => Err(Problems(problems)),
        }
    }
}

/// Deserializes; what does not fit is noted, taken out and the rest tried again.
fn deserialize(mut value: Value, places: &Places, problems: &mut Vec<Problem>) -> Option<Task> {
    while problems.len() < PROBLEMS_MAX {
        let error = match serde_path_to_error::deserialize::<_, Task>(value.clone()) {
            Ok(task) => return Some(task),
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

/// Makes serde's words into ours: the nearest known key, the allowed words.
fn explain(text: &str) -> String {
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

/// Takes the value at a path out; false where there is none.
fn remove(value: &mut Value, path: &str) -> bool {
    let mut steps: Vec<String> = Vec::new();
    for part in path.split('.') {
        let mut pieces = part.split('[');
        steps.extend(pieces.next().filter(|name| !name.is_empty()).map(str::to_owned));
        steps.extend(pieces.map(|index| index.trim_end_matches(']').to_owned()));
    }
    let Some(last) = steps.pop() else { return false };
    let mut at = value;
    for step in steps {
        let next = match at {
            Value::Object(map) => map.get_mut(&step),
            Value::Array(items) => {
                step.parse::<usize>().ok().and_then(|index| items.get_mut(index))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match at {
        Value::Object(map) => map.remove(&last).is_some(),
        Value::Array(items) => match last.parse::<usize>() {
            // An empty rule keeps the numbers of the others right.
            Ok(index) if index < items.len() && items[index] != Value::Object(Map::new()) => {
                items[index] = Value::Object(Map::new());
                true
            }
            Ok(_) | Err(_) => false,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn load(text: &str) -> Result<(Value, Places), Problem> {
    let whole = |line, text: String| Problem { line, path: String::new(), text };
    if TEXT_BYTES_MAX < text.len() {
        return Err(whole(0, format!("the spec is larger than {TEXT_BYTES_MAX} bytes")));
    }
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| whole(error.marker().line(), format!("not YAML: {}", error.info())))?;
    let mut documents = documents.into_iter();
    let (Some(document), None) = (documents.next(), documents.next()) else {
        return Err(whole(0, "expected one YAML document with the keys of a task".into()));
    };
    let mut places = Places::default();
    let value = convert(&document, "", DEPTH_MAX, &mut places)?;
    if !value.is_object() {
        return Err(whole(1, "expected keys such as `version`, `task`, `source`, `sink`".into()));
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
