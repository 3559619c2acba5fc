//! Whether a replication connection opens, and whether all connections reach one server, each a process of
//! its own: no pooler and no load balancer in between.

use super::{item, refused};
use crate::replication::Replication;
use crate::settings::Settings;
use crate::{Error, Session};
use config::precheck::Item;

const NAME: &str = "source.replication";
/// Named in every language by a server that has no walsender free, which is another item.
const NO_WALSENDER: &str = "max_wal_senders";
const REMEDY: &str = "name the server itself in `source.hosts`, with its own port: a task needs sessions of its \
                      own and a replication connection to the same server";

/// What one connection has met at its other end.
#[derive(Clone, Debug, Eq, PartialEq)]
struct End {
    system_id: u64,
    /// When the server was started, in its own words.
    started: String,
    /// Each statement was answered by the process that was logged in to.
    is_own: bool,
    has_settings: bool,
}

/// May open a connection more than the task has: walsenders are counted before.
pub(super) async fn replication(session: &Session, settings: &Settings) -> Item {
    let walsender = match walsender(settings).await {
        Ok(end) => end,
        Err(Error::Unreachable { reason, .. }) if reason.contains(NO_WALSENDER) => {
            return Item::pass(NAME, "not known: no connection is free now");
        }
        Err(Error::Pooler { reason }) => {
            let seen = format!("a pooler refuses the replication connection: {reason}");
            return Item::fail(NAME, seen, REMEDY);
        }
        Err(error) => return refused(NAME, &error),
    };
    item(NAME, compared(session, settings, walsender).await)
}

async fn compared(session: &Session, settings: &Settings, walsender: End) -> Result<Item, Error> {
    // Whoever takes turns does so with the next connection at the latest.
    let another = Session::connect_slot(settings).await?;
    Ok(judge(&[end(session).await?, walsender, end(&another).await?]))
}

async fn walsender(settings: &Settings) -> Result<End, Error> {
    let mut replication = Replication::connect(settings).await?;
    let way = replication.way().await?;
    let system_id = replication.identify().await?.system_id;
    let (started, has_settings) = (way.started, way.has_settings);
    Ok(End { system_id, started, is_own: way.is_direct, has_settings })
}

async fn end(session: &Session) -> Result<End, Error> {
    let statement = "SELECT pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time())::text, \
         current_setting('search_path') = 'pg_catalog'";
    let mut looks = Vec::new();
    for _ in 0..2 {
        let rows = session.query("process", statement, &[]).await?;
        let row = rows.first().ok_or_else(|| Error::protocol("no answer to a question"))?;
        let read = || Ok((row.try_get::<_, i32>(0)?, row.try_get(1)?, row.try_get(2)?));
        let look: (i32, String, bool) = read().map_err(Error::reading("process"))?;
        looks.push(look);
    }
    let is_own = looks.windows(2).all(|pair| pair[0].0 == pair[1].0);
    let has_settings = looks.iter().all(|look| look.2);
    let started = looks.pop().map(|look| look.1).unwrap_or_default();
    Ok(End { system_id: session.server().system_id, started, is_own, has_settings })
}

fn judge(ends: &[End]) -> Item {
    let differ =
        |one: &End, other: &End| (one.system_id, &one.started) != (other.system_id, &other.started);
    let mut wrong = Vec::new();
    if ends.windows(2).any(|pair| differ(&pair[0], &pair[1])) {
        wrong.push("connections reach different servers: a load balancer stands in between");
    }
    if ends.iter().any(|end| !end.is_own) {
        wrong.push("another process answers than the one that was logged in to: a pooler stands in between");
    }
    if ends.iter().any(|end| !end.has_settings) {
        wrong.push(
            "the settings of our sessions do not reach the server: something in between drops them",
        );
    }
    if wrong.is_empty() {
        let seen = "a replication connection opens; all connections reach one server directly";
        return Item::pass(NAME, seen);
    }
    Item::fail(NAME, wrong.join("; "), REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    fn end() -> End {
        End { system_id: 7, started: "1.5".into(), is_own: true, has_settings: true }
    }

    #[track_caller]
    fn judged(other: End, word: &str) {
        let item = judge(&[end(), other]);
        assert_eq!(item.state, State::Fail, "{item:?}");
        assert!(item.seen.contains(word), "{item:?}");
    }

    #[test]
    fn one_server_and_nothing_in_between() {
        assert_eq!(judge(&[end(), end()]).state, State::Pass);
        judged(End { system_id: 8, ..end() }, "load balancer");
        judged(End { started: "2".into(), ..end() }, "load balancer");
        judged(End { is_own: false, ..end() }, "pooler");
        judged(End { has_settings: false, ..end() }, "drops them");
    }
}
