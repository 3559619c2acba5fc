//! The meta lane's thread: its calls block, the task awaits.

use crate::acknowledger::Beside;
use crate::failure::Failure;
use kafka::meta::{MetaLane, MetaRecord, MetaState, Watermark};
use kafka::names::Names;
use kafka::settings::Settings;
use record::told::Teller;
use record::transaction::Summary;
use std::sync::{Arc, mpsc};
use supervision::FailureClass;
use tokio::sync::oneshot;

/// The task's hold on its meta lane. Clones share the thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Meta {
    orders: mpsc::Sender<Order>,
    term: i64,
}

struct Order {
    what: What,
    /// Told the newest low watermark.
    done: oneshot::Sender<Result<Option<Watermark>, kafka::Error>>,
}

#[derive(Debug)]
enum What {
    Write(Vec<MetaRecord>),
    Advance {
        watermark: Watermark,
        beside: Beside,
        teller: Arc<Teller>,
    },
    Beat(Arc<Teller>),
    /// The newest record once more.
    Prove,
}

impl Meta {
    /// Opens the meta lane, which fences every older owner of the task, and reads its state. `anew`:
    /// what cannot be read of it does not count.
    ///
    /// # Errors
    /// When Kafka does not answer, does not permit it, or the state cannot be trusted.
    pub async fn open(
        settings: Settings,
        names: Names,
        anew: bool,
    ) -> Result<(Self, MetaState), Failure> {
        let open = if anew { MetaLane::open_anew } else { MetaLane::open };
        let (orders, queue) = mpsc::channel::<Order>();
        let (opened, state) = oneshot::channel();
        std::thread::Builder::new()
            .name("meta lane".into())
            .spawn(move || match open(&settings, &names) {
                Ok((lane, state)) => {
                    let newest = proof(&state);
                    // Whoever asked may have gone: then the queue ends at once, too.
                    let _ = opened.send(Ok((lane.term(), state)));
                    serve(lane, newest, &queue);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|error| Failure::transient(format!("no thread for the meta lane: {error}")))?;
        let (term, state) = state.await.map_err(|_| panicked())??;
        Ok((Self { orders, term }, state))
    }

    /// Higher than that of every earlier owner of the task.
    #[must_use]
    pub fn term(&self) -> i64 {
        self.term
    }

    /// Writes records in one transaction; resolves once they are durable.
    ///
    /// # Errors
    /// [`FailureClass::Fenced`]: another process owns the task. Others may pass.
    pub async fn write(&self, records: Vec<MetaRecord>) -> Result<(), Failure> {
        self.order(What::Write(records)).await.map(drop)
    }

    /// Has records written before all that is asked for later. Nobody waits: where it fails, so does what comes later, or
    /// the records can be missing.
    pub fn post(&self, records: Vec<MetaRecord>) {
        let (done, _) = oneshot::channel();
        // A thread that has ended is told to whoever waits for it.
        let _ = self.orders.send(Order { what: What::Write(records), done });
    }

    /// Writes a low watermark and, where the spec asks for it, tells consumers of it and of the transactions up to
    /// it; resolves once all are durable.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn advance(
        &self,
        watermark: Watermark,
        beside: Beside,
        teller: Arc<Teller>,
    ) -> Result<(), Failure> {
        self.order(What::Advance { watermark, beside, teller }).await.map(drop)
    }

    /// Tells consumers that the task lives and up to where everything can be seen, where the spec asks for that.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn beat(&self, teller: Arc<Teller>) -> Result<(), Failure> {
        self.order(What::Beat(teller)).await.map(drop)
    }

    /// Resolves once it is certain that no other process had taken the task over when this was
    /// called. Before its first record a task has nothing that another could have continued.
    ///
    /// Gives the low watermark that is in Kafka, where one is: whoever asked for it may have ended
    /// before the answer came.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn prove(&self) -> Result<Option<Watermark>, Failure> {
        self.order(What::Prove).await
    }

    async fn order(&self, what: What) -> Result<Option<Watermark>, Failure> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order { what, done }).map_err(|_| panicked())?;
        Ok(answer.await.map_err(|_| panicked())??)
    }
}

fn serve(mut lane: MetaLane, mut newest: Option<MetaRecord>, queue: &mpsc::Receiver<Order>) {
    // What became of the last watermark, and of the transactions that were to be told with it, is not known.
    let mut in_doubt = false;
    while let Ok(Order { what, done }) = queue.recv() {
        if in_doubt {
            match lane.settle() {
                Ok(found) => newest = found.map(MetaRecord::Watermark).or(newest),
                Err(error) => {
                    let _ = done.send(Err(error));
                    continue;
                }
            }
            in_doubt = false;
        }
        let written = match what {
            What::Write(mut records) => {
                never_back(&mut records, newest.as_ref());
                // Also where it fails: it may be there all the same, and is true.
                newest = records.iter().rfind(|it| is_proof(it)).cloned().or(newest);
                lane.write(&records)
            }
            What::Advance { mut watermark, beside, teller } => {
                let Beside { commit_time_us, mut transactions } = beside;
                untold(&mut transactions, &watermark, newest.as_ref());
                let is_asked = !never_below(&mut watermark, newest.as_ref());
                let before = newest.replace(MetaRecord::Watermark(watermark.clone()));
                let commit_time_us = commit_time_us.filter(|_| is_asked);
                let written = lane.advance(&watermark, commit_time_us, &transactions, &teller);
                // It does not count before it is certain: transactions are told once or never, and what lanes were told
                // may be undone by the time that it would be written again.
                if written.is_err() {
                    (in_doubt, newest) = (true, before);
                }
                written
            }
            // Before the first watermark there is nothing to speak of.
            What::Beat(teller) => match &newest {
                Some(MetaRecord::Watermark(watermark)) => lane.beat(watermark, &teller),
                Some(_) | None => Ok(()),
            },
            // Kept here and not with the asker, whose copy may be older than what waits in the queue:
            // the low watermark never goes back.
            What::Prove => {
                newest.as_ref().map_or(Ok(()), |it| lane.write(std::slice::from_ref(it)))
            }
        };
        // The caller decides what a failure means; it may have gone.
        let _ = done.send(written.map(|()| watermark(newest.as_ref())));
    }
}

