//! Where a task begins: fresh, from its watermark, or not at all. Pure.
//!
//! delivery-protocol.md, section 7: if the guarantee cannot be kept the task is parked with a
//! reason; it never continues silently and never starts "from zero".

use config::OnDivergence;
use kafka::meta::Watermark;
use std::collections::BTreeMap;
use wal::{Lsn, Position};

/// How far the initial snapshot of a task has come, from the meta lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SnapshotProgress {
    /// Nothing was ever begun.
    None,
    /// Begun and not finished: the process ended in between.
    Running,
    /// A gap was accepted in place of one, and the process ended before the new slot was there.
    Accepting,
    /// Finished, or not wanted: the stream has its starting point.
    Done,
}

/// The slot as the server shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slot {
    pub confirmed_flush: Lsn,
    /// `wal_status` is `lost`: the server has removed WAL that the slot needs.
    pub lost: bool,
    /// By a conflict with what a standby has replayed.
    pub conflicting: bool,
}

/// The server that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Server {
    pub system_id: u64,
    pub timeline: u32,
    /// Its present end of WAL.
    pub end: Lsn,
    pub parted: Parted,
}

/// Where the server's line of WAL parted from the one that fed the task, the low watermark's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parted {
    /// It is the same.
    Never,
    /// What ends above is not the server's.
    At(Lsn),
    /// The server has another line of that number; what ends above they do not share.
    Twin(Lsn),
    /// The server's line does not descend from the other.
    Foreign,
    /// The server has lost the history of its line.
    Unknown,
}

/// Everything the decision rests on.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub task: &'a str,
    pub slot_name: &'a str,
    pub snapshot: SnapshotProgress,
    pub watermark: Option<Watermark>,
    /// What each lane's checkpoint says.
    pub lanes: Vec<Position>,
    pub slot: Option<Slot>,
    /// When and why the task gave its slot up (`retry.on_expiry: drop-slot`), where it did.
    pub expiry: Option<String>,
    pub server: Server,
    /// `run --reseed`: a person has decided to begin again.
    pub reseed: bool,
    /// What the spec says of a failover that has lost what was delivered.
    pub on_divergence: OnDivergence,
}

/// Where to begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    /// A new slot, and the snapshot if it is wanted.
    Fresh {
        /// A slot of our own stands in the way.
        drop_slot: bool,
        /// Rows of an earlier snapshot may be in the topics: say so before the new one.
        again: bool,
    },
    /// Go on with the slot; lanes drop what they hold.
    Resume { from: Lsn },
    /// A failover has lost what was delivered, and the spec says to go on: every lane begins anew, without a snapshot.
    Accept { cause: String },
    /// A person must decide.
    Park { cause: String, remedy: String },
}

/// Decides from what is there.
#[must_use]
pub fn decide(facts: &Facts<'_>) -> Start {
    let wrote = facts.lanes.iter().any(|&lane| Position::ZERO < lane);
    if facts.reseed {
        // Also where no lane has a checkpoint: the topic that held them may be what was lost.
        return Start::Fresh { drop_slot: facts.slot.is_some(), again: true };
    }
    match (facts.snapshot, &facts.watermark) {
        (SnapshotProgress::None, None) => begin(facts, wrote),
        (SnapshotProgress::None, Some(_)) => {
            park(facts, "its checkpoint topic has a low watermark but no record of a snapshot")
        }
        (SnapshotProgress::Running, _) => {
            // Rows of the new snapshot must stand above those, or lanes would take them for the same.
            let (newest, end) = (delivered(facts), facts.server.end);
            if end <= newest {
                let cause = format!(
                    "the server's WAL ends at {end}, but rows of the interrupted snapshot stand at \
                     {newest}: it is another server, or one that has lost changes"
                );
                return park(facts, &cause);
            }
            // Also where no lane has a checkpoint: at-least-once delivery writes it after its records.
            Start::Fresh { drop_slot: facts.slot.is_some(), again: true }
        }
        // Some lanes may have begun anew, and what the others hold is of the line that was given up: neither says anything.
        (SnapshotProgress::Accepting, _) => {
            let cause = "a gap was accepted before, and that was interrupted".to_owned();
            Start::Accept { cause }
        }
        (SnapshotProgress::Done, None) => {
            park(facts, "its checkpoint topic has lost the low watermark")
        }
        (SnapshotProgress::Done, Some(watermark)) => resume(facts, watermark),
    }
}

