//! A small disk that can be full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes that are written at once, until none fit.
const PIECES: [usize; 2] = [64 << 10, 1];

/// A file system in memory. Gone when dropped.
#[derive(Debug)]
pub struct Disk {
    pub path: PathBuf,
}

impl Disk {
    /// Mounts one of `mebibytes` on a new folder, as root. Processes that are started later see it.
    ///
    /// # Panics
    /// When it cannot be mounted.
    #[must_use]
    pub fn mount(path: &Path, mebibytes: u32) -> Self {
        fs::create_dir_all(path).expect("the folder can be made");
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "disk"])
            .arg(path)
            .status()
            .expect("mount can be run");
        assert!(mounted.success(), "{} cannot be mounted", path.display());
        Self { path: path.into() }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    /// When it fails in another way than for want of room.
    pub fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("the disk can be written");
        for piece in PIECES {
            let bytes = vec![b'x'; piece];
            let full = loop {
                if let Err(error) = file.write_all(&bytes) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    /// Makes room again.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Processes that are about to end may still hold files of it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
