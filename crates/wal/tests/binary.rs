//! Values in binary form become texts, and nothing that comes from outside does harm.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test may fail here")]

mod encode;

use bytes::Bytes;
use encode::{
    Value, begin, commit, insert, logical, text, tuple, typed_relation, update, xlog_data,
};
use proptest::prelude::*;
use std::sync::Arc;
use wal::binary::{Fault, Misread, Plan, Text, without_decoder};
use wal::decoder::{Decoder, Error, Options, Step};
use wal::relation::RelationDescription;
use wal::types::{Field, Kind, Type, oid};
use wal::{Change, ChangeBatch, Datum, Lsn, Tuple};

const VERSION: u32 = 180_000;
const TABLE: u32 = 77;

/// Built-in types with a decoder.
const SCALARS: [u32; 46] = [
    oid::BOOL,
    oid::BYTEA,
    oid::CHAR,
    oid::NAME,
    oid::INT8,
    oid::INT2,
    oid::INT4,
    oid::TEXT,
    oid::OID,
    oid::TID,
    oid::XID,
    oid::CID,
    oid::JSON,
    oid::XML,
    oid::POINT,
    oid::LSEG,
    oid::PATH,
    oid::BOX,
    oid::POLYGON,
    oid::LINE,
    oid::FLOAT4,
    oid::FLOAT8,
    oid::UNKNOWN,
    oid::CIRCLE,
    oid::MACADDR8,
    oid::MONEY,
    oid::MACADDR,
    oid::INET,
    oid::CIDR,
    oid::BPCHAR,
    oid::VARCHAR,
    oid::DATE,
    oid::TIME,
    oid::TIMESTAMP,
    oid::TIMESTAMPTZ,
    oid::INTERVAL,
    oid::TIMETZ,
    oid::BIT,
    oid::VARBIT,
    oid::NUMERIC,
    oid::UUID,
    oid::PG_LSN,
    oid::JSONB,
    oid::XID8,
    oid::TSVECTOR,
    oid::TSQUERY,
];

/// Prints a name that only the catalog has.
const REGCLASS: u32 = 2205;

fn own(oid: u32, kind: Kind) -> Arc<Type> {
    Arc::new(Type { oid, schema: "public".into(), name: "own".into(), kind })
}

fn base(oid: u32) -> Arc<Type> {
    Arc::new(Type::builtin(oid, "type"))
}

fn array(oid: u32, element: Arc<Type>) -> Arc<Type> {
    own(oid, Kind::Array { element, delimiter: b',' })
}

fn composite(oid: u32, fields: &[Arc<Type>]) -> Arc<Type> {
    let field = |type_: &Arc<Type>| Field {
        name: "field".into(),
        type_: Arc::clone(type_),
        type_modifier: -1,
    };
    own(oid, Kind::Composite { fields: fields.iter().map(field).collect() })
}

/// Scalars, and types of them.
fn all() -> Vec<Arc<Type>> {
    let mut all: Vec<_> = SCALARS.into_iter().map(base).collect();
    let pair = composite(20_001, &[base(oid::TEXT), array(20_002, base(oid::NUMERIC))]);
    let range = own(20_003, Kind::Range { subtype: base(oid::TEXT) });
    all.push(array(20_004, Arc::clone(&pair)));
    all.push(composite(20_005, &[pair, Arc::clone(&range)]));
    all.push(own(20_006, Kind::Multirange { range: Arc::clone(&range) }));
    all.push(range);
    all
}

