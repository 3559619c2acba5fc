//! What is wrong with a spec: all of it at once, each with its place.

use std::fmt;

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// From 1; 0 where the spec as a whole is meant.
    pub line: usize,
    /// E.g. `sink.topic`; empty for the spec as a whole.
    pub path: String,
    /// Cause and remedy.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line != 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong with a spec. Never empty.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index != 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
