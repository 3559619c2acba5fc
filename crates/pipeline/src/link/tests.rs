use super::*;
use crate::batch::{LaneBatch, Marked};
use crate::hosts::OpenLane;
use crate::planner::Pins;
use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use record::plan::{TablePlan, TaskPlan};
use record::route::{Part, Piece};
use record::transaction::Order;
use std::sync::Arc;
use supervision::Credit;
use wal::change::{Old, Span, Transaction};
use wal::table::{ReplicaIdentity, UniqueIndex};
use wal::types::{Field, Kind, Type, oid};
use wal::{Change, ChangeBatch, Column, Lsn, Operation, Table};

const PARTITIONS: i32 = 12;
const LANES: u8 = 3;

fn spec() -> config::Task {
    let object = config::Object { table: "public.*".into(), ..config::Object::default() };
    config::Task { task: "shop".into(), objects: vec![object], ..config::Task::default() }
}

fn task_plan() -> TaskPlan {
    TaskPlan::new(&spec(), "appdb").expect("a plan")
}

fn receiver(lane: u8) -> Receiver {
    receiver_of(lane, task_plan())
}

fn receiver_of(lane: u8, plan: TaskPlan) -> Receiver {
    let open = OpenLane {
        spec: Arc::new(spec()),
        lane,
        life: 1,
        revision: 1,
        floor: wal::Position::ZERO,
        server_version: 0,
        anew: false,
        routed: LANES,
        pins: Pins::default(),
        traceparent: None,
    };
    Receiver::new(&open, plan)
}

fn column(name: &str, type_: &Arc<Type>) -> Column {
    Column {
        name: name.into(),
        type_: Arc::clone(type_),
        type_modifier: -1,
        not_null: name == "id",
        default: (name == "id").then(|| "7".into()),
        in_identity: name == "id",
    }
}

/// A table with a type of every kind, some within others.
pub(super) fn table(name: &str, version: u32) -> Arc<Table> {
    let of = |oid, name: &str, kind| {
        Arc::new(Type { oid, schema: "public".into(), name: name.into(), kind })
    };
    let int4 = Arc::new(Type::builtin(oid::INT4, "int4"));
    let mood = of(70_001, "mood", Kind::Enum { labels: vec!["sad".into(), "glad".into()] });
    let domain = of(70_002, "money2", Kind::Domain { base: Arc::clone(&int4), type_modifier: 9 });
    let field = |name: &str, type_: &Arc<Type>| Field {
        name: name.into(),
        type_: Arc::clone(type_),
        type_modifier: 3,
    };
    let pair = of(
        70_003,
        "pair",
        Kind::Composite { fields: vec![field("m", &mood), field("d", &domain)] },
    );
    let pairs = of(70_004, "_pair", Kind::Array { element: pair, delimiter: b',' });
    let range = of(3904, "int4range", Kind::Range { subtype: Arc::clone(&int4) });
    let ranges = of(4451, "int4multirange", Kind::Multirange { range });
    let unknown = Arc::new(Type::unknown(99));
    let types = [&int4, &pairs, &ranges, &unknown];
    let columns = ["id", "pairs", "ranges", "unknown"].iter().zip(types);
    Arc::new(Table {
        oid: 7,
        version,
        schema: "public".into(),
        name: name.into(),
        identity: ReplicaIdentity::Full,
        columns: columns.map(|(name, type_)| column(name, type_)).collect(),
        key: vec![0],
        unique: Vec::new(),
    })
}

fn plan(table: Arc<Table>) -> Arc<TablePlan> {
    Arc::new(TablePlan::new(table, &task_plan(), 0, PARTITIONS, LANES).expect("a plan"))
}

pub(super) fn tuple(values: &[Option<Vec<u8>>], bytes: &mut BytesMut) -> Span {
    let start = u32::try_from(bytes.len()).expect("small");
    bytes.put_u16(u16::try_from(values.len()).expect("few"));
    for value in values {
        match value {
            Some(value) => {
                bytes.put_u8(b't');
                bytes.put_u32(u32::try_from(value.len()).expect("small"));
                bytes.put_slice(value);
            }
            None => bytes.put_u8(b'n'),
        }
    }
    Span { start, end: u32::try_from(bytes.len()).expect("small") }
}