fn begin(facts: &Facts<'_>, wrote: bool) -> Start {
    if wrote {
        return park(facts, "its lanes have checkpoints but the low watermark is missing");
    }
    if facts.slot.is_some() {
        return Start::Park {
            cause: format!(
                "replication slot `{}` exists, but the checkpoints of task `{}` do not: \
                 where it stands in Kafka is unknown",
                facts.slot_name, facts.task
            ),
            remedy: "if the slot is a left-over, drop it with `distributary slots --drop-orphans` \
                     or begin again with `distributary run TASK.yaml --reseed`; if the checkpoint \
                     topic was deleted by mistake, restore it"
                .into(),
        };
    }
    Start::Fresh { drop_slot: false, again: false }
}

fn resume(facts: &Facts<'_>, watermark: &Watermark) -> Start {
    let Server { system_id, timeline, end, .. } = facts.server;
    if watermark.system_id != system_id {
        return park(
            facts,
            &format!(
                "the server has system identifier {system_id}, the task was fed by {}",
                watermark.system_id
            ),
        );
    }
    let Some(slot) = &facts.slot else { return slotless(facts) };
    if slot.lost {
        let cause = if slot.conflicting {
            "the primary has removed rows of its catalog that the slot of its standby still needed: set \
             hot_standby_feedback = on there, and primary_slot_name"
        } else {
            "the server has removed WAL that the slot still needed (wal_status = lost)"
        };
        return park(facts, cause);
    }
    if watermark.lsn < slot.confirmed_flush {
        return park(
            facts,
            &format!(
                "the slot was advanced to {} by someone else or made again, beyond {} that is \
                 durable in Kafka",
                slot.confirmed_flush, watermark.lsn
            ),
        );
    }
    if end < watermark.lsn {
        let cause = format!(
            "the server's WAL ends at {end} on timeline {timeline}, but {} (timeline {}) is \
             already in Kafka: the server has lost changes that consumers have seen",
            watermark.lsn, watermark.timeline
        );
        // On the same timeline it is none that was promoted, but one that was restored.
        let is_promoted = matches!(facts.server.parted, Parted::At(_) | Parted::Twin(_));
        return if is_promoted { diverged(facts, &cause) } else { park(facts, &cause) };
    }
    if let Some(parked) = parted(facts, watermark) {
        return parked;
    }
    if watermark.lanes.len() != facts.lanes.len() {
        let (before, now) = (watermark.lanes.len(), facts.lanes.len());
        return Start::Park {
            cause: format!(
                "task `{}` has run with {before} lanes, `lanes` is {now} now: partitions would \
                 change their lane, and no lane would know what another has written",
                facts.task
            ),
            remedy: format!(
                "set `lanes: {before}` again, or begin again with `distributary run TASK.yaml \
                 --reseed`"
            ),
        };
    }
    let behind = (0..).zip(watermark.lanes.iter().zip(&facts.lanes)).find(|(_, (w, c))| c < w);
    if let Some((lane, (recorded, checkpoint))) = behind {
        let lane: u32 = lane;
        return park(
            facts,
            &format!(
                "lane {lane}'s checkpoint stands at {checkpoint}, but {recorded} was already \
                 durable: the checkpoint topic was truncated or altered"
            ),
        );
    }
    Start::Resume { from: slot.confirmed_flush }
}

fn slotless(facts: &Facts<'_>) -> Start {
    let gone = format!("replication slot `{}` is gone", facts.slot_name);
    match &facts.expiry {
        Some(why) => park(facts, &format!("{gone}: `retry.on_expiry` had it dropped {why}")),
        None => park(facts, &gone),
    }
}

