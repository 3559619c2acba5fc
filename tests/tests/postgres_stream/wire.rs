//! Values in binary form become the text that the server sends itself, byte for byte: each change is read twice.

use crate::ground::{Ground, PUBLICATION, servers};
use postgres::replication::StreamOptions;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use tests::sql::quoted;
use wal::change::Span;
use wal::decoder::{Decoder, Options, Step};
use wal::frame::{Frame, Frames};
use wal::message::{Context, Message};
use wal::{ChangeBatch, Datum};

/// Binary forms are sent from this version on.
const SINCE: u32 = 14;

const TYPES: &str = "\
    CREATE TYPE mood AS ENUM ('sad', 'very happy, \"indeed\"', ' '); \
    CREATE TYPE pair AS (a text, b text); \
    CREATE TYPE nest AS (i int, p pair, l pair[], d date, gone int, f float8); \
    ALTER TYPE nest DROP ATTRIBUTE gone; \
    CREATE DOMAIN short AS varchar(9); CREATE DOMAIN many AS text[]; CREATE DOMAIN as_pair AS pair; \
    CREATE TYPE words AS RANGE (SUBTYPE = text, COLLATION = \"C\"); \
    CREATE TYPE spans AS RANGE (SUBTYPE = interval)";

/// Words between quotes (`/` stands for a backslash), and queries of full text search.
const SEARCH: &str = r"
    CREATE FUNCTION lexeme() RETURNS text LANGUAGE sql AS $$
      SELECT format('''%s''', replace(replace(words[1 + floor(random() * 13)::int], '''', ''''''), '/', '\\'))
      FROM (SELECT ARRAY['a', 'b c', 'it''s', 'back/slash', 'é', '(', ':', '&', '''', '/', '/''/', '!', '漢字'] AS words) q
    $$;
    CREATE FUNCTION some_query(depth int) RETURNS tsquery LANGUAGE plpgsql AS $$ BEGIN
      IF depth = 0 OR random() < 0.1 THEN
        RETURN (lexeme() || (ARRAY['', ':*', ':A', ':BD', ':*ABCD', ':*C'])[1 + floor(random() * 6)::int])::tsquery;
      END IF;
      RETURN CASE floor(random() * 5)::int
        WHEN 0 THEN !!some_query(depth - 1)
        WHEN 1 THEN some_query(depth - 1) && some_query(depth - 1)
        WHEN 2 THEN some_query(depth - 1) || some_query(depth - 1)
        WHEN 3 THEN some_query(depth - 1) <-> some_query(depth - 1)
        ELSE tsquery_phrase(some_query(depth - 1), some_query(depth - 1), floor(random() * 16385)::int) END;
    END $$";

/// Two characters each, of which readers of arrays, rows or ranges take some for something else.
const WORDS: &str = "\
    SELECT x || y AS w FROM unnest(ARRAY['', 'a', '\"', E'\\\\', '{', '}', '(', ')', '[', ']', ',', ';', ' ', \
      E'\\t', E'\\n', E'\\r', E'\\x0b', E'\\x0c', 'é', E'\\u00a0', 'NULL', 'null', '''', '.']) x, \
      unnest(ARRAY['', '\"', E'\\\\', ',', ' ', 'b', '(']) y";

/// A type, and a query of its values in a column `v`.
const VALUES: &[(&str, &str)] = &[
    ("bool", "VALUES (true), (false), (null)"),
    ("int2", "VALUES ('-32768'::int2), (32767), (0)"),
    ("int4", "VALUES (-2147483648), (2147483647), (0)"),
    ("int8", "VALUES ('-9223372036854775808'::int8), ('9223372036854775807'), (0)"),
    ("oid", "VALUES (0::oid), (4294967295)"),
    ("xid", "VALUES ('0'::xid), ('4294967295')"),
    ("cid", "VALUES ('0'::cid), ('4294967295')"),
    ("tid", "VALUES ('(0,1)'::tid), ('(4294967295,65535)')"),
    ("xid8", "VALUES ('0'::xid8), ('18446744073709551615')"),
    ("pg_lsn", "VALUES ('0/0'::pg_lsn), ('16/B374D848'), ('FFFFFFFF/FFFFFFFF'), ('1/A')"),
    (
        "money",
        "SELECT (random() * 10 ^ (n % 17) - 5000)::numeric::money FROM generate_series(1, 300) n \
       UNION ALL VALUES ('-92233720368547758.08'::money), ('-0.01'), ('0'), ('999.99'), ('1000')",
    ),
    ("\"char\"", "SELECT n::\"char\" FROM generate_series(-128, 127) n"),
    ("name", "SELECT w::name FROM (WORDS) q"),
    ("text", "SELECT w FROM (WORDS) q UNION ALL VALUES (repeat('zwölf', 9999))"),
    ("varchar(20)", "SELECT w FROM (WORDS) q"),
    ("char(5)", "SELECT left(w, 5) FROM (WORDS) q"),
    ("short", "SELECT w FROM (WORDS) q"),
    ("mood", "SELECT unnest(enum_range(null::mood))"),
    ("uuid", "SELECT md5(n::text)::uuid FROM generate_series(1, 50) n"),
    ("bytea", "SELECT decode(repeat(md5(n::text), n % 9), 'hex') FROM generate_series(0, 50) n"),
    ("json", "VALUES ('{\"a\" :  1, \"a\": [\"\\u00e9\"]}'::json), ('null'), (' 1 ')"),
    ("jsonb", "VALUES ('{\"b\": 1.50, \"a\": null}'::jsonb), ('[]'), ('\"é\"'), ('1e30')"),
    ("jsonpath", "VALUES ('$.\"a\"[*] ? (@ > 1)'::jsonpath), ('strict $')"),
    (
        "xml",
        "VALUES ('<a b=\"c\">d &amp; é</a>'::xml), \
       ('<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>'), ('<?xml version=\"1.1\" standalone=\"yes\"?><a/>'), \
       ('<?xml version=\"1.0\" encoding=\"LATIN1\" standalone=\"no\"?><a/>'), ('text')",
    ),
    (
        "float8",
        "SELECT (d || 'e' || e)::float8 FROM generate_series(1, 9) d, generate_series(-322, 307) e \
       UNION ALL SELECT (random() - 0.5) * 10::float8 ^ (random() * 600 - 300)::int FROM generate_series(1, 1000) \
       UNION ALL SELECT 2::float8 ^ e FROM generate_series(-1022, 1023) e \
       UNION ALL SELECT 1125899906842624.25 + n * 0.25 FROM generate_series(0, 300) n \
       UNION ALL SELECT 562949953421312.125 + n * 0.125 FROM generate_series(0, 300) n \
       UNION ALL SELECT (n * power(10::numeric, e))::float8 FROM generate_series(1, 99) n, generate_series(18, 24) e \
       UNION ALL SELECT 2::float8 ^ e * 1e23 FROM generate_series(-20, 56) e \
       UNION ALL SELECT n / 100.0 FROM generate_series(-500, 500) n \
       UNION ALL VALUES ('NaN'::float8), ('Infinity'), ('-Infinity'), ('-0'), ('5e-324'), ('2.2250738585072014e-308'), \
         ('1.7976931348623157e308'), ('9007199254740993'), ('9007199254740991'), ('123456789012345678')",
    ),
    (
        "float4",
        "SELECT (d || 'e' || e)::float4 FROM generate_series(1, 99, 4) d, generate_series(-44, 36) e \
       UNION ALL SELECT ((random() - 0.5) * 10::float8 ^ (random() * 70 - 35)::int)::float4 FROM generate_series(1, 1000) \
       UNION ALL SELECT (2::float8 ^ e)::float4 FROM generate_series(-149, 127) e \
       UNION ALL SELECT (n * 2::float8 ^ e)::float4 FROM generate_series(8388608, 8388799) n, generate_series(-12, 20, 4) e \
       UNION ALL VALUES ('NaN'::float4), ('Infinity'), ('-Infinity'), ('-0'), ('3.4028235e38'), ('1e-45'), ('16777217')",
    ),
    (
        "numeric",
        "SELECT round((random() - 0.5)::numeric * power(10::numeric, n % 40 - 10), n % 23) FROM generate_series(1, 3000) n \
       UNION ALL SELECT power(10::numeric, n)::numeric(200, 80) FROM generate_series(-60, 60) n \
       UNION ALL VALUES ('NaN'::numeric), ('Infinity'), ('-Infinity'), (0), (0.000), (-0.0001), (1e131071), (10000), \
         (10001.0001), (99999999), (1e-16383), (123.4500)",
    ),
    ("numeric(8,3)[]", "VALUES ('{1.5,NULL,-0.001}'::numeric(8,3)[])"),
    (
        "date",
        "SELECT '4713-01-01 BC'::date + n * 997 FROM generate_series(0, 4000) n \
       UNION ALL SELECT '1999-12-01'::date + n FROM generate_series(0, 800) n \
       UNION ALL SELECT make_date(y, 2, 28) + n FROM unnest(ARRAY[-4, -1, 4, 100, 1600, 1900, 2000, 2100, 9999, 10000]) y, \
         generate_series(0, 2) n \
       UNION ALL VALUES ('infinity'::date), ('-infinity'), ('5874897-12-31'), ('0001-01-01 BC'), ('0001-01-01'), ('4713-11-24 BC')",
    ),
    (
        "time",
        "SELECT '00:00'::time + random() * '1 day'::interval FROM generate_series(1, 300) \
       UNION ALL VALUES ('24:00:00'::time), ('00:00:00'), ('10:20:30.100000'), ('23:59:59.999999')",
    ),
    (
        "timetz",
        "VALUES ('10:20:30.123456+08'::timetz), ('01:00:00-05:30'), ('12:00:00Z'), ('24:00:00-15:59:59'), \
       ('00:00:00+15:59:59'), ('00:00:00.5+00:00:01'), ('00:00:00-00:00:01'), ('00:00:00+00:01')",
    ),
    (
        "timestamp",
        "SELECT '4713-11-24 BC'::timestamp + n * '18770 hours 3.000007 seconds'::interval FROM generate_series(0, 4000) n \
       UNION ALL VALUES ('infinity'::timestamp), ('-infinity'), ('294276-12-31 23:59:59.999999'), \
         ('1999-12-31 23:59:59.999999'), ('2000-01-01'), ('0044-03-15 12:00:00.5 BC')",
    ),
    (
        "timestamptz",
        "SELECT '1970-01-01Z'::timestamptz + (random() - 0.5) * '9000 years'::interval FROM generate_series(1, 500) n \
       UNION ALL VALUES ('infinity'::timestamptz), ('-infinity'), ('294276-12-31 23:59:59.999999Z'), ('0044-03-15 12:00Z BC')",
    ),
    (
        "interval",
        "SELECT make_interval(years => y, months => m, days => d, secs => s) \
         FROM unnest(ARRAY[0, 1, -2]) y, unnest(ARRAY[0, 1, -11]) m, unnest(ARRAY[0, 1, -3]) d, \
           unnest(ARRAY[0, 1, -1, 0.000001, -0.5, 3600, -359999.999999, 360000]) s \
       UNION ALL VALUES ('178956970 years 7 mons'::interval), ('-178956970 years -8 mons'), \
         ('2147483647 days'), ('-2147483648 days'), ('2562047788:00:54.775807'), ('-2562047788:00:54.775807')",
    ),
    ("bit(13)", "SELECT n::bit(13) FROM generate_series(0, 8191, 97) n"),
    ("varbit", "SELECT left(repeat('10110', 9), n)::varbit FROM generate_series(0, 40) n"),
    (
        "tsvector",
        "SELECT (SELECT string_agg(lexeme() || CASE WHEN (n + 0 * i) % 3 = 0 THEN '' ELSE format(':%s%s', \
           1 + floor(random() * 16383)::int, substr('ABCD', 1 + floor(random() * 4)::int, 1)) END, ' ') \
         FROM generate_series(0, n % 40) i)::tsvector FROM generate_series(1, 300) n \
       UNION ALL SELECT array_to_tsvector(array_agg(w)) FROM (WORDS) q WHERE w <> '' \
       UNION ALL VALUES (''::tsvector), ('a:16383A,2,1B'), (to_tsvector('simple', repeat('same other ', 300))), \
         (repeat('zwölf', 300)::tsvector)",
    ),
    ("tsvector[]", "VALUES (ARRAY['', 'a:1 b', '''\"q'':2A']::tsvector[])"),
    (
        "tsquery",
        "SELECT some_query(n % 7) FROM generate_series(1, 700) n \
       UNION ALL VALUES (''::tsquery), ('a & b & c | !(d | e) & !!f'), ('a <-> (b <-> c) <2> (d & e <0> f)'), \
         ('(a | b) & (c & d) & (e | (f | g))'), ((repeat('!', 30) || 'a')::tsquery), \
         (('a' || repeat(' & (b | c)', 90))::tsquery), ((repeat('(a <-> ', 30) || 'b' || repeat(')', 30))::tsquery)",
    ),
    ("tsquery[]", "VALUES (ARRAY['', 'a & b', '''\"q''']::tsquery[])"),
    (
        "inet",
        "SELECT (SELECT string_agg(CASE WHEN n >> b & 1 = 1 THEN to_hex(b * 37 + 1) ELSE '0' END, ':' ORDER BY b) \
         FROM generate_series(0, 7) b)::inet FROM generate_series(0, 255) n \
       UNION ALL VALUES ('10.0.0.1'::inet), ('10.0.0.0/8'), ('0.0.0.0/0'), ('255.255.255.255/32'), ('1.2.3.4/31'), ('::1'), \
         ('::'), ('::/0'), ('::2'), ('::1.2.3.4'), ('::ffff:1.2.3.4/120'), ('::ffff:0:1'), ('::0.1.0.0'), ('2001:DB8::ABCD/64'), \
         ('1:0:0:2:0:0:0:3'), ('1:0:0:2:2:0:0:3'), ('::1:2'), ('::fffe:1.2.3.4')",
    ),
    (
        "cidr",
        "VALUES ('10.0.0.0/8'::cidr), ('10.1.2.3/32'), ('0.0.0.0/0'), ('2001:db8::/32'), ('::1/128'), ('::/0'), \
       ('::ffff:1.2.3.0/120')",
    ),
    ("macaddr", "VALUES ('08:00:2b:01:02:ff'::macaddr)"),
    ("macaddr8", "VALUES ('08:00:2b:01:02:03:04:ff'::macaddr8)"),
    (
        "point",
        "SELECT point(random() * 10 ^ n, -random() / 10 ^ n) FROM generate_series(1, 20) n \
       UNION ALL VALUES ('(NaN,Infinity)'::point), ('(-0,1e300)')",
    ),
    ("lseg", "VALUES ('[(1,2),(0.1,-3e-7)]'::lseg)"),
    ("box", "VALUES ('(1,1.5),(0,-1e20)'::box)"),
    ("path", "VALUES ('((0,0),(1,1),(2,0))'::path), ('[(0,0),(1.5,1)]'), ('(1,2)')"),
    ("polygon", "VALUES ('((0,0),(1,1),(2,0))'::polygon), ('((1,2))')"),
    ("line", "VALUES ('{1,-1,0.25}'::line)"),
    ("circle", "VALUES ('<(1,2),3.5>'::circle)"),
    (
        "text[]",
        "SELECT ARRAY[w, null, w || w] FROM (WORDS) q UNION ALL VALUES ('{}'::text[]), (ARRAY[ARRAY['a', null], \
       ARRAY['', 'd']]), ('[2:3]={x,y}'), ('[-1:0][5:6]={{1,2},{3,4}}'), ('{{{{{{a,b}}}}}}')",
    ),
    (
        "int4[]",
        "VALUES ('{1,2,NULL}'::int4[]), ('{{1,2},{3,4}}'), ('[0:1]={5,6}'), ('{{{1}},{{2}}}'), \
       ('[1:2][1:1]={{1},{2}}'), ('[-2147483648:-2147483647]={1,2}')",
    ),
    ("many", "VALUES (ARRAY['a', 'b,c']), ('{}')"),
    ("short[]", "SELECT ARRAY[w, 'x'] FROM (WORDS) q"),
    ("mood[]", "SELECT enum_range(null::mood)"),
    ("box[]", "VALUES ('{(1,1),(0,0);(2,2),(1,1)}'::box[])"),
    ("bytea[]", "VALUES (ARRAY['\\x00ff'::bytea, '\\x'])"),
    ("jsonb[]", "VALUES (ARRAY['{\"a\": [1]}'::jsonb, 'null'])"),
    ("float8[]", "VALUES ('{0.1,NaN,-Infinity,1e23}'::float8[])"),
    ("timestamptz[]", "VALUES ('{2024-03-05 10:20:30.5+00,NULL,infinity}'::timestamptz[])"),
    ("interval[]", "VALUES ('{1 day,-00:00:01}'::interval[])"),
    (
        "pair",
        "SELECT ROW(w, w || 'x')::pair FROM (WORDS) q UNION ALL VALUES (ROW(null, null)::pair), (ROW('', null)::pair), (null)",
    ),
    ("as_pair", "SELECT ROW(w, null)::pair FROM (WORDS) q"),
    ("pair[]", "SELECT ARRAY[ROW(w, null)::pair, null, ROW('', w)::pair] FROM (WORDS) q"),
    (
        "nest",
        "SELECT ROW(1, ROW(w, null)::pair, ARRAY[ROW(w, w)::pair], 'infinity', 0.1)::nest FROM (WORDS) q \
       UNION ALL VALUES (ROW(null, null, '{}', null, null)::nest)",
    ),
    (
        "nest[]",
        "SELECT ARRAY[ROW(1, ROW(w, null)::pair, ARRAY[ROW(w, w)::pair], null, '-0')::nest] FROM (WORDS) q",
    ),
    ("int4range", "VALUES ('empty'::int4range), ('[1,5)'), ('(,)'), ('(,5)'), ('[-3,)')"),
    ("numrange", "VALUES ('[1.50,2.75]'::numrange), ('(,5)'), ('(1,NaN]')"),
    ("tsrange", "VALUES ('[2024-01-01 00:00:00,2024-01-02 12:30:00)'::tsrange)"),
    ("tstzrange", "VALUES ('[2024-01-01 00:00:00+08,infinity)'::tstzrange)"),
    ("daterange", "VALUES ('[2024-01-01,2024-02-01)'::daterange), ('[-infinity,infinity]')"),
    ("words", "SELECT words(w, w || 'z', '[]') FROM (WORDS) q"),
    ("words[]", "SELECT ARRAY[words(w, w || 'z', '(]'), null] FROM (WORDS) q"),
    ("spans", "VALUES ('[1 day,\"1 day 00:00:01\"]'::spans)"),
    ("int4multirange", "VALUES ('{[1,3),[5,9)}'::int4multirange), ('{}'), ('{(,)}')"),
    (
        "words_multirange",
        "SELECT words_multirange(words(w, w || 'z', '[]'), words('~', '~~')) FROM (WORDS) q",
    ),
];

fn create(ground: &mut Ground) {
    ground.sql.run(TYPES);
    ground.sql.run(SEARCH);
    ground.sql.run("SELECT setseed(0.25)");
    for (number, (type_, _)) in VALUES.iter().enumerate() {
        let keep = if number % 2 == 0 { "FULL" } else { "DEFAULT" };
        ground.sql.run(&format!(
            "CREATE TABLE v{number} (id bigserial PRIMARY KEY, v {type_}); \
             ALTER TABLE v{number} REPLICA IDENTITY {keep}; ALTER PUBLICATION {} ADD TABLE v{number}",
            quoted(PUBLICATION)
        ));
    }
    ground.sql.run(&format!(
        "CREATE TABLE long (id text PRIMARY KEY, n int, body text, bytes bytea); \
         ALTER TABLE long ALTER body SET STORAGE EXTERNAL; ALTER TABLE long REPLICA IDENTITY FULL; \
         ALTER PUBLICATION {} ADD TABLE long",
        quoted(PUBLICATION)
    ));
}

fn write(ground: &mut Ground) {
    for (number, (_, values)) in VALUES.iter().enumerate() {
        let values = values.replace("WORDS", WORDS);
        ground.sql.run(&format!(
            "INSERT INTO v{number} (v) {values}; UPDATE v{number} SET id = -id WHERE id % 50 = 1; \
             DELETE FROM v{number} WHERE id % 50 = 2"
        ));
    }
    if 17 <= ground.version {
        let number =
            VALUES.iter().position(|(type_, _)| *type_ == "interval").expect("it is there");
        ground.sql.run(&format!("INSERT INTO v{number} (v) VALUES ('infinity'), ('-infinity')"));
    }
    ground.sql.run(
        "INSERT INTO long VALUES ('a', 1, repeat('é', 20000), decode(repeat('00ff', 3000), 'hex')); \
         UPDATE long SET n = 2; UPDATE long SET id = 'b'; \
         BEGIN; SELECT pg_logical_emit_message(true, 'of ours', 'content'); DELETE FROM long; COMMIT; \
         INSERT INTO t VALUES (1, 'the last one')",
    );
}

/// What a stream holds, and how many values came in binary form.
#[derive(Default)]
struct Found {
    /// By table: kind of change, old and new row.
    rows: BTreeMap<String, Vec<String>>,
    messages: Vec<Vec<u8>>,
    binary: usize,
}

fn row(batch: &ChangeBatch, span: Option<Span>) -> String {
    let mut out = String::new();
    for datum in span.map(|span| batch.tuple(span)).into_iter().flatten() {
        match datum {
            Datum::Null => out.push_str("∅ "),
            Datum::Unchanged => out.push_str("… "),
            Datum::Text(text) => write!(out, "{} ", text.escape_ascii()).expect("a string"),
            Datum::Binary(bytes) => panic!("{bytes:?} is left binary"),
        }
    }
    out
}

fn binary_values(bytes: &[u8]) -> usize {
    let frames = Frames::new(bytes).map(|frame| frame.expect("a whole message"));
    let binary = |frame| {
        let Frame::XLogData { payload, .. } = frame else { return 0 };
        let message = Message::parse(&bytes[payload], Context::default());
        let Message::Insert(it) = message.expect("a message") else { return 0 };
        it.new.iter().filter(|it| matches!(it, Datum::Binary(_))).count()
    };
    frames.map(binary).sum()
}

fn read(ground: &Ground, options: &StreamOptions) -> Found {
    let session = ground.session();
    let version = session.server().version;
    let mut stream = ground.start(options).expect("a stream");
    let binary = options.binary.then_some(version);
    let mut decoder = Decoder::new(Options { binary, ..Options::default() });
    let mut found = Found::default();
    while !found.rows.contains_key("t") {
        let bytes = ground.read(&mut stream).bytes;
        found.binary += binary_values(&bytes);
        let mut step = decoder.decode(bytes);
        let batch = loop {
            match step.unwrap_or_else(|error| panic!("{error}")) {
                Step::Done(batch) => break batch,
                Step::Describe(relation) => {
                    let table = ground.wait(session.complete(&relation)).expect("a table");
                    decoder.learn(Arc::new(table));
                    step = decoder.resume();
                }
            }
        };
        for change in &batch.changes {
            let old = change.old.map(wal::change::Old::span);
            let (old, new) = (row(&batch, old), row(&batch, change.new));
            let rows = found.rows.entry(batch.table(change).name.to_string()).or_default();
            rows.push(format!("{:?} {old}-> {new}", change.operation));
        }
        let messages = batch.messages.iter();
        found.messages.extend(
            messages.map(|it| [batch.slice(it.prefix), b"|", batch.slice(it.content)].concat()),
        );
    }
    ground.wait(stream.close()).expect("an end");
    found
}

#[test]
fn binary_values_become_the_texts_that_the_server_sends() {
    for server in servers() {
        let mut ground = Ground::new(server);
        if ground.version < SINCE {
            continue;
        }
        create(&mut ground);
        let from = ground.create_slot().consistent_point;
        let other = format!("{}_binary", ground.name);
        let mut replication = ground.replication();
        ground.wait(replication.create_slot(&other, false, false)).expect("a slot");
        drop(replication);
        write(&mut ground);
        let text = StreamOptions { messages: true, ..ground.options(from) };
        let texts = read(&ground, &text);
        let from = ground.wait(ground.session().slot(&other)).expect("a slot").expect("one");
        let from = from.confirmed_flush;
        let found = read(&ground, &StreamOptions { slot: other, from, binary: true, ..text });
        assert_eq!(texts.binary, 0, "{server}");
        assert!(10_000 < found.binary, "{server}: {} values came in binary form", found.binary);
        assert_eq!(found.messages, texts.messages, "{server}");
        assert_eq!(found.rows.keys().collect::<Vec<_>>(), texts.rows.keys().collect::<Vec<_>>());
        let mut wrong = String::new();
        for (table, rows) in &found.rows {
            let type_ = table.strip_prefix('v').and_then(|it| it.parse::<usize>().ok());
            let type_ = type_.map_or(&**table, |it| VALUES[it].0);
            assert_eq!(rows.len(), texts.rows[table].len(), "{server}, {type_}");
            let pairs = rows.iter().zip(&texts.rows[table]).filter(|(ours, theirs)| ours != theirs);
            for (ours, theirs) in pairs.take(5) {
                writeln!(wrong, "{server}, {type_}:\n  {ours}\n  {theirs}").expect("a string");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }
}
