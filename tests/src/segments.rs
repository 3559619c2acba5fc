//! What lies in a broker's log.

use crate::servers::{Server, ask};
use crate::topics;
use std::fs;
use std::path::{Path, PathBuf};

/// A batch of records as it lies in a segment (Kafka, message format version 2).
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// 0: none, 1: gzip, 2: snappy, 3: lz4, 4: zstd.
    pub codec: usize,
    pub records: u32,
}

/// The batches of a topic that clients have written.
///
/// # Panics
/// When the broker does not know the topic, or its folder cannot be read.
#[must_use]
pub fn batches(kafka: &Server, topic: &str) -> Vec<Batch> {
    let data = Path::new(&ask("log", &kafka.name)).with_file_name("data");
    let partitions = topics::list(kafka, |it| it == topic)[topic];
    let folders = (0..partitions).map(|partition| data.join(format!("{topic}-{partition}")));
    folders.flat_map(|folder| of_partition(&folder)).collect()
}

/// The batches of a partition: control batches are the broker's own.
fn of_partition(partition: &Path) -> Vec<Batch> {
    const LENGTH: usize = 8;
    const ATTRIBUTES: usize = 21;
    const COUNT: usize = 57;
    const HEADER: usize = 61;
    const CODEC: u16 = 7;
    const CONTROL: u16 = 1 << 5;
    let folder = fs::read_dir(partition).expect("the broker's folder");
    let paths = folder.map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    segments.sort();
    let mut found = Vec::new();
    for bytes in segments.iter().map(|path| fs::read(path).expect("a segment")) {
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        let mut at = 0;
        while at + HEADER <= bytes.len() {
            let attributes =
                u16::from_be_bytes([bytes[at + ATTRIBUTES], bytes[at + ATTRIBUTES + 1]]);
            if attributes & CONTROL == 0 {
                let codec = usize::from(attributes & CODEC);
                found.push(Batch { codec, records: number(at + COUNT) });
            }
            at += LENGTH + 4 + usize::try_from(number(at + LENGTH)).expect("a length");
        }
    }
    found
}
