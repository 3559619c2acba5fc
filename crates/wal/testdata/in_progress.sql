-- What made in_progress.hex: after workload.sql, with max_prepared_transactions=10 and
-- logical_decoding_work_mem=64kB. Streamed and prepared transactions, protocol version 3;
-- the long rows, which only make the transactions large enough, are left out.
\set ON_ERROR_STOP 1
\pset format unaligned
\pset tuples_only on
SELECT pg_create_logical_replication_slot('s3', 'pgoutput', false, true) \g /dev/null
BEGIN;
INSERT INTO keyless VALUES ('prepared');
PREPARE TRANSACTION 'gid one';
COMMIT PREPARED 'gid one';
BEGIN;
INSERT INTO keyless VALUES ('undone');
PREPARE TRANSACTION 'gid two';
ROLLBACK PREPARED 'gid two';
BEGIN;
INSERT INTO keyless SELECT repeat('x', 2000) FROM generate_series(1, 40);
SAVEPOINT a;
INSERT INTO keyless SELECT repeat('y', 2000) FROM generate_series(1, 40);
ROLLBACK TO a;
TRUNCATE keyless;
INSERT INTO keyless VALUES ('last');
COMMIT;
BEGIN;
INSERT INTO keyless SELECT repeat('z', 2000) FROM generate_series(1, 40);
PREPARE TRANSACTION 'gid three';
COMMIT PREPARED 'gid three';
\o in_progress.hex
SELECT lsn || ' ' || encode(data, 'hex') FROM pg_logical_slot_peek_binary_changes('s3', NULL, NULL,
  'proto_version', '3', 'publication_names', 'p', 'streaming', 'true', 'two_phase', 'true')
WHERE length(data) < 200;
