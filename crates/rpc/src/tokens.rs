//! Bearer tokens of the admin service, looked up by their hash in constant time.

use crate::{Code, Error};
use config::tokens::Access;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// More than any token; longer ones are not hashed.
const TOKEN_BYTES_MAX: usize = 1024;

/// Who may use the admin service. Clones share what was read last.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: Option<PathBuf>,
    known: RwLock<Vec<Known>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    name: String,
    access: Access,
    hash: [u8; 32],
}

impl Tokens {
    /// From the file that `auth.tokens_file` names.
    ///
    /// # Errors
    /// When it cannot be read, others than its owner and group can read it, or with everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let known = RwLock::new(read(path)?);
        Ok(Self(Arc::new(Shared { file: Some(path.to_owned()), known })))
    }

    #[must_use]
    pub fn new(tokens: &config::Tokens) -> Self {
        Self(Arc::new(Shared { file: None, known: RwLock::new(known(tokens)) }))
    }

    /// Reads the file again. Whether anything was new. A server does so by itself.
    ///
    /// # Errors
    /// As [`Tokens::load`]; what was read before stays in force.
    pub fn reload(&self) -> Result<bool, Error> {
        let Some(file) = &self.0.file else { return Ok(false) };
        let new = read(file)?;
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != new;
        *known = new;
        Ok(changed)
    }

    /// Whose token it is, and what for. Takes as long for a wrong one as for any right one.
    #[must_use]
    pub fn find(&self, token: &[u8]) -> Option<(String, Access)> {
        if TOKEN_BYTES_MAX < token.len() {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = u64::MAX;
        for (index, one) in (0u64..).zip(&*known) {
            let same: Choice = one.hash.ct_eq(&hash);
            found.conditional_assign(&index, same);
        }
        let one = known.get(usize::try_from(found).ok()?)?;
        Some((one.name.clone(), one.access))
    }
}

fn read(path: &Path) -> Result<Vec<Known>, Error> {
    crate::tls::refuse_readable_by_all(path)?;
    config::Tokens::load(path)
        .map(|tokens| known(&tokens))
        .map_err(|error| Error::new(Code::Argument, error.to_string(), ""))
}

fn known(tokens: &config::Tokens) -> Vec<Known> {
    let known = |token: &config::tokens::Token| {
        Some(Known { name: token.name.clone(), access: token.role, hash: token.hash()? })
    };
    tokens.tokens.iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_hash() {
        // Of `a` and of `b`.
        let text = "tokens:
- {name: ann, role: admin, sha256: ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb}
- {name: bob, role: viewer, sha256: 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d}
";
        let tokens = Tokens::new(&config::Tokens::parse(text).expect("parses"));
        assert_eq!(tokens.find(b"a"), Some(("ann".to_owned(), Access::Admin)));
        assert_eq!(tokens.find(b"b"), Some(("bob".to_owned(), Access::Viewer)));
        assert_eq!(tokens.find(b"c"), None);
        assert_eq!(tokens.find(b""), None);
        assert_eq!(tokens.find(&[b'a'; 4096]), None);
    }
}
