use super::*;
use crate::link::frame::FRAME_BYTES_MAX;
use crate::link::tests::{Row, batch, framed, plans, rows, table};
use crate::link::{LinkError, wire as shared};
use bytes::Bytes;
use proptest::prelude::*;
use wal::change::{Old, Span};
use wal::relation::{ColumnDescription, RelationDescription};
use wal::table::ReplicaIdentity;
use wal::{Change, ChangeBatch};

const TOLD: Told = Told { credit: 300, server_end: Lsn(0x16_B374_8000), wal_bytes: 70_000 };

/// What a link can tell apart, unlike those of [`batch`].
fn tables() -> [Arc<Table>; 2] {
    [table("orders", 1), table("orders", 2)]
}

fn changes(rows: &[Row]) -> ChangeBatch {
    ChangeBatch {
        tables: tables().into(),
        snapshot: None,
        chunk: None,
        ..ChangeBatch::clone(&batch(&plans(), 0, 1, rows).batch)
    }
}

/// Both ends of a link, whose decoder has learned the tables of [`changes`].
fn link() -> (UpSender, UpReceiver) {
    let known = KnownTables::default();
    let (mut sender, mut learner) = (TableSender::new(known.clone()), TableReceiver::default());
    for table in tables() {
        let frames = sender.table(&table).expect("frames");
        let [frame] = &frames[..] else { panic!("{} frames", frames.len()) };
        let learned = learner.take(frame.clone()).expect("taken").expect("a table");
        assert_eq!(learned, table);
    }
    (UpSender::default(), UpReceiver::new(known))
}

fn take(receiver: &mut UpReceiver, frames: Vec<Bytes>) -> Up {
    let mut came = None;
    for frame in frames {
        assert!(frame.len() <= FRAME_BYTES_MAX, "{}", frame.len());
        assert!(came.is_none(), "the last frame ends the message");
        came = receiver.take(frame).expect("taken");
    }
    came.expect("a message")
}

fn relation() -> RelationDescription {
    let column = |(name, type_oid, in_identity): (&str, u32, bool)| ColumnDescription {
        name: name.into(),
        type_oid,
        type_modifier: -1,
        in_identity,
    };
    RelationDescription {
        oid: 7,
        version: 3,
        schema: "public".into(),
        name: "orders".into(),
        identity: ReplicaIdentity::Index,
        columns: [("id", 23, true), ("note", 25, false)].map(column).into(),
        differences: Vec::new(),
    }
}

/// Everything that a router and an acknowledger look at.
fn seen(batch: &ChangeBatch) -> Vec<String> {
    let text = |span: Span| batch.tuple(span).iter().map(|it| format!("{it:?}")).collect();
    let of = |change: &Change| {
        let old: Option<Vec<String>> = change.old.map(|old| text(old.span()));
        let new: Option<Vec<String>> = change.new.map(text);
        let is_key = matches!(change.old, Some(Old::Key(_)));
        let Change { operation, ordinal, lsn, .. } = change;
        format!(
            "{operation:?} {ordinal} {lsn} {is_key} {old:?} {new:?} {:?} {:?}",
            batch.transaction(change),
            batch.table(change),
        )
    };
    let ChangeBatch { committed_end_lsn, ends_transaction, idle_until, .. } = batch;
    let whole = format!("{committed_end_lsn:?} {ends_transaction} {idle_until:?}");
    std::iter::once(whole).chain(batch.changes.iter().map(of)).collect()
}