/// What a change of the property is made of: lane, part, old and new tuple.
pub(super) type Row = (u8, u8, Option<Vec<Option<Vec<u8>>>>, Option<Vec<Option<Vec<u8>>>>);

/// A batch of these rows over two tables and two transactions, as the router would hand it to `lane`.
pub(super) fn batch(
    plans: &[Arc<TablePlan>; 2],
    lane: u8,
    generation: u64,
    rows: &[Row],
) -> LaneBatch {
    let transaction = |number: u64| Transaction {
        xid: u32::try_from(number).expect("small"),
        commit_lsn: Lsn(100 * number),
        previous_commit_lsn: (1 < number).then(|| Lsn(100 * number - 50)),
        commit_time: -5,
        changes_count: (1 < number).then_some(9),
    };
    let mut bytes = BytesMut::from(&b"what lies between"[..]);
    let (mut changes, mut pieces) = (Vec::new(), Vec::new());
    for (index, (of_lane, kind, old, new)) in rows.iter().enumerate() {
        let old = old.as_ref().map(|values| tuple(values, &mut bytes));
        let new = new.as_ref().map(|values| tuple(values, &mut bytes));
        changes.push(Change {
            transaction: u32::from(rows.len() / 2 < index),
            table: u32::from(index % 2 == 1),
            ordinal: index as u64,
            lsn: Lsn(77 + index as u64),
            operation: match kind % 5 {
                0 => Operation::Read,
                1 => Operation::Insert,
                2 => Operation::Update,
                3 => Operation::Delete,
                _ => Operation::Truncate,
            },
            old: old.map(|span| if kind % 2 == 0 { Old::Key(span) } else { Old::Row(span) }),
            new,
        });
        let own =
            (0..PARTITIONS).find(|&it| plans[index % 2].lane(it) == lane).expect("a partition");
        if of_lane % LANES == lane {
            let part = [
                Part::Whole,
                Part::KeyChangeDelete,
                Part::KeyChangeCreate,
                Part::Enters,
                Part::Leaves,
                Part::Unjudged,
            ];
            let change = u32::try_from(index).expect("few");
            let part = part[usize::from(kind % 6)];
            pieces.push(Piece { change, lane, partition: own, part });
        }
    }
    LaneBatch {
        generation,
        seq: 3,
        batch: Arc::new(ChangeBatch {
            bytes: bytes.freeze(),
            changes,
            transactions: vec![transaction(1), transaction(2)],
            tables: plans.iter().map(|plan| Arc::clone(plan.table())).collect(),
            committed_end_lsn: Some(Lsn(205)),
            ends_transaction: true,
            idle_until: Some(Lsn(900)),
            messages: Vec::new(),
            snapshot: Some("s1".into()),
            chunk: Some(Arc::new(wal::Chunk {
                name: "s1/7/2".into(),
                open: vec!["s1/7/1".into(), "s1/7/2".into()],
            })),
        }),
        plans: plans.iter().cloned().map(Some).collect(),
        pieces: pieces.into(),
        orders: Arc::default(),
        ends_transaction: true,
        marked: None,
        credit: Arc::new(Credit::none()),
    }
}

pub(super) fn plans() -> [Arc<TablePlan>; 2] {
    [plan(table("orders", 1)), plan(table("items", 1))]
}

fn over(sender: &mut Sender, receiver: &mut Receiver, batch: &LaneBatch) -> LaneBatch {
    let mut came = None;
    for frame in sender.frames(batch).expect("frames") {
        assert!(frame.len() <= FRAME_BYTES_MAX, "{}", frame.len());
        assert!(came.is_none(), "the last frame ends the batch");
        came = receiver.take(frame).expect("taken");
    }
    came.expect("a batch")
}

