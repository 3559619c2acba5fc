//! Counts, latencies, and the rows that the topics say are there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::event::{Event, Kind};

/// What came in one second, or in all.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) events: u64,
    bytes: u64,
    kinds: BTreeMap<Kind, u64>,
    latencies_ms: Vec<u32>,
}

/// One second of many events needs no more than this for its percentiles, and a long run must not grow.
const LATENCIES_MAX: usize = 1 << 20;

impl Figures {
    /// Counts an event of `bytes` that arrived at `now_ms`. Tombstones belong to their delete and are not counted.
    pub(crate) fn add(&mut self, event: &Event, bytes: usize, now_ms: i64) {
        if event.kind == Kind::Tombstone {
            return;
        }
        self.events += 1;
        self.bytes += bytes as u64;
        *self.kinds.entry(event.kind).or_default() += 1;
        if let Some(committed_ms) = event.committed_ms
            && self.latencies_ms.len() < LATENCIES_MAX
        {
            self.latencies_ms
                .push(u32::try_from((now_ms - committed_ms).max(0)).unwrap_or(u32::MAX));
        }
    }

    /// Median, 99th percentile and maximum, where anything was measured.
    fn latency_ms(&self) -> Option<(u32, u32, u32)> {
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_unstable();
        let at = |part: usize| {
            sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1)))
        };
        Some((*at(50)?, *at(99)?, *sorted.last()?))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events, {} KiB", self.events, self.bytes / 1024)?;
        for (kind, count) in &self.kinds {
            write!(f, ", {count} {}", kind.word())?;
        }
        if let Some((median, high, max)) = self.latency_ms() {
            write!(f, "; commit to here: p50 {median} ms, p99 {high} ms, max {max} ms")?;
        }
        Ok(())
    }
}

/// The keys that are alive in each topic, as whoever rebuilds the tables from the topics would have them.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    keys: BTreeMap<String, HashMap<i32, HashSet<Vec<u8>>>>,
}

impl Tables {
    pub(crate) fn apply(&mut self, topic: &str, partition: i32, key: Option<&[u8]>, kind: Kind) {
        if !self.keys.contains_key(topic) {
            self.keys.insert(topic.to_owned(), HashMap::new());
        }
        let Some(partitions) = self.keys.get_mut(topic) else { return };
        let alive = partitions.entry(partition).or_default();
        match kind {
            Kind::Read | Kind::Insert | Kind::Update => {
                if let Some(key) = key
                    && !alive.contains(key)
                {
                    alive.insert(key.to_vec());
                }
            }
            Kind::Delete => {
                key.map(|key| alive.remove(key));
            }
            // Every partition gets its own truncate, so the order within one partition is all that counts.
            Kind::Truncate => alive.clear(),
            Kind::Tombstone | Kind::Other => {}
        }
    }

    /// Rows by topic.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, usize)> {
        self.keys.iter().map(|(topic, partitions)| {
            (topic.as_str(), partitions.values().map(HashSet::len).sum::<usize>())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, committed_ms: Option<i64>) -> Event {
        Event { kind, committed_ms, key: String::new(), detail: String::new() }
    }

    #[test]
    fn percentiles_come_from_what_has_a_commit_time() {
        let mut figures = Figures::default();
        for latency in 0..100 {
            figures.add(&event(Kind::Insert, Some(1000 - latency)), 1024, 1000);
        }
        figures.add(&event(Kind::Read, None), 1024, 1000);
        figures.add(&event(Kind::Tombstone, None), 1024, 1000);
        let expected = "101 events, 101 KiB, 1 read, 100 insert; commit to here: p50 50 ms, p99 99 ms, max 99 ms";
        assert_eq!(figures.to_string(), expected);
        assert_eq!(Figures::default().to_string(), "0 events, 0 KiB");
    }

    #[test]
    fn rows_are_what_deletes_and_truncates_left() {
        let mut tables = Tables::default();
        for (partition, key, kind) in [
            (0, "a", Kind::Read),
            (0, "b", Kind::Insert),
            (0, "b", Kind::Update),
            (0, "a", Kind::Delete),
            (0, "a", Kind::Tombstone),
            (1, "c", Kind::Insert),
        ] {
            tables.apply("t", partition, Some(key.as_bytes()), kind);
        }
        assert_eq!(tables.rows().collect::<Vec<_>>(), [("t", 2)]);
        tables.apply("t", 1, None, Kind::Truncate);
        assert_eq!(tables.rows().collect::<Vec<_>>(), [("t", 1)]);
    }
}
