//! Bearer tokens of the admin service, looked up by their hash in constant time.

use crate::{Code, Error};
use config::tokens::Access;
use sha2::{Digest, Sha256};
use std::path::Path;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// More than any token; longer ones are not hashed.
const TOKEN_BYTES_MAX: usize = 1024;

/// Who may use the admin service.
#[derive(Clone, Debug)]
pub struct Tokens(Vec<Known>);

#[derive(Clone, Debug)]
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
        crate::tls::refuse_readable_by_all(path)?;
        config::Tokens::load(path)
            .map(|tokens| Self::new(&tokens))
            .map_err(|error| Error::new(Code::Argument, error.to_string(), ""))
    }

    #[must_use]
    pub fn new(tokens: &config::Tokens) -> Self {
        let known = |token: &config::tokens::Token| {
            Some(Known { name: token.name.clone(), access: token.role, hash: token.hash()? })
        };
        Self(tokens.tokens.iter().filter_map(known).collect())
    }

    /// Whose token it is. Takes as long for a wrong one as for any right one.
    pub(crate) fn find(&self, token: &[u8]) -> Option<(&str, Access)> {
        if TOKEN_BYTES_MAX < token.len() {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = u64::MAX;
        for (index, known) in (0u64..).zip(&self.0) {
            let same: Choice = known.hash.ct_eq(&hash);
            found.conditional_assign(&index, same);
        }
        let known = self.0.get(usize::try_from(found).ok()?)?;
        Some((&known.name, known.access))
    }
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
        assert_eq!(tokens.find(b"a"), Some(("ann", Access::Admin)));
        assert_eq!(tokens.find(b"b"), Some(("bob", Access::Viewer)));
        assert_eq!(tokens.find(b"c"), None);
        assert_eq!(tokens.find(b""), None);
        assert_eq!(tokens.find(&[b'a'; 4096]), None);
    }
}