proptest! {
    #[test]
    fn what_arrives_is_what_was_sent(batches in prop::collection::vec(rows(), 1..4)) {
        let (mut sender, mut receiver) = link();
        for rows in &batches {
            let sent = changes(rows);
            let frames = sender.changes(&sent, TOLD).expect("frames");
            let Up::Changes { batch, told } = take(&mut receiver, frames) else { panic!("changes") };
            prop_assert_eq!(told, TOLD);
            prop_assert_eq!(seen(&sent), seen(&batch));
        }
    }

    /// Nothing from outside ends in a panic, whatever is done to it.
    #[test]
    fn a_changed_message_is_refused_or_harmless(
        rows in rows(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>(),
    ) {
        let (mut sender, mut receiver) = link();
        let sent = changes(&rows);
        let frames = sender.changes(&sent, TOLD).expect("frames");
        let mut message = frames[0].to_vec().split_off(9);
        let at = at.index(message.len());
        if cut { message.truncate(at) } else { message[at] = to }
        if let Ok(Some(Up::Changes { batch, .. })) = receiver.take(framed(&message)) {
            seen(&batch);
        }
    }

    #[test]
    fn wal_arrives_byte_for_byte(sizes in prop::collection::vec(0..3 * FRAME_BYTES_MAX, 1..4)) {
        let (mut sender, mut receiver) = link();
        for size in sizes {
            let sent = Bytes::from(vec![b'd'; size]);
            let frames = sender.wal(&sent, TOLD).expect("frames");
            let Up::Wal { bytes, told } = take(&mut receiver, frames) else { panic!("WAL") };
            prop_assert_eq!(told, TOLD);
            prop_assert!(bytes == sent);
        }
    }
}

#[test]
fn a_relation_arrives_as_it_was_described() {
    let (mut sender, mut receiver) = link();
    let frames = sender.describe(&relation()).expect("frames");
    let Up::Describe(came) = take(&mut receiver, frames) else { panic!("a relation") };
    assert_eq!(came, relation());
}

/// A batch names its tables; nothing else of them travels again.
#[test]
fn a_table_is_described_once() {
    let (mut sender, _) = link();
    let row: &[Row] = &[(0, 1, None, Some(vec![Some(b"1".to_vec())]))];
    let frames = sender.changes(&changes(row), TOLD).expect("frames");
    let described = TableSender::default().table(&table("orders", 1)).expect("frames");
    assert!(2 * frames[0].len() < described[0].len(), "{} bytes", frames[0].len());
}

#[test]
fn changes_of_a_table_that_was_never_described_are_refused() {
    let (mut sender, _) = link();
    let frames = sender.changes(&changes(&[]), TOLD).expect("frames");
    let error = UpReceiver::default().take(frames[0].clone()).expect_err("refused");
    assert!(matches!(error, LinkError::Undescribed { oid: 7, version: 1 }), "{error}");
}

#[test]
fn what_follows_a_head_that_tells_of_nothing_is_refused() {
    let relation = wire::Up::Describe(wire::Relation {
        oid: 7,
        version: 1,
        schema: String::new(),
        name: String::new(),
        identity: shared::Identity::Full,
        columns: Vec::new(),
    });
    let message = super::super::message::write(wire::VERSION, &relation, 0, [&b"more"[..]]);
    let refused = UpReceiver::default().take(framed(&message.expect("a message")));
    assert!(matches!(refused, Err(LinkError::Inconsistent("bytes follow a description"))));
}

#[test]
fn another_version_is_refused() {
    let refused = UpReceiver::default().take(framed(&[wire::VERSION + 1, 0, 0, 0, 0]));
    assert!(matches!(refused, Err(LinkError::Version { version: 2, expected: 1 })));
}

/// Lengths that are claimed and not there.
#[test]
fn a_claimed_length_allocates_nothing() {
    let refused = |message: &[u8]| {
        let refused = UpReceiver::default().take(framed(message));
        assert!(matches!(refused, Err(LinkError::Malformed(_))));
        let refused = TableReceiver::default().take(framed(message));
        assert!(matches!(refused, Err(LinkError::Malformed(_))));
    };
    refused(&[wire::VERSION, 255, 255, 255, 255]);
    // Changes: what is told, no open transaction, no ends, then 2^64 - 1 tables.
    let claims = [2, 1, 1, 1, 1, 0, 0, 253, 255, 255, 255, 255, 255, 255, 255, 255];
    let mut message = vec![wire::VERSION, u8::try_from(claims.len()).expect("small"), 0, 0, 0];
    message.extend_from_slice(&claims);
    refused(&message);
}

/// Frozen: nodes of the release before and after read this.
#[test]
fn the_bytes_of_messages_do_not_change() {
    let (mut sender, _) = link();
    let hex = |frames: Result<Vec<Bytes>, LinkError>| -> String {
        frames.expect("frames")[0].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let row: &[Row] = &[(0, 2, Some(vec![None]), Some(vec![Some(b"1".to_vec()), None]))];
    expect_test::expect![
        "0000000000f99431c2011200000000fb2c01fd008074b316000000fc70110100642e2e2e"
    ]
    .assert_eq(&hex(sender.wal(&Bytes::from_static(b"d..."), TOLD)));
    expect_test::expect!["000100000086ee7cd30121000000010703067075626c6963066f72646572730302026964170101046e6f7465190100"].assert_eq(&hex(sender.describe(&relation())));
    expect_test::expect!["0002000000530f1cbc013600000002fb2c01fd008074b316000000fc701101000101cd01fb8403020701070202016400090002c80196090109010000004d02010003010900016e00027400000001316e"].assert_eq(&hex(sender.changes(&changes(row), TOLD)));
    expect_test::expect!["000000000080eef7f301f4000000000701067075626c6963066f72646572730208170a70675f636174616c6f6704696e743400fc71110100067075626c6963046d6f6f6402020373616404676c6164fc72110100067075626c6963066d6f6e657932030012fc73110100067075626c696304706169720402016d010601640206fc74110100067075626c6963055f7061697201032cfb400f067075626c696309696e743472616e67650500fb6311067075626c69630e696e74346d756c746972616e67650605630007756e6b6e6f776e07040269640001010101370105706169727304010000000672616e676573060100000007756e6b6e6f776e07010000000100"].assert_eq(&hex(TableSender::default().table(&table("orders", 1))));
}