/// What speaks against a server on another line than the one that fed the task.
fn parted(facts: &Facts<'_>, watermark: &Watermark) -> Option<Start> {
    let (timeline, before) = (facts.server.timeline, watermark.timeline);
    let switch = match facts.server.parted {
        Parted::Never => return None,
        Parted::At(switch) | Parted::Twin(switch) => switch,
        Parted::Foreign => {
            let cause = format!(
                "the server is on timeline {timeline}, which does not descend from timeline \
                 {before} that the task was fed from: it is an older primary, or one that was \
                 restored or promoted beside the other"
            );
            return Some(park(facts, &cause));
        }
        Parted::Unknown => {
            return Some(Start::Park {
                cause: format!(
                    "task `{}` cannot go on: the server is on timeline {timeline} and has no \
                     pg_wal/{timeline:08X}.history, so whether it has what timeline {before} has \
                     fed to Kafka cannot be judged",
                    facts.task
                ),
                remedy: "copy the file from the WAL archive or from another server into pg_wal, \
                         then run again; or begin again with `distributary run TASK.yaml --reseed`"
                    .into(),
            });
        }
    };
    // Lines part between two records. So a commit record that begins below the switch is whole on
    // both, and one that begins there or above was never on the new one. A lane's position names
    // where its commit record begins; the low watermark is a position between records, and may be
    // the switch itself.
    let delivered = delivered(facts);
    let what = if switch <= delivered {
        format!("a transaction that committed at {delivered}")
    } else if switch < watermark.lsn {
        format!("everything up to {}", watermark.lsn)
    } else {
        return None;
    };
    let lines = if matches!(facts.server.parted, Parted::Twin(_)) {
        format!(
            "the server is on timeline {timeline}, but the timeline {before} that the task was fed from \
             is another server's, which was promoted beside it: they parted at {switch}"
        )
    } else {
        format!("the server is on timeline {timeline}, which left timeline {before} at {switch}")
    };
    let cause = format!(
        "{lines}, but {what} of timeline {before} is already in Kafka: the failover has lost changes \
         that consumers have seen"
    );
    Some(diverged(facts, &cause))
}

/// A table that the task captures by its spec, as the publication is seen at a start.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    pub topic: &'a str,
    pub in_publication: bool,
}

