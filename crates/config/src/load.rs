//! A spec from its file. The one place of this package, besides secrets, that touches the disk.

use crate::{Node, Problems, Role, Task};
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than any spec that is accepted; a device or a wrong file ends here.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A spec could not be had from its file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the spec `{}` does not exist; give the path of a spec", .0.display())]
    Missing(PathBuf),
    #[error("the spec `{}` cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the spec `{}` is no UTF-8 text", .0.display())]
    NotText(PathBuf),
    #[error("the spec `{}` cannot be used:\n{problems}", path.display())]
    Wrong { path: PathBuf, problems: Problems },
}

impl Task {
    /// Reads and checks the spec in a file.
    ///
    /// # Errors
    /// When the file cannot be read, or with everything that is wrong with the spec.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = read(path)?;
        Self::parse(&text).map_err(|problems| LoadError::Wrong { path: path.to_owned(), problems })
    }
}

impl Node {
    /// Reads and checks the spec in a file.
    ///
    /// # Errors
    /// When the file cannot be read, or with everything that is wrong with the spec.
    pub fn load(path: &Path, role: Role) -> Result<Self, LoadError> {
        let text = read(path)?;
        Self::parse(&text, role)
            .map_err(|problems| LoadError::Wrong { path: path.to_owned(), problems })
    }
}

/// The text of a spec, not looked at yet.
///
/// # Errors
/// When there is no such file, or it is no text.
pub fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source: std::io::Error| {
        if source.kind() == std::io::ErrorKind::NotFound {
            LoadError::Missing(path.to_owned())
        } else {
            LoadError::Unreadable { path: path.to_owned(), source }
        }
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| LoadError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        Task::load(Path::new(path)).expect_err("refused").to_string()
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let said = refusal("no/such/shop.yaml");
        assert!(said.contains("`no/such/shop.yaml` does not exist"), "{said}");
    }

    #[test]
    fn a_folder_is_no_spec() {
        assert!(refusal("src").contains("cannot be read"));
    }

    #[test]
    fn the_interface_s_own_specs_load() {
        assert!(Task::load(Path::new("testdata/interface.yaml")).is_ok());
        assert!(Node::load(Path::new("testdata/node.yaml"), Role::Worker).is_ok());
    }
}
