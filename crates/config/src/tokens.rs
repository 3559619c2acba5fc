//! The tokens file: who may use the admin service. It holds hashes, never a token.

use crate::check::problem;
use crate::{LoadError, Problem, Problems, load};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// Everybody who may use the admin service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    pub tokens: Vec<Token>,
}

/// One person or program.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Token {
    /// Who it is, for the audit log.
    pub name: String,
    pub role: Access,
    /// SHA-256 of the token, in hex. A token is a long random text, so that its hash tells nothing.
    pub sha256: String,
}

/// What somebody may do. Each holds what those before it hold.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reads.
    #[default]
    Viewer,
    /// Starts, stops and moves.
    Operator,
    /// Creates, changes and removes.
    Admin,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

impl Token {
    /// The hash's bytes.
    #[must_use]
    pub fn hash(&self) -> Option<[u8; 32]> {
        let digits = self.sha256.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(hash)
    }
}

impl Tokens {
    /// Reads and checks the tokens of a file.
    ///
    /// # Errors
    /// When the file cannot be read, or with everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = load::read(path)?;
        Self::parse(&text).map_err(|problems| LoadError::Wrong { path: path.to_owned(), problems })
    }

    /// Reads and checks tokens.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with line and path.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        crate::text::parse(text, Self::problems)
    }

    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if self.tokens.is_empty() {
            let text = "is required: at least one of `{name: …, role: …, sha256: …}`";
            found.push(problem("tokens", text));
        }
        let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for (index, token) in self.tokens.iter().enumerate() {
            let path = |key: &str| format!("tokens[{index}].{key}");
            if token.name.is_empty() || token.name.chars().any(char::is_control) {
                found.push(problem(&path("name"), "is required: who uses it, for the audit log"));
            } else if !names.insert(&token.name) {
                found.push(problem(&path("name"), format!("`{}` is here twice", token.name)));
            }
            let Some(hash) = token.hash() else {
                let text = "is required: 64 hex digits, e.g. of `printf %s \"$TOKEN\" | sha256sum`";
                found.push(problem(&path("sha256"), text));
                continue;
            };
            if !hashes.insert(hash) {
                found.push(problem(&path("sha256"), "is the same token as another one's"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_tokens_file_is_named() {
        let text = "tokens:\n- {name: a, role: root, sha256: 12}\n- {name: a, role: admin}\n- {}\n";
        let said = Tokens::parse(text).expect_err("refused").to_string();
        for part in [
            "line 2: `tokens[0].role`: `root` is not allowed",
            "line 2: `tokens[0].sha256`: expected a text, found a number; put it in quotes",
            "line 3: `tokens[1].name`: `a` is here twice",
            "line 3: `tokens[1].sha256`: is required: 64 hex digits",
            "line 4: `tokens[2].name`: is required",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    #[test]
    fn a_hash_is_read_in_either_case() {
        let token = Token { sha256: "aB".repeat(32), ..Token::default() };
        assert_eq!(token.hash(), Some([0xab; 32]));
        let short = Token { sha256: "ab".repeat(31), ..Token::default() };
        assert_eq!(short.hash(), None);
        let strange = Token { sha256: "é".repeat(32), ..Token::default() };
        assert_eq!(strange.hash(), None);
    }

    #[test]
    fn roles_hold_what_those_before_them_hold() {
        assert!(Access::Viewer < Access::Operator && Access::Operator < Access::Admin);
    }
}