/// Which of the tables were taken out of the publication: their topic is pinned, so the task has
/// written to it, and no other table of the publication goes there. A table that is only new is not
/// among them.
#[must_use]
pub fn taken_out(tables: &[Captured<'_>], pins: &BTreeMap<String, i32>) -> Vec<usize> {
    let fed = |topic: &str| tables.iter().any(|it| it.in_publication && it.topic == topic);
    let is_out =
        |it: &Captured<'_>| !it.in_publication && pins.contains_key(it.topic) && !fed(it.topic);
    (0..).zip(tables).filter_map(|(index, it)| is_out(it).then_some(index)).collect()
}

/// The newest commit that any lane holds something of.
fn delivered(facts: &Facts<'_>) -> Lsn {
    facts.lanes.iter().map(|lane| lane.commit_lsn).max().unwrap_or_default()
}

/// The server's line lacks what is in Kafka.
fn diverged(facts: &Facts<'_>, cause: &str) -> Start {
    match facts.on_divergence {
        OnDivergence::Accept => Start::Accept { cause: cause.to_owned() },
        OnDivergence::Park => park(facts, cause),
    }
}

fn park(facts: &Facts<'_>, cause: &str) -> Start {
    Start::Park {
        cause: format!("task `{}` cannot go on without a gap: {cause}", facts.task),
        remedy: "find out what happened; then `distributary run TASK.yaml --reseed` (in a cluster \
                 `distributary task reseed`) takes a new slot and a new snapshot, or with --accept-gap goes on without the \
                 changes in between"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts<'static> {
        let lane = Position { commit_lsn: Lsn(90), ordinal: 3 };
        Facts {
            task: "shop",
            slot_name: "distributary_shop",
            snapshot: SnapshotProgress::Done,
            watermark: Some(Watermark {
                lsn: Lsn(100),
                system_id: 1,
                timeline: 1,
                lanes: vec![lane],
                history: Vec::new(),
                standby: false,
            }),
            lanes: vec![lane],
            slot: Some(Slot { confirmed_flush: Lsn(95), lost: false, conflicting: false }),
            expiry: None,
            server: Server { system_id: 1, timeline: 1, end: Lsn(200), parted: Parted::Never },
            reseed: false,
            on_divergence: OnDivergence::Park,
        }
    }

    #[test]
    fn a_slot_that_the_task_gave_up_is_told_with_the_cause() {
        let expiry = Some("2026-01-01 00:00:00 UTC: the broker is away".to_owned());
        let Start::Park { cause, .. } = decide(&Facts { slot: None, expiry, ..facts() }) else {
            panic!("it parks");
        };
        assert!(cause.ends_with("dropped 2026-01-01 00:00:00 UTC: the broker is away"), "{cause}");
    }

    fn empty() -> Facts<'static> {
        Facts {
            snapshot: SnapshotProgress::None,
            watermark: None,
            lanes: vec![Position::ZERO],
            slot: None,
            ..facts()
        }
    }

    #[track_caller]
    fn parks(facts: &Facts<'_>, word: &str) {
        let Start::Park { cause, .. } = decide(facts) else { panic!("not parked") };
        assert!(cause.contains(word), "{cause}");
    }

    #[test]
    fn a_new_task_begins_fresh() {
        assert_eq!(decide(&empty()), Start::Fresh { drop_slot: false, again: false });
    }

    #[test]
    fn a_task_resumes_from_its_slot() {
        assert_eq!(decide(&facts()), Start::Resume { from: Lsn(95) });
    }

    #[test]
    fn an_interrupted_snapshot_begins_again_and_says_so() {
        let facts = Facts { snapshot: SnapshotProgress::Running, watermark: None, ..facts() };
        assert_eq!(decide(&facts), Start::Fresh { drop_slot: true, again: true });
    }

    #[test]
    fn what_would_leave_a_gap_parks() {
        parks(&Facts { slot: None, ..facts() }, "is gone");
        parks(&Facts { watermark: None, ..facts() }, "lost the low watermark");
        parks(&Facts { lanes: vec![Position::ZERO], ..facts() }, "truncated or altered");
        parks(&Facts { lanes: Vec::new(), ..facts() }, "has run with 1 lanes, `lanes` is 0 now");
        let advanced = Some(Slot { confirmed_flush: Lsn(101), lost: false, conflicting: false });
        parks(
            &Facts { slot: advanced, ..facts() },
            "advanced to 0/65 by someone else or made again",
        );
        let lost = Some(Slot { confirmed_flush: Lsn(95), lost: true, conflicting: false });
        parks(&Facts { slot: lost, ..facts() }, "wal_status = lost");
        parks(&Facts { slot: facts().slot, ..empty() }, "the checkpoints of task `shop` do not");
        parks(&Facts { lanes: facts().lanes, ..empty() }, "low watermark is missing");
        let other = Server { system_id: 2, ..facts().server };
        parks(&Facts { server: other, ..facts() }, "system identifier 2");
        let behind = Server { end: Lsn(99), timeline: 2, ..facts().server };
        parks(&Facts { server: behind, ..facts() }, "has lost changes");
    }

    #[test]
    fn an_interrupted_snapshot_is_not_begun_again_below_itself() {
        let facts = Facts { snapshot: SnapshotProgress::Running, watermark: None, ..facts() };
        let behind = Server { end: Lsn(90), ..facts.server };
        parks(&Facts { server: behind, ..facts }, "rows of the interrupted snapshot stand at 0/5A");
    }

    /// What lanes and server say is of two lines then.
    #[test]
    fn an_acceptance_that_was_interrupted_is_gone_on_with() {
        let accepting = Facts { snapshot: SnapshotProgress::Accepting, ..facts() };
        let behind = Server { end: Lsn(9), parted: Parted::Foreign, ..accepting.server };
        for lanes in [accepting.lanes.clone(), vec![Position::ZERO]] {
            let facts = Facts { lanes, server: behind, slot: None, ..accepting.clone() };
            assert!(matches!(decide(&facts), Start::Accept { .. }), "{facts:?}");
            // By the lanes that have begun anew for it.
            let begun = Facts { reseed: true, ..facts };
            assert_eq!(decide(&begun), Start::Fresh { drop_slot: false, again: true });
        }
    }

    fn promoted(parted: Parted) -> Facts<'static> {
        Facts { server: Server { timeline: 3, parted, ..facts().server }, ..facts() }
    }

    #[test]
    fn a_server_that_has_what_was_delivered_goes_on() {
        assert_eq!(decide(&promoted(Parted::At(Lsn(100)))), Start::Resume { from: Lsn(95) });
        // The lane is ahead of the low watermark.
        let lanes = vec![Position { commit_lsn: Lsn(119), ordinal: 0 }];
        let ahead = Facts { lanes, ..promoted(Parted::At(Lsn(120))) };
        assert_eq!(decide(&ahead), Start::Resume { from: Lsn(95) });
    }

    #[test]
    fn a_server_that_lacks_what_was_delivered_parks_however_far_it_has_gone_on() {
        let cause = "left timeline 1 at 0/63, but everything up to 0/64";
        parks(&promoted(Parted::At(Lsn(99))), cause);
        for commit_lsn in [Lsn(120), Lsn(121)] {
            let lanes = vec![Position { commit_lsn, ordinal: 0 }];
            let cause = format!("at 0/78, but a transaction that committed at {commit_lsn}");
            parks(&Facts { lanes, ..promoted(Parted::At(Lsn(120))) }, &cause);
        }
        let cause = "promoted beside it: they parted at 0/63, but everything up to 0/64";
        parks(&promoted(Parted::Twin(Lsn(99))), cause);
        assert_eq!(decide(&promoted(Parted::Twin(Lsn(100)))), Start::Resume { from: Lsn(95) });
        parks(&promoted(Parted::Foreign), "does not descend from timeline 1");
        parks(&promoted(Parted::Unknown), "has no pg_wal/00000003.history");
    }

    #[test]
    fn a_divergence_is_accepted_where_the_spec_says_so() {
        let accepts = |facts: Facts<'static>| {
            let facts = Facts { on_divergence: OnDivergence::Accept, ..facts };
            decide(&facts)
        };
        for parted in [Parted::At(Lsn(99)), Parted::Twin(Lsn(99))] {
            let start = accepts(promoted(parted));
            assert!(
                matches!(&start, Start::Accept { cause } if cause.contains("0/63")),
                "{start:?}"
            );
            let mut short = promoted(parted);
            short.server.end = Lsn(99);
            assert!(matches!(accepts(short), Start::Accept { .. }));
        }
        assert_eq!(accepts(promoted(Parted::At(Lsn(100)))), Start::Resume { from: Lsn(95) });
        // What is no failover is for a person to judge.
        for parted in [Parted::Foreign, Parted::Unknown] {
            assert!(matches!(accepts(promoted(parted)), Start::Park { .. }));
        }
        let mut restored = facts();
        restored.server.end = Lsn(99);
        assert!(matches!(accepts(restored), Start::Park { .. }));
    }

    #[test]
    fn a_table_that_was_captured_is_told_from_a_new_one() {
        let pins = BTreeMap::from([("a".to_owned(), 1), ("all".to_owned(), 1)]);
        let table = |topic, in_publication| Captured { topic, in_publication };
        let tables = [table("a", false), table("new", false), table("all", true)];
        assert_eq!(taken_out(&tables, &pins), [0]);
        // A new table whose topic another one feeds already.
        assert_eq!(taken_out(&[table("all", true), table("all", false)], &pins), [0; 0]);
        assert_eq!(taken_out(&[table("all", false), table("all", false)], &pins), [0, 1]);
        assert_eq!(taken_out(&[table("a", true)], &pins), [0; 0]);
    }

    #[test]
    fn a_person_may_decide_to_begin_again() {
        let facts = Facts { reseed: true, slot: None, ..facts() };
        assert_eq!(decide(&facts), Start::Fresh { drop_slot: false, again: true });
        let facts = Facts { reseed: true, ..empty() };
        assert_eq!(decide(&facts), Start::Fresh { drop_slot: false, again: true });
    }
}
