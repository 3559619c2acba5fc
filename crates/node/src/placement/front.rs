//! Where the front of a task goes: reader, decoder and router together on one worker that has the
//! labels of all three; parted only if there is none.

use super::near::closeness;
use super::{Part, Room, Unplaced, Wanted};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The worker of each stage.
struct Front {
    reader: String,
    decoder: String,
    router: String,
}

impl<'a> Room<'a> {
    pub(super) fn place_fronts(&mut self) {
        let mut homeless = Vec::new();
        let mut fronts: BTreeMap<String, usize> = BTreeMap::new();
        for &task in self.seats.keys() {
            if self.stays(task)
                && let Some(reader) = &self.seats[task].front
            {
                *fronts.entry(reader.clone()).or_default() += 1;
            } else {
                homeless.push(task);
            }
        }
        for task in homeless {
            let front = match self.choose(task, &fronts) {
                Ok(front) => Some(front),
                Err((part, reason)) => {
                    self.unplaced.push(Unplaced { task: task.into(), part, reason });
                    self.missing(task)
                }
            };
            let seats = self.seats.get_mut(task).expect("every task has seats");
            (seats.front, seats.decoder, seats.router) = (None, None, None);
            if let Some(Front { reader, decoder, router }) = front {
                *fronts.entry(reader.clone()).or_default() += 1;
                seats.decoder = (decoder != reader).then_some(decoder);
                seats.router = (router != reader).then_some(router);
                seats.front = Some(reader);
            }
        }
    }

    /// Whether all of the front can stay where it is.
    fn stays(&self, task: &str) -> bool {
        let (seats, labels) = (&self.seats[task], &self.tasks[task].labels);
        let stages = [
            (seats.front.as_deref(), &labels.reader),
            (seats.decoder(), &labels.decoder),
            (seats.router(), &labels.router),
        ];
        stages.iter().all(|(node, wanted)| node.is_some_and(|it| self.may_stay(it, wanted)))
    }

    /// The front as it is, if each of its workers is missing or may keep it.
    fn missing(&self, task: &str) -> Option<Front> {
        let (seats, labels) = (&self.seats[task], &self.tasks[task].labels);
        let held = |node: Option<&str>, wanted| {
            let node = node?;
            (self.is_missing(node) || self.may_stay(node, wanted)).then(|| node.to_owned())
        };
        let reader = held(seats.front.as_deref(), &labels.reader)?;
        let decoder = held(seats.decoder(), &labels.decoder)?;
        let router = held(seats.router(), &labels.router)?;
        Some(Front { reader, decoder, router })
    }

    fn choose(
        &self,
        task: &str,
        fronts: &BTreeMap<String, usize>,
    ) -> Result<Front, (Part, String)> {
        let (seats, Wanted { labels, source, .. }) = (&self.seats[task], &self.tasks[task]);
        let lanes = self.loads();
        let best = |candidates: Vec<&'a str>, near: &[Option<&str>]| {
            candidates.into_iter().min_by_key(|it| {
                let distance = near.iter().position(|node| *node == Some(it));
                let away = Reverse(closeness(&self.workers[*it].address, source));
                let load = (fronts.get(*it).copied(), away, lanes.get(it).copied());
                (distance.unwrap_or(near.len()), load, *it)
            })
        };
        let had = [seats.front.as_deref(), seats.decoder(), seats.router()];
        let all = [&labels.reader, &labels.decoder, &labels.router];
        if let Some(one) = best(self.candidates(&all), &had) {
            let [reader, decoder, router] = [one, one, one].map(str::to_owned);
            return Ok(Front { reader, decoder, router });
        }
        let stage = |part, had: Option<&str>, wanted, near: &[Option<&str>]| {
            if let Some(node) = had.filter(|it| self.may_stay(it, wanted)) {
                return Ok(node.to_owned());
            }
            let chosen = best(self.candidates(&[wanted]), near);
            chosen.map(str::to_owned).ok_or_else(|| (part, self.reason(wanted)))
        };
        let reader = stage(Part::Reader, had[0], all[0], &[had[1], had[2]])?;
        let decoder = stage(Part::Decoder, had[1], all[1], &[Some(&reader), had[2]])?;
        let router = stage(Part::Router, had[2], all[2], &[Some(&decoder), Some(&reader)])?;
        Ok(Front { reader, decoder, router })
    }
}
