//! How much WAL lies on the disk, and how near our slot is to the limit.

use crate::slot::Slot;
use crate::{Error, Session};
use config::precheck::Item;

/// First version that says how far a slot is from its end.
const SAFE_SIZE_SINCE: u32 = 130_000;
/// A slot with less than this share of its limit left is near its end.
const LEFT_MIN: i64 = 5;

/// Of the server, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Wal {
    /// `None`: the role may not look.
    on_disk: Option<i64>,
    /// What our slot may still fall behind; `None`: no limit, or no slot.
    left: Option<i64>,
    /// `max_slot_wal_keep_size`.
    limit: Option<i64>,
}

pub(super) async fn headroom(session: &Session, own: &str, slots: &[Slot]) -> Item {
    const NAME: &str = "source.wal-headroom";
    let kept = slots.iter().max_by_key(|slot| slot.retained_bytes);
    super::item(NAME, wal(session, own).await.map(|wal| judge(own, wal, kept)))
}

async fn wal(session: &Session, own: &str) -> Result<Wal, Error> {
    let doing = "reading the size of the WAL";
    let rows = session
        .query("rights", "SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE')", &[])
        .await?;
    let may_look = rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
    let on_disk =
        if may_look { "(SELECT sum(size)::int8 FROM pg_ls_waldir())" } else { "NULL::int8" };
    let left = if session.server().version < SAFE_SIZE_SINCE {
        "NULL::int8"
    } else {
        "(SELECT safe_wal_size FROM pg_replication_slots WHERE slot_name = $1)"
    };
    let statement = format!(
        "SELECT {on_disk}, {left}, (SELECT setting::int8 << 20 FROM pg_settings \
           WHERE name = 'max_slot_wal_keep_size' AND setting <> '-1'), $1::text"
    );
    let parameter = tokio_postgres::types::Type::TEXT;
    let rows = session.query("WAL", &statement, &[(&own, parameter)]).await?;
    let row = rows.first().ok_or_else(|| Error::protocol("no answer to a question"))?;
    let read = || -> Result<Wal, tokio_postgres::Error> {
        Ok(Wal { on_disk: row.try_get(0)?, left: row.try_get(1)?, limit: row.try_get(2)? })
    };
    read().map_err(Error::reading(doing))
}

fn judge(own: &str, wal: Wal, most: Option<&Slot>) -> Item {
    const NAME: &str = "source.wal-headroom";
    let mib = |bytes: i64| bytes >> 20;
    let on_disk = wal.on_disk.map_or_else(
        || "how much WAL lies on the disk, this role may not see (GRANT pg_monitor)".to_owned(),
        |bytes| format!("{} MiB of WAL lie on the disk", mib(bytes)),
    );
    let kept = most.map_or_else(String::new, |slot| {
        format!("; most is kept for slot `{}`: {} MiB", slot.name, slot.retained_bytes >> 20)
    });
    let seen = format!("{on_disk}{kept}");
    if let (Some(left), Some(limit)) = (wal.left, wal.limit)
        && left < limit / LEFT_MIN
    {
        let left = mib(left.max(0));
        let seen = format!("{seen}; after {left} MiB more, slot `{own}` is lost");
        let remedy = "start the task now, or ALTER SYSTEM SET max_slot_wal_keep_size = '…'; SELECT \
                      pg_reload_conf();";
        return Item::warning(NAME, seen, remedy);
    }
    let room = "; the server does not tell how much room its disk has: watch it";
    Item::pass(NAME, format!("{seen}{room}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::precheck::State;

    #[test]
    fn a_slot_near_its_end_is_named() {
        let near = Wal { on_disk: Some(5 << 30), left: Some(100 << 20), limit: Some(1 << 30) };
        let item = judge("s", near, None);
        assert_eq!(item.state, State::Warning);
        assert!(item.seen.contains("5120 MiB") && item.seen.contains("100 MiB more"), "{item:?}");
        let far = Wal { left: Some(900 << 20), ..near };
        assert_eq!(judge("s", far, None).state, State::Pass);
        assert_eq!(judge("s", Wal::default(), None).state, State::Pass);
    }
}