/// Everything that a lane looks at, piece by piece.
fn seen(part: &LaneBatch) -> Vec<String> {
    let of = |piece: &Piece| {
        let change = &part.batch.changes[piece.change as usize];
        let plan = part.plans[change.table as usize].as_ref().expect("a plan");
        let text = |span: Span| part.batch.tuple(span).iter().map(|it| format!("{it:?}")).collect();
        let old: Option<Vec<String>> = change.old.map(|old| text(old.span()));
        let new: Option<Vec<String>> = change.new.map(text);
        let is_key = matches!(change.old, Some(Old::Key(_)));
        format!(
            "{:?} {:?} {} {:?} {:?} {:?} {is_key} {old:?} {new:?} {:?} {:?} {}",
            piece.part,
            piece.partition,
            piece.lane,
            change.operation,
            change.lsn,
            part.batch.position(change),
            part.batch.transaction(change),
            part.batch.table(change),
            plan.topic(),
        )
    };
    let whole = format!(
        "{} {} {} {:?} {:?}",
        part.generation,
        part.seq,
        part.ends_transaction,
        part.batch.committed_end_lsn,
        part.batch.snapshot
    );
    std::iter::once(whole).chain(part.pieces.iter().map(of)).collect()
}

pub(super) fn values() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..=4)
}

pub(super) fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (any::<u8>(), any::<u8>(), prop::option::of(values()), prop::option::of(values()));
    prop::collection::vec(row, 0..30)
}

proptest! {
    #[test]
    fn what_arrives_is_what_was_sent(batches in prop::collection::vec(rows(), 1..4), lane in 0..LANES) {
        let (mut sender, mut receiver, plans) = (Sender::default(), receiver(lane), plans());
        for rows in &batches {
            let sent = batch(&plans, lane, 5, rows);
            let came = over(&mut sender, &mut receiver, &sent);
            prop_assert_eq!(seen(&sent), seen(&came));
        }
    }

    /// Nothing from outside ends in a panic, whatever is done to it.
    #[test]
    fn a_changed_message_is_refused_or_harmless(
        rows in rows(), at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>(),
    ) {
        let plans = plans();
        let frames = Sender::default().frames(&batch(&plans, 0, 5, &rows)).expect("frames");
        let mut message = frames[0].to_vec().split_off(9);
        let at = at.index(message.len());
        if cut { message.truncate(at) } else { message[at] = to }
        if let Ok(Some(came)) = receiver(0).take(framed(&message)) {
            seen(&came);
        }
    }
}

/// A message as the one frame of a link.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0_u8, 0, 0, 0, 0][..]);
    frame.put_u32_le(crc32c::crc32c(message));
    frame.put_slice(message);
    frame.freeze()
}

#[test]
fn a_table_version_is_sent_once_for_each_generation() {
    let (mut sender, mut receiver) = (Sender::default(), receiver(0));
    let row: &[Row] = &[(0, 1, None, Some(vec![Some(b"1".to_vec())]))];
    let plans = plans();
    let mut length = |generation| {
        let batch = batch(&plans, 0, generation, row);
        let frames = sender.frames(&batch).expect("frames");
        receiver.take(frames[0].clone()).expect("taken").expect("a batch");
        frames[0].len()
    };
    let (first, second, after_restart) = (length(1), length(1), length(2));
    assert!(second < first / 2, "{second} of {first}");
    assert_eq!(first, after_restart);
}

/// After a restart of the front versions count from 1 again, and may be other ones.
#[test]
fn another_plan_of_the_same_version_is_sent_again() {
    let (mut sender, mut receiver) = (Sender::default(), receiver(0));
    let row: &[Row] = &[(0, 1, None, Some(vec![Some(b"1".to_vec())]))];
    over(&mut sender, &mut receiver, &batch(&plans(), 0, 1, row));
    let renamed = [plan(table("renamed", 1)), plan(table("items", 1))];
    let came = over(&mut sender, &mut receiver, &batch(&renamed, 0, 1, row));
    assert_eq!(&*came.batch.tables[0].name, "renamed");
}

#[test]
fn a_large_row_travels_in_several_frames() {
    let (mut sender, mut receiver) = (Sender::default(), receiver(0));
    let value = vec![b'x'; 3 * FRAME_BYTES_MAX];
    let row: &[Row] = &[(0, 1, None, Some(vec![Some(value.clone())]))];
    let sent = batch(&plans(), 0, 1, row);
    assert_eq!(Sender::default().frames(&sent).expect("frames").len(), 4);
    assert_eq!(seen(&over(&mut sender, &mut receiver, &sent)), seen(&sent));
}