fn read(type_: &Type, value: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Text::new(16, max);
    let row = tuple(&[Value::Binary(value.to_vec())]);
    let (row, _) = Tuple::check(&row).unwrap();
    let misread = |Misread { column, fault }| {
        assert_eq!(column, 0);
        fault
    };
    Plan::of([type_], VERSION).append(row, &mut out).map_err(misread)?;
    let (row, taken) = Tuple::check(out.as_slice()).unwrap();
    assert_eq!((row.len(), taken), (1, out.len()));
    match row.iter().next() {
        Some(Datum::Text(text)) => Ok(text.to_vec()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is(type_: &Type, value: &[u8], expected: &str) {
    let text = read(type_, value, 1 << 20).map(|text| String::from_utf8(text).unwrap());
    assert_eq!(text.as_deref(), Ok(expected));
}

fn part(value: &[u8]) -> Vec<u8> {
    [&u32::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// An array of one dimension.
fn elements(element: u32, lower: i32, values: &[Option<&[u8]>]) -> Vec<u8> {
    let count = i32::try_from(values.len()).unwrap();
    let mut out = [1, 0, element.cast_signed(), count, lower].map(i32::to_be_bytes).concat();
    for value in values {
        out.extend(value.map_or((-1_i32).to_be_bytes().to_vec(), part));
    }
    out
}

#[test]
fn every_type_of_the_list_has_a_decoder_and_others_are_named() {
    assert_eq!(without_decoder(all().iter().map(|it| &**it), VERSION), None);
    let inside = array(30_000, composite(30_001, &[base(oid::INT4), base(REGCLASS)]));
    let fault = without_decoder([&*inside], VERSION).unwrap();
    assert_eq!(fault, Fault::NoDecoder { oid: REGCLASS, name: "type".into() });
    assert!(fault.to_string().contains("has no decoder"), "{fault}");
}

#[test]
fn types_that_share_their_parts_are_looked_at_once() {
    let mut type_ = base(oid::INT4);
    for depth in 0..60 {
        type_ = composite(30_000 + depth, &[Arc::clone(&type_), type_]);
    }
    assert_eq!(without_decoder([&*type_], VERSION), None);
}

#[test]
fn parts_are_quoted_as_their_readers_need_it() {
    let texts = array(30_000, base(oid::TEXT));
    let values: [Option<&[u8]>; 5] =
        [Some(b"a"), None, Some(b""), Some(b"null"), Some(b"q\" \\ {")];
    is(&texts, &elements(oid::TEXT, 1, &values), r#"{a,NULL,"","null","q\" \\ {"}"#);
    is(&texts, &elements(oid::TEXT, -1, &[Some(b"x")]), "[-1:-1]={x}");
    is(&texts, &[0; 8].into_iter().chain(oid::TEXT.to_be_bytes()).collect::<Vec<_>>(), "{}");
    let pair = composite(30_001, &[base(oid::TEXT), Arc::clone(&texts)]);
    let field = |type_: u32, value: &[u8]| [type_.to_be_bytes().to_vec(), part(value)].concat();
    let array = elements(oid::TEXT, 1, &[Some(b"\"")]);
    let row = [2_u32.to_be_bytes().to_vec(), field(oid::TEXT, b""), field(30_000, &array)].concat();
    is(&pair, &row, r#"("","{""\\""""}")"#);
    // A field that the catalog did not have when the plan was made.
    let more = [1_u32.to_be_bytes().to_vec(), field(oid::INT4, &[0, 0, 0, 9])].concat();
    is(&pair, &more, "(9)");
    let unknown = [1_u32.to_be_bytes().to_vec(), field(31_000, b"")].concat();
    assert!(matches!(read(&pair, &unknown, 99), Err(Fault::NoDecoder { oid: 31_000, .. })));
}

#[test]
fn a_text_that_is_much_longer_than_its_bytes_is_refused_before_there_is_room_for_it() {
    let numeric = base(oid::NUMERIC);
    let huge = [1_i16, 32_767, 0, 0, 1].map(i16::to_be_bytes).concat();
    assert_eq!(read(&numeric, &huge, 200_000).unwrap().len(), 4 * 32_767 + 1);
    assert_eq!(read(&numeric, &huge, 100_000), Err(Fault::TooLong { max: 100_000 }));
    // Escapes of escapes double with each level.
    let (mut type_, mut value) = (base(oid::TEXT), b"\\\\\\\\".to_vec());
    for level in 0..40 {
        value = elements(type_.oid, 1, &[Some(&value)]);
        type_ = array(30_000 + level, type_);
    }
    assert_eq!(read(&type_, &value, 1 << 16), Err(Fault::TooLong { max: 1 << 16 }));
}

/// Items of a query: the count and what the server writes for each.
fn query(items: &[&[u8]]) -> Vec<u8> {
    [&u32::try_from(items.len()).unwrap().to_be_bytes(), &*items.concat()].concat()
}

#[test]
fn queries_of_full_text_search_are_whole_or_refused() {
    let (not, and, or) = (&[2, 1][..], &[2, 2][..], &[2, 3][..]);
    let (one, two, three) = (&b"\x01\0\0a\0"[..], &b"\x01\x0A\x01'\\\0"[..], &b"\x01\0\0c\0"[..]);
    let tsquery = base(oid::TSQUERY);
    is(&tsquery, &query(&[]), "");
    is(&tsquery, &query(&[and, not, or, three, two, one]), r"'a' & !( '''\\':*AC | 'c' )");
    let phrase: &[u8] = &[2, 4, 0, 7];
    is(&tsquery, &query(&[phrase, phrase, three, two, one]), r"'a' <7> ( '''\\':*AC <7> 'c' )");
    for wrong in [&[and, one][..], &[one, one], &[not], &[&[3]], &[&[2, 5], one], &[b"\x01\0\0a"]] {
        assert_eq!(read(&tsquery, &query(wrong), 1 << 16), Err(Fault::Malformed), "{wrong:?}");
    }
    assert_eq!(read(&tsquery, &[0xFF; 9], 1 << 16), Err(Fault::Malformed));
    // As deep as it is long, which no stack of calls could bear.
    let deep = query(&[&[2, 1].repeat(1 << 20)[..], one]);
    let deep = [&(1_u32 + (1 << 20)).to_be_bytes(), &deep[4..]].concat();
    let printed = read(&tsquery, &deep, 1 << 30).unwrap();
    assert_eq!((printed.len(), &printed[1 << 20..]), ((1 << 20) + 3, &b"'a'"[..]));
    assert_eq!(read(&tsquery, &deep, 1 << 20), Err(Fault::TooLong { max: 1 << 20 }));
}

/// Decodes a buffer of whole messages; `types` are those of the table's columns.
fn decode(
    messages: &[Vec<u8>],
    options: Options,
    types: &[Arc<Type>],
) -> Result<ChangeBatch, Error> {
    let mut decoder = Decoder::new(options);
    let bytes: Bytes = (1_u64..).zip(messages).flat_map(|(lsn, it)| xlog_data(lsn, it)).collect();
    let mut step = decoder.decode(bytes)?;
    loop {
        match step {
            Step::Done(batch) => return Ok(batch),
            Step::Describe(description) => {
                decoder.learn(complete(&description, types));
                step = decoder.resume()?;
            }
        }
    }
}

fn complete(description: &RelationDescription, types: &[Arc<Type>]) -> Arc<wal::Table> {
    let mut table = Arc::unwrap_or_clone(encode::complete(description));
    for (column, type_) in table.columns.iter_mut().zip(types) {
        column.type_ = Arc::clone(type_);
    }
    Arc::new(table)
}

fn binary() -> Options {
    Options { binary: Some(VERSION), ddl: Some("helpers".into()), ..Options::default() }
}

fn row(batch: &ChangeBatch, change: &Change) -> [Vec<Option<String>>; 2] {
    let values = |span: Option<wal::change::Span>| {
        let tuple = span.map(|span| batch.tuple(span)).into_iter().flatten();
        let text = |datum| match datum {
            Datum::Null => None,
            Datum::Unchanged => Some("unchanged".to_owned()),
            Datum::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            Datum::Binary(bytes) => panic!("{bytes:?}"),
        };
        tuple.map(text).collect()
    };
    [values(change.old.map(wal::change::Old::span)), values(change.new)]
}

#[test]
fn a_batch_holds_texts_whichever_forms_come() {
    let four = |number: i32| Value::Binary(number.to_be_bytes().to_vec());
    let columns = [("id", oid::INT4), ("a", oid::TEXT), ("b", REGCLASS)];
    let types = columns.map(|(_, oid)| base(oid));
    let old = [four(1), Value::Null, Value::Null];
    let messages = [
        begin(0x100, 5, 9),
        typed_relation(TABLE, "t", b'd', &columns),
        insert(TABLE, &[four(1), text("mixed"), Value::Null]),
        logical(true, 3, "prefix", b"content"),
        update(TABLE, Some((b'K', &old)), &[four(-2), Value::Unchanged, text("'w'")]),
        commit(0x100, 0x120, 5),
    ];
    let batch = decode(&messages, binary(), &types).unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(row(&batch, &batch.changes[0])[1], [some("1"), some("mixed"), None]);
    let [old, new] = row(&batch, &batch.changes[1]);
    assert_eq!(old, [some("1"), None, None]);
    assert_eq!(new, [some("-2"), some("unchanged"), some("'w'")]);
    let message = batch.messages[0];
    assert_eq!(batch.slice(message.prefix), b"prefix");
    assert_eq!(batch.slice(message.content), b"content");
    assert_eq!(batch.committed_end_lsn, Some(Lsn(0x120)));
}

#[test]
fn a_value_without_a_decoder_ends_the_stream_and_says_where() {
    let columns = [("id", oid::INT4), ("b", REGCLASS)];
    let types = columns.map(|(_, oid)| base(oid));
    let new = [text("1"), Value::Binary(vec![0; 4])];
    let messages =
        [begin(0x100, 5, 9), typed_relation(TABLE, "t", b'd', &columns), insert(TABLE, &new)];
    let error = decode(&messages, binary(), &types).unwrap_err();
    let Error::Misread { lsn: Lsn(3), column, .. } = &error else { panic!("{error}") };
    assert_eq!(&**column, "public.t.b");
    assert!(error.to_string().contains("source.wire"), "{error}");
}

#[test]
fn ddl_rows_of_the_helper_table_are_read_in_binary_form_too() {
    let columns = [("id", oid::INT8), ("changed", oid::TEXT), ("content", oid::TEXT)];
    let mut helper = typed_relation(TABLE, "ddl", b'd', &columns);
    let at = helper.windows(7).position(|it| it == b"public\0").unwrap();
    helper.splice(at..at + 7, *b"helpers\0");
    let changed = br#"[["public","t"]]"#;
    let new = [
        Value::Binary(7_i64.to_be_bytes().to_vec()),
        Value::Binary(changed.to_vec()),
        Value::Binary(b"{}".to_vec()),
    ];
    let messages = [begin(0x100, 5, 9), helper, insert(TABLE, &new), commit(0x100, 0x120, 5)];
    let mut decoder = Decoder::new(binary());
    let bytes = messages.iter().flat_map(|it| xlog_data(1, it)).collect();
    let Ok(Step::Describe(description)) = decoder.decode(bytes) else { panic!("no statement") };
    decoder.learn(Arc::new(wal::statement::table(&description).unwrap()));
    let Ok(Step::Done(batch)) = decoder.resume() else { panic!("not done") };
    let [_, new] = row(&batch, &batch.changes[0]);
    let texts: Vec<_> = new.iter().map(Option::as_deref).collect();
    assert_eq!(texts, [Some("7"), std::str::from_utf8(changed).ok(), Some("{}")]);
}

proptest! {
    /// No length from outside is believed: nothing is longer than the limit and the few bytes of one scalar.
    #[test]
    fn no_bytes_do_harm(
        choice in 0_usize..100,
        value in prop::collection::vec(prop_oneof![Just(0_u8), Just(0xFF), Just(1), any::<u8>()], 0..80),
        max in 0_usize..4096,
    ) {
        let all = all();
        if let Ok(text) = read(&all[choice % all.len()], &value, max) {
            prop_assert!(text.len() <= max);
        }
    }

    /// Heads that are right as far as their lengths.
    #[test]
    fn no_array_does_harm(
        bounds in prop::collection::vec((any::<i32>(), any::<i32>()), 0..8),
        small in any::<bool>(),
        rest in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let dimensions = i32::try_from(bounds.len()).unwrap();
        let mut value = [dimensions, 0, oid::TEXT.cast_signed()].map(i32::to_be_bytes).concat();
        for (length, lower) in bounds {
            let length = if small { length & 3 } else { length };
            value.extend([length, lower].map(i32::to_be_bytes).concat());
        }
        value.extend(rest);
        let texts = array(30_000, base(oid::TEXT));
        let _ = read(&texts, &value, 1 << 16);
    }

    #[test]
    fn every_number_and_time_is_written(value in any::<i64>(), other in any::<[i32; 2]>()) {
        let eight = value.to_be_bytes();
        is(&base(oid::INT8), &eight, &value.to_string());
        is(&base(oid::INT4), &other[0].to_be_bytes(), &other[0].to_string());
        let span = [&eight[..], &other[0].to_be_bytes(), &other[1].to_be_bytes()].concat();
        for type_ in [oid::TIME, oid::TIMESTAMP, oid::TIMESTAMPTZ, oid::MONEY] {
            prop_assert!(read(&base(type_), &eight, 99).is_ok());
        }
        prop_assert!(read(&base(oid::DATE), &other[0].to_be_bytes(), 99).is_ok());
        prop_assert!(read(&base(oid::INTERVAL), &span, 99).is_ok());
        prop_assert!(read(&base(oid::TIMETZ), &span[..12], 99).is_ok());
    }
}
