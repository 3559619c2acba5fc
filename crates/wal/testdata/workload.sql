-- What made workload.hex and texts.copy: PostgreSQL 15, psql on an empty database with wal_level=logical.
\set ON_ERROR_STOP 1
\pset format unaligned
\pset tuples_only on
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE plain (id int PRIMARY KEY, note text, amount numeric(10,2), feeling mood);
CREATE TABLE "Größe ""x""" (a int, b varchar(20), c bytea, PRIMARY KEY (b, a));
CREATE TABLE whole (id int, big text, tags text[]);
ALTER TABLE whole REPLICA IDENTITY FULL;
ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
CREATE TABLE keyless (v text);
ALTER TABLE keyless REPLICA IDENTITY NOTHING;
CREATE TABLE by_index (id int, code text NOT NULL, v int);
CREATE UNIQUE INDEX by_index_code ON by_index (code);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code;
CREATE TABLE toast (id int PRIMARY KEY, big text, v int);
ALTER TABLE toast ALTER big SET STORAGE EXTERNAL;
CREATE TABLE parent (id int, region text, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parent_eu PARTITION OF parent FOR VALUES IN ('eu');
CREATE TABLE parent_us PARTITION OF parent FOR VALUES IN ('us');
CREATE TABLE texts (id int PRIMARY KEY, v text, w text);
CREATE TABLE child (id int PRIMARY KEY REFERENCES plain);
CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root = true);
SELECT pg_create_logical_replication_slot('s', 'pgoutput') \g /dev/null

INSERT INTO plain VALUES (1, 'first', 12.34, 'ok'), (2, NULL, NULL, NULL), (3, '', 'NaN', 'happy');
BEGIN;
INSERT INTO plain VALUES (4, 'kept', 1, 'sad');
SAVEPOINT a;
INSERT INTO plain VALUES (5, 'rolled back', 1, 'sad');
ROLLBACK TO a;
UPDATE plain SET note = 'changed' WHERE id = 1;
UPDATE plain SET id = 20 WHERE id = 2;
DELETE FROM plain WHERE id = 3;
COMMIT;
INSERT INTO "Größe ""x""" VALUES (1, 'ключ', '\x00ff');
UPDATE "Größe ""x""" SET b = 'schlüssel';
DELETE FROM "Größe ""x""";
INSERT INTO whole VALUES (1, repeat('0123456789', 300), '{a,NULL,"b c"}');
UPDATE whole SET id = 2;
DELETE FROM whole;
INSERT INTO keyless VALUES ('x');
INSERT INTO by_index VALUES (1, 'one', 1);
UPDATE by_index SET v = 2;
UPDATE by_index SET code = 'two';
DELETE FROM by_index;
INSERT INTO toast VALUES (1, repeat('abcdefghij', 300), 1);
UPDATE toast SET v = 2;
DELETE FROM toast;
INSERT INTO parent VALUES (1, 'eu', 'here'), (2, 'us', 'there');
UPDATE parent SET region = 'us' WHERE id = 1;
BEGIN;
INSERT INTO plain VALUES (6, 'before', 1, 'ok');
ALTER TABLE plain ADD COLUMN extra int DEFAULT 7;
INSERT INTO plain VALUES (7, 'after', 1, 'ok', 8);
ALTER TABLE plain RENAME COLUMN note TO remark;
INSERT INTO plain VALUES (8, 'renamed', 1, 'ok', 9);
ALTER TABLE plain DROP COLUMN amount;
INSERT INTO plain VALUES (9, 'dropped', 'ok', 10);
COMMIT;
ALTER TABLE plain ALTER extra TYPE bigint;
INSERT INTO plain VALUES (10, 'wider', 'ok', 10000000000);
ALTER TABLE plain REPLICA IDENTITY FULL;
UPDATE plain SET extra = 1 WHERE id = 10;
TRUNCATE plain, keyless, parent CASCADE;
TRUNCATE toast RESTART IDENTITY;
SELECT pg_logical_emit_message(false, 'outside', 'hello') \g /dev/null
BEGIN;
INSERT INTO keyless VALUES ('y');
SELECT pg_logical_emit_message(true, 'inside', '\x00ff'::bytea) \g /dev/null
INSERT INTO keyless VALUES ('z');
COMMIT;
CREATE TABLE unpublished_change (x int);
SELECT pg_replication_origin_create('elsewhere') \g /dev/null
SELECT pg_replication_origin_session_setup('elsewhere') \g /dev/null
INSERT INTO keyless VALUES ('from elsewhere');
SELECT pg_replication_origin_session_reset() \g /dev/null
INSERT INTO texts VALUES
  (1, 'tab' || chr(9) || 'line' || chr(10) || 'return' || chr(13), '\'),
  (2, NULL, ''), (3, '\N', '\\N'), (4, chr(8) || chr(12) || chr(11) || chr(1), '\.'),
  (5, 'Größe 你好', chr(9) || chr(9)), (6, repeat('\' || chr(9), 50), 'end\');
\o workload.hex
SELECT lsn || ' ' || encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL,
  'proto_version', '1', 'publication_names', 'p', 'messages', 'true');
\o texts.copy
\copy (SELECT * FROM texts ORDER BY id) TO 'texts.copy'