#[test]
fn frames_out_of_order_changed_or_too_long_are_refused() {
    let row: &[Row] = &[(0, 1, None, Some(vec![Some(b"1".to_vec())]))];
    let sent = batch(&plans(), 0, 1, row);
    let mut sender = Sender::default();
    let [first, second] = [0, 1].map(|_| sender.frames(&sent).expect("frames")[0].clone());
    let take = |frame: Bytes| receiver(0).take(frame).expect_err("refused");
    assert!(matches!(take(second), LinkError::OutOfOrder { number: 1, expected: 0 }));
    let mut changed = first.to_vec();
    *changed.last_mut().expect("a byte") ^= 1;
    assert!(matches!(take(changed.into()), LinkError::Corrupt { number: 0 }));
    assert!(matches!(take(Bytes::from_static(b"short")), LinkError::Frame { bytes: 5, .. }));
    let long = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
    assert!(matches!(take(long), LinkError::Frame { .. }));
}

/// Lengths that are claimed and not there.
#[test]
fn a_claimed_length_allocates_nothing() {
    let head = [wire::VERSION, 255, 255, 255, 255];
    assert!(matches!(receiver(0).take(framed(&head)), Err(LinkError::Malformed(_))));
    // generation, seq, ends_transaction, no end, no snapshot, then 2^64 - 1 tables.
    let claims = [1, 1, 1, 0, 0, 253, 255, 255, 255, 255, 255, 255, 255, 255];
    let mut message = vec![wire::VERSION, u8::try_from(claims.len()).expect("small"), 0, 0, 0];
    message.extend_from_slice(&claims);
    assert!(matches!(receiver(0).take(framed(&message)), Err(LinkError::Malformed(_))));
}

#[test]
fn a_piece_of_another_lane_is_refused() {
    let row: &[Row] = &[(1, 1, None, Some(vec![Some(b"1".to_vec())]))];
    let sent = batch(&plans(), 1, 1, row);
    let frame = Sender::default().frames(&sent).expect("frames")[0].clone();
    let error = receiver(0).take(frame).expect_err("refused");
    assert!(matches!(error, LinkError::Inconsistent("a piece is not of this lane")), "{error}");
}

#[test]
fn a_table_that_the_spec_does_not_select_is_refused() {
    let mut stranger = Table::clone(&table("orders", 1));
    stranger.schema = "other".into();
    let object = config::Object { table: "other.*".into(), ..config::Object::default() };
    let task = config::Task { task: "shop".into(), objects: vec![object], ..spec() };
    let task = TaskPlan::new(&task, "appdb").expect("a plan");
    let stranger = TablePlan::new(Arc::new(stranger), &task, 0, PARTITIONS, LANES).expect("a plan");
    let row: &[Row] = &[(0, 1, None, Some(vec![Some(b"1".to_vec())]))];
    let sent = batch(&[Arc::new(stranger), plan(table("items", 1))], 0, 1, row);
    let frame = Sender::default().frames(&sent).expect("frames")[0].clone();
    assert!(matches!(receiver(0).take(frame), Err(LinkError::Plan { .. })));
}

/// Frozen: nodes of the release before and after read this.
#[test]
fn the_bytes_of_a_message_do_not_change() {
    let row: &[Row] = &[(0, 2, Some(vec![None]), Some(vec![Some(b"1".to_vec()), None]))];
    let frame = Sender::default().frames(&batch(&plans(), 0, 1, row)).expect("frames")[0].clone();
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    expect_test::expect!["0000000000d90aeff8022c01000001030101cd01027331010673312f372f32020673312f372f310673312f372f3201180701067075626c6963066f72646572730208170a70675f636174616c6f6704696e743400fc71110100067075626c6963046d6f6f6402020373616404676c6164fc72110100067075626c6963066d6f6e657932030012fc73110100067075626c696304706169720402016d010601640206fc74110100067075626c6963055f7061697201032cfb400f067075626c696309696e743472616e67650500fb6311067075626c69630e696e74346d756c746972616e67650605630007756e6b6e6f776e07040269640001010101370105706169727304010000000672616e676573060100000007756e6b6e6f776e070100000001000100010164000900010000004d0201000301090100040200016e00027400000001316e"].assert_eq(&hex);
}

