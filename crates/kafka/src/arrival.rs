//! Whether records have arrived that nobody acknowledges (`acks: 0`): the client takes them for delivered once they lie in a
//! socket, and closing one to which an answer is still under way throws away what the broker has not read. A broker handles
//! a connection's requests one after the other (Kafka protocol guide, "Network"), so its answer to a later one tells that it
//! has seen all before.

use crate::Error;
use crate::writer::Writer;
use rdkafka::producer::Producer;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// So old may be what is known of who leads which partition: one that moved takes what was written to its old leader with it.
const LEADERS_MAX: Duration = Duration::from_mins(1);
const CALL_MAX: Duration = Duration::from_secs(10);

/// Partitions written to since it was last certain that everything had arrived, and who leads them.
#[derive(Default)]
pub(crate) struct Arrival {
    /// Topics stay, also with nothing written to them now: their leaders need not be asked for again.
    written: HashMap<String, BTreeSet<i32>>,
    /// Ids of brokers, by topic and partition.
    leaders: HashMap<String, BTreeMap<i32, i32>>,
    learnt: Option<Instant>,
}

impl Arrival {
    pub(crate) fn note(&mut self, topic: &str, partition: i32) {
        match self.written.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition);
            }
            None => {
                self.written.insert(topic.into(), BTreeSet::from([partition]));
            }
        }
    }

    /// Waits until each broker that was written to has answered over the same connection.
    pub(crate) fn wait(&mut self, writer: &Writer) -> Result<(), Error> {
        for (topic, partition) in self.one_of_each_leader(writer)? {
            writer.end_of(&topic, partition)?;
        }
        self.written.values_mut().for_each(BTreeSet::clear);
        Ok(())
    }

    fn one_of_each_leader(&mut self, writer: &Writer) -> Result<Vec<(String, i32)>, Error> {
        if self.learnt.is_none_or(|it| LEADERS_MAX < it.elapsed()) || self.led().is_none() {
            self.learn(writer)?;
        }
        // A partition that has no leader now: the answer has to wait until there is one.
        Ok(self.led().unwrap_or_else(|| self.each()))
    }

    fn each(&self) -> Vec<(String, i32)> {
        let of = |(topic, partitions): (&String, &BTreeSet<i32>)| {
            partitions.iter().map(|&it| (topic.clone(), it)).collect::<Vec<_>>()
        };
        self.written.iter().flat_map(of).collect()
    }

    /// `None` where a leader is not known.
    fn led(&self) -> Option<Vec<(String, i32)>> {
        let mut found: BTreeMap<i32, (String, i32)> = BTreeMap::new();
        for (topic, partitions) in &self.written {
            for &partition in partitions {
                let leader = *self.leaders.get(topic)?.get(&partition)?;
                found.entry(leader).or_insert_with(|| (topic.clone(), partition));
            }
        }
        Some(found.into_values().collect())
    }

    fn learn(&mut self, writer: &Writer) -> Result<(), Error> {
        let metadata = writer
            .producer()
            .client()
            .fetch_metadata(None, CALL_MAX)
            .map_err(|error| Error::from_kafka("asking who leads the partitions", &error))?;
        self.leaders.clear();
        for topic in metadata.topics().iter().filter(|it| self.written.contains_key(it.name())) {
            let led = topic.partitions().iter().filter(|it| 0 <= it.leader());
            let leaders = led.map(|it| (it.id(), it.leader())).collect();
            self.leaders.insert(topic.name().into(), leaders);
        }
        self.learnt = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_leader_is_asked_once_and_an_unknown_one_makes_it_look() {
        let mut arrival = Arrival::default();
        assert_eq!(arrival.led(), Some(Vec::new()));
        for (topic, partition) in [("a", 0), ("a", 1), ("a", 1), ("b", 0)] {
            arrival.note(topic, partition);
        }
        assert_eq!(arrival.led(), None);
        assert_eq!(arrival.each().len(), 3);
        arrival.leaders.insert("a".into(), BTreeMap::from([(0, 7), (1, 8)]));
        assert_eq!(arrival.led(), None, "topic b");
        arrival.leaders.insert("b".into(), BTreeMap::from([(0, 7)]));
        let led = arrival.led().expect("all are known");
        assert_eq!(led.len(), 2, "{led:?}");
        assert_eq!(led[1], ("a".into(), 1));
        arrival.written.values_mut().for_each(BTreeSet::clear);
        arrival.note("a", 1);
        assert_eq!(arrival.led(), Some(vec![("a".into(), 1)]), "its leader is known still");
    }
}
