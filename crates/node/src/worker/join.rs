//! The stream to the leading coordinator. Losing it costs nothing but being seen: another one is looked for.

use super::tasks::Tasks;
use super::{Context, report};
use pipeline::progress::SeenTable;
use rand::seq::SliceRandom;
use rpc::v1::coordinator_message::Message as Down;
use rpc::v1::worker_message::Message as Up;
use rpc::{Error, Expected, Tls, v1};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

const BEAT: Duration = Duration::from_secs(1);
/// Reports that have not changed are sent again so often.
const REPORT: Duration = Duration::from_secs(2);
/// A coordinator that says nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// A leader that was heard within so long leads: it answers every beat. So long a worker that has just joined may take
/// to read what it has missed.
const LEADS_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(500);
const QUEUED: usize = 64;

/// Joins, and joins again, until it is dropped.
pub(super) async fn keep(
    context: Context,
    tls: Option<Arc<Tls>>,
    tasks: Tasks,
    leaving: CancellationToken,
) {
    let mut next: Option<String> = None;
    let mut told = false;
    loop {
        // Who does not hear what is placed shall not be placed on.
        context.hearing.restored().await;
        let mut coordinators = context.node.coordinators.clone();
        coordinators.shuffle(&mut rand::rng());
        // The leader first, where one was named.
        coordinators.splice(0..0, next.take());
        for address in coordinators {
            let joined = Joined { context: &context, tls: tls.as_deref(), tasks: &tasks };
            let lived = joined.live(&address, &leaving).await;
            context.joined.store(false, Relaxed);
            match lived {
                Ok(Some(leader)) => {
                    next = Some(leader);
                    break;
                }
                Ok(None) => {}
                Err(error) => {
                    if !told {
                        warn!(address, %error, "cannot join there; every coordinator is tried in turn");
                    }
                    told = true;
                    debug!(address, %error, "cannot join there");
                }
            }
        }
        if next.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

struct Joined<'a> {
    context: &'a Context,
    tls: Option<&'a Tls>,
    tasks: &'a Tasks,
}

impl Joined<'_> {
    /// Until the stream ends. The leader's address, where another one leads.
    async fn live(
        &self,
        address: &str,
        leaving: &CancellationToken,
    ) -> Result<Option<String>, Error> {
        let channel = rpc::client::connect(address, self.tls, &Expected::Coordinator).await?;
        let (up, messages) = mpsc::channel(QUEUED);
        let say = |message| v1::WorkerMessage { message: Some(message) };
        // It has room.
        let _ = up.try_send(say(Up::Register(self.registration())));
        let mut down =
            rpc::client::cluster(channel).join(ReceiverStream::new(messages)).await?.into_inner();
        let mut beats = tokio::time::interval(BEAT);
        let (mut seq, mut heard, mut said_leaving) = (0, Instant::now(), false);
        let mut welcomed: Option<Instant> = None;
        let mut sent = Sent::default();
        loop {
            tokio::select! {
                message = down.message() => {
                    let Some(message) = message? else { return Ok(None) };
                    heard = Instant::now();
                    match message.message {
                        Some(Down::Welcome(welcome)) => {
                            self.context.joined.store(true, Relaxed);
                            welcomed = Some(heard);
                            info!(address, term = welcome.term, protocol = welcome.protocol, "joined the cluster");
                        }
                        Some(Down::NotLeader(v1::NotLeader { leader })) => {
                            return Ok(Some(leader).filter(|it| !it.is_empty() && it != address));
                        }
                        // The topic is followed anyhow; of a later release.
                        Some(Down::Look(_) | Down::Beat(_)) | None => {}
                    }
                }
                _ = beats.tick() => {
                    if SILENCE_MAX < heard.elapsed() {
                        warn!(address, "the coordinator is silent, looking for another one");
                        return Ok(None);
                    }
                    let leads = welcomed.is_some_and(|it| LEADS_MAX < it.elapsed())
                        && heard.elapsed() < LEADS_MAX;
                    if leads && self.context.hearing.is_deaf_to_a_leader() {
                        warn!(address, "a coordinator leads, and what it writes is not heard here: Kafka \
                            cannot be reached, and what runs here is to run elsewhere until it can");
                        return Ok(None);
                    }
                    seq += 1;
                    let mut all = vec![Up::Beat(v1::Beat { seq })];
                    if leaving.is_cancelled() && !std::mem::replace(&mut said_leaving, true) {
                        all.push(Up::Leaving(v1::Leaving {}));
                    }
                    all.extend(sent.news(self.tasks));
                    for message in all {
                        if up.send(say(message)).await.is_err() {
                            return Ok(None);
                        }
                    }
                }
                () = leaving.cancelled(), if !said_leaving => {
                    said_leaving = true;
                    if up.send(say(Up::Leaving(v1::Leaving {}))).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn registration(&self) -> v1::Register {
        let (node, protocols) = (&self.context.node, self.context.peers.protocols());
        v1::Register {
            protocol_min: protocols.min,
            protocol_max: protocols.max,
            version: env!("CARGO_PKG_VERSION").into(),
            node: node.node.clone(),
            address: node.address(),
            labels: node.labels.clone(),
        }
    }
}

/// What a coordinator has been sent over one stream, by task.
#[derive(Default)]
struct Sent {
    reports: BTreeMap<String, (v1::TaskReport, Instant)>,
    /// Under which placement, and which tables.
    seen: BTreeMap<String, (u64, Arc<[SeenTable]>)>,
}

impl Sent {
    /// What is new, and reports that have not been sent for a while.
    fn news(&mut self, tasks: &Tasks) -> Vec<Up> {
        let now = Instant::now();
        let mut reports = tasks.reports();
        reports.retain(|report| {
            let due = self.reports.get(&report.task).is_none_or(|(last, at)| {
                last != report || REPORT <= now.saturating_duration_since(*at)
            });
            if due {
                self.reports.insert(report.task.clone(), (report.clone(), now));
            }
            due
        });
        let mut all: Vec<Up> = reports.into_iter().map(Up::Task).collect();
        for (task, rev, tables) in tasks.seen() {
            let is_sent = |(last, sent): &(u64, Arc<_>)| *last == rev && Arc::ptr_eq(sent, &tables);
            if !self.seen.get(&task).is_some_and(is_sent) {
                all.push(Up::Tables(report::of_database(&task, rev, &tables)));
                self.seen.insert(task, (rev, tables));
            }
        }
        all
    }
}