#[test]
fn places_in_transactions_travel_with_their_pieces() {
    let plans = plans();
    let row = |kind: u8| -> Row { (0, kind, None, Some(vec![Some(b"1".to_vec())])) };
    let sent = batch(&plans, 0, 1, &[row(1), row(1), row(1)]);
    let count = sent.pieces.len() as u64;
    let orders = (1..=count).map(|total| Order { total, collection: 7 + total }).collect();
    let sent = LaneBatch { orders, ..sent };
    let (mut sender, mut receiver) = (Sender::default(), receiver(0));
    let came = over(&mut sender, &mut receiver, &sent);
    assert_eq!((count, &came.orders), (3, &sent.orders));
    let without = LaneBatch { orders: Arc::default(), ..sent };
    assert!(over(&mut sender, &mut receiver, &without).orders.is_empty());
}

/// A table with an index as the router has it, and the receiver of its lane.
fn indexed(format: config::Format) -> ([Arc<TablePlan>; 2], Receiver) {
    let sink = config::Sink { format, ..config::Sink::default() };
    let spec = config::Task { sink, ..spec() };
    let task = TaskPlan::new(&spec, "appdb").expect("a plan");
    let unique = vec![UniqueIndex { name: "orders_key".into(), columns: vec![1, 0] }];
    let plan = |table: Table| {
        TablePlan::new(Arc::new(table), &task, 0, PARTITIONS, LANES).map(Arc::new).expect("a plan")
    };
    let orders = Table { unique, ..Table::clone(&table("orders", 1)) };
    let items = Table { oid: 8, ..Table::clone(&table("items", 1)) };
    let plans = [plan(orders), plan(items)];
    (plans, receiver_of(0, task))
}

#[test]
fn unique_indexes_travel_where_records_name_them() {
    let rows = [(0, 1, None, Some(vec![])), (0, 2, None, Some(vec![]))];
    let sent = |sender: &mut Sender, format| {
        let (plans, mut receiver) = indexed(format);
        let batch = batch(&plans, 0, 5, &rows);
        let came = over(sender, &mut receiver, &batch);
        // Once for a table version.
        assert_eq!(sender.frames(&batch).expect("frames").len(), 1);
        came.batch.tables.iter().flat_map(|table| table.unique.clone()).collect::<Vec<_>>()
    };
    let index = UniqueIndex { name: "orders_key".into(), columns: vec![1, 0] };
    assert_eq!(sent(&mut Sender::default(), config::Format::DtsAvro), [index]);
    assert_eq!(sent(&mut Sender::default().without_unique(), config::Format::DtsAvro), []);
    assert_eq!(sent(&mut Sender::default(), config::Format::DebeziumJson), []);
}

#[test]
fn unique_indexes_of_no_table_are_refused() {
    let (plans, _) = indexed(config::Format::DtsAvro);
    let index = |column| wire::UniqueIndex { name: "i".into(), columns: vec![column] };
    let refused = |tables: Vec<Vec<wire::UniqueIndex>>| {
        let (_, mut receiver) = indexed(config::Format::DtsAvro);
        let unique = message::write(wire::VERSION_UNIQUE, &wire::Unique { tables }, 0, []);
        let batch = batch(&plans, 0, 5, &[(0, 1, None, Some(vec![]))]);
        let mut frames = Sender::default().frames(&batch).expect("frames");
        assert_eq!(frames.len(), 2);
        frames.splice(..1, frame::Splitter::default().split(&unique.expect("small")));
        let taken: Result<Vec<_>, _> = frames.into_iter().map(|it| receiver.take(it)).collect();
        taken.expect_err("refused").to_string()
    };
    let no_column = refused(vec![vec![index(99)]]);
    assert!(no_column.contains("is no column"), "{no_column}");
    let no_table = refused(vec![vec![], vec![], vec![index(0)]]);
    assert!(no_table.contains("of no table"), "{no_table}");
}