/// Leaves out what was told with the newest watermark, or one before it: a transaction ends after its commit record
/// begins, and no other commits in between.
fn untold(transactions: &mut Vec<Summary>, asked: &Watermark, newest: Option<&MetaRecord>) {
    if let Some(MetaRecord::Watermark(newest)) = newest
        && newest.system_id == asked.system_id
    {
        transactions.retain(|it| newest.lsn <= it.transaction.commit_lsn);
    }
}

/// Replaces a watermark by a newer one of the same server. `true`: it was.
fn never_below(asked: &mut Watermark, newest: Option<&MetaRecord>) -> bool {
    match newest {
        Some(MetaRecord::Watermark(newest))
            if asked.system_id == newest.system_id
                && (asked.timeline < newest.timeline
                    || is_same_line(asked, newest) && asked.lsn < newest.lsn) =>
        {
            asked.clone_from(newest);
            true
        }
        Some(_) | None => false,
    }
}

/// Earlier releases did not write the history.
fn is_same_line(one: &Watermark, other: &Watermark) -> bool {
    let is_known = !one.history.is_empty() && !other.history.is_empty();
    one.timeline == other.timeline && (!is_known || one.history == other.history)
}

/// A front that ends does not learn what became of the low watermark it had asked for; the next one may
/// ask for a lower one. What was asked for is true, so it is written once more in its place.
/// What was asked for on an older time line is not true of a newer one, however high it is.
/// Beside other records a watermark begins something anew, and counts as it is.
pub fn never_back(records: &mut [MetaRecord], newest: Option<&MetaRecord>) {
    if let [MetaRecord::Watermark(asked)] = records {
        never_below(asked, newest);
    }
}

/// What can be written again without harm.
fn is_proof(record: &MetaRecord) -> bool {
    matches!(record, MetaRecord::Watermark(_) | MetaRecord::Snapshot(_))
}

fn proof(state: &MetaState) -> Option<MetaRecord> {
    let watermark = state.watermark.clone().map(MetaRecord::Watermark);
    watermark.or_else(|| state.snapshot.clone().map(MetaRecord::Snapshot))
}

fn watermark(newest: Option<&MetaRecord>) -> Option<Watermark> {
    match newest {
        Some(MetaRecord::Watermark(watermark)) => Some(watermark.clone()),
        Some(_) | None => None,
    }
}

fn panicked() -> Failure {
    let cause = "the meta lane's thread has ended; see the log line of the panic";
    Failure { class: FailureClass::Fatal, cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka::meta::{SnapshotState, Switch};
    use wal::{Lsn, Position};

    fn watermark(system_id: u64, lsn: u64) -> MetaRecord {
        let lanes = vec![Position::just_before(Lsn(lsn))];
        let (lsn, history) = (Lsn(lsn), Vec::new());
        MetaRecord::Watermark(Watermark {
            lsn,
            system_id,
            timeline: 1,
            lanes,
            history,
            standby: false,
        })
    }

    fn snapshot() -> MetaRecord {
        MetaRecord::Snapshot(SnapshotState { id: "s".into(), done: true, lsn: Lsn(10), gap: None })
    }

    /// What becomes of `asked` after `newest`.
    fn written<const N: usize>(mut asked: [MetaRecord; N], newest: &MetaRecord) -> [MetaRecord; N] {
        never_back(&mut asked, Some(newest));
        asked
    }

    #[test]
    fn the_low_watermark_never_goes_back() {
        let newest = watermark(1, 20);
        assert_eq!(written([watermark(1, 10)], &newest).as_slice(), std::slice::from_ref(&newest));
        assert_eq!(written([watermark(1, 30)], &newest), [watermark(1, 30)]);
    }

    #[test]
    fn a_new_time_line_may_begin_lower_and_is_not_left_again() {
        let on = |timeline, lsn| {
            let MetaRecord::Watermark(it) = watermark(1, lsn) else { unreachable!("it is one") };
            MetaRecord::Watermark(Watermark { timeline, ..it })
        };
        assert_eq!(written([on(2, 10)], &on(1, 20)), [on(2, 10)]);
        assert_eq!(written([on(1, 30)], &on(2, 10)), [on(2, 10)]);
        let left = |at, lsn| {
            let MetaRecord::Watermark(it) = on(2, lsn) else { unreachable!("it is one") };
            let history = vec![Switch { timeline: 1, lsn: Lsn(at) }];
            MetaRecord::Watermark(Watermark { history, ..it })
        };
        assert_eq!(written([left(7, 10)], &left(8, 20)), [left(7, 10)], "another line");
        assert_eq!(written([left(7, 10)], &left(7, 20)), [left(7, 20)]);
        assert_eq!(written([left(7, 10)], &on(2, 20)), [on(2, 20)], "of an earlier release");
    }

    #[test]
    fn what_begins_anew_counts_from_there() {
        let newest = watermark(1, 20);
        assert_eq!(written([watermark(2, 10)], &newest), [watermark(2, 10)]);
        let reseeded = [snapshot(), watermark(1, 10)];
        assert_eq!(written(reseeded.clone(), &newest), reseeded);
        assert_eq!(written([watermark(1, 10)], &snapshot()), [watermark(1, 10)]);
    }
}