/// A shape under which the tables go to other topics, and plans of them as the router has them.
fn marked(number: u64, topic: &str) -> (Arc<Marked>, [Arc<TablePlan>; 2]) {
    let mut spec = spec();
    spec.sink.topic = topic.into();
    let task = TaskPlan::new(&spec, "appdb").expect("a plan");
    let plan = |name| {
        TablePlan::new(table(name, 1), &task, 0, PARTITIONS, LANES).map(Arc::new).expect("a plan")
    };
    (Arc::new(Marked { number, shape: spec.shape() }), [plan("orders"), plan("items")])
}

#[test]
fn a_batch_names_its_revision_and_is_planned_by_it_at_the_other_end() {
    let rows = [(0, 1, None, Some(vec![]))];
    let (mut sender, mut receiver) = (Sender::default(), receiver(0));
    let first = batch(&plans(), 0, 5, &rows);
    let topics = |batch: &LaneBatch| -> Vec<String> {
        batch.plans.iter().flatten().map(|plan| plan.topic().to_owned()).collect()
    };
    assert_eq!(topics(&over(&mut sender, &mut receiver, &first)), ["public.orders"]);
    let (revision, plans_then) = marked(7, "new.{table}");
    let then = LaneBatch { marked: Some(revision), ..batch(&plans_then, 0, 5, &rows) };
    for _ in 0..2 {
        assert_eq!(topics(&over(&mut sender, &mut receiver, &then)), ["new.orders"]);
    }
    // What was not durable is sent again as it was.
    assert_eq!(topics(&over(&mut sender, &mut receiver, &first)), ["public.orders"]);
}

#[test]
fn a_node_of_an_older_release_is_never_sent_rows_of_a_later_revision() {
    let rows = [(0, 1, None, Some(vec![]))];
    let (revision, plans_then) = marked(7, "new.{table}");
    let then = LaneBatch { marked: Some(revision), ..batch(&plans_then, 0, 5, &rows) };
    let mut sender = Sender::default().without_marks();
    let refused = sender.frames(&then).expect_err("the other end could not read it");
    assert!(matches!(refused, LinkError::Marked), "{refused}");
    // What it can read goes on.
    let before = batch(&plans(), 0, 5, &rows);
    over(&mut sender, &mut receiver(0).without_marks(), &before);
    let mut older = receiver(0).without_marks();
    let taken =
        Sender::default().frames(&then).expect("frames").into_iter().map(|it| older.take(it));
    let refused = taken.collect::<Result<Vec<_>, _>>().expect_err("refused");
    assert!(
        matches!(refused, LinkError::Version { version: wire::VERSION_MARKED, .. }),
        "{refused}"
    );
}

#[test]
fn a_revision_that_was_never_described_is_refused() {
    let (revision, plans) = marked(7, "new.{table}");
    let rows = [(0, 1, None, Some(vec![]))];
    let batch = LaneBatch { marked: Some(revision), ..batch(&plans, 0, 5, &rows) };
    let mut joiner = frame::Joiner::default();
    let frames = Sender::default().frames(&batch).expect("frames");
    let message = frames.into_iter().find_map(|it| joiner.join(it).expect("a frame"));
    let message = message.expect("a message");
    let (head, tuples): (wire::Marked, _) =
        message::read(wire::VERSION_MARKED, &message).expect("a head");
    let refused = |shape: Option<&str>| {
        let marked = wire::Marked { shape: shape.map(str::to_owned), ..head.clone() };
        let message = message::write(wire::VERSION_MARKED, &marked, 0, [&*tuples]).expect("small");
        let mut receiver = receiver(0);
        let frames = frame::Splitter::default().split(&message);
        let taken: Result<Vec<_>, _> = frames.into_iter().map(|it| receiver.take(it)).collect();
        taken.expect_err("refused").to_string()
    };
    assert!(refused(None).contains("a revision was never described"), "{}", refused(None));
    assert!(refused(Some("{")).contains("its revision"), "{}", refused(Some("{")));
}
