-- The least that a task needs, for a database administrator to run once, as superuser, in the database that
-- is captured. Change the values here:

SET distributary.task = 'shop';                -- name of the task
SET distributary.role = 'distributary_shop';   -- role of the task: `source.user`
SET distributary.schemas = 'public';           -- schemas that are captured, with commas between them
SET distributary.exclude = '';                 -- tables of these that are not, e.g. 'public.secret, public.log': as the
                                               -- objects of the spec leave them out

-- Then: ALTER ROLE distributary_shop PASSWORD '…';
-- It can be run again, also when tables have come. What it makes:
-- * a role that may log in and replicate, read the captured tables of these schemas, and nothing else;
-- * REPLICA IDENTITY FULL on each captured table, which only its owner may set: write `source.replica_identity: keep`
--   in the spec for tables that are not to have it, and set what you want there by hand;
-- * the publication of these tables, which belongs to the role, so that `task release` can drop it. A table that was
--   captured and is excluded now stays in it: the task leaves its rows out.
-- Tables with virtual generated columns are left out, because under FULL their users could not update them any more: exclude them
-- in the spec, or make the columns STORED.
-- DDL statements need event triggers, which only a superuser may create: write `source.ddl: off`.
-- With `source.read_from: standby` a slot is made sooner after
--   GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO distributary_shop;

DO $do$
DECLARE
  task text := 'distributary_' || current_setting('distributary.task');
  role text := current_setting('distributary.role');
  schemas text[] := regexp_split_to_array(current_setting('distributary.schemas'), '\s*,\s*');
  excluded text[] := regexp_split_to_array(current_setting('distributary.exclude'), '\s*,\s*');
  version int := current_setting('server_version_num')::int;
  options text := 'publish = ''insert, update, delete, truncate''';
  item record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
    EXECUTE format('CREATE ROLE %I LOGIN REPLICATION', role);
  END IF;
  EXECUTE format('GRANT CONNECT, CREATE ON DATABASE %I TO %I', current_database(), role);
  IF 130000 <= version THEN
    options := options || ', publish_via_partition_root = true';
  END IF;
  IF 180000 <= version THEN
    options := options || ', publish_generated_columns = stored';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = task) THEN
    EXECUTE format('CREATE PUBLICATION %I WITH (%s)', task, options);
    EXECUTE format('ALTER PUBLICATION %I OWNER TO %I', task, role);
  END IF;
  FOR item IN SELECT unnest(schemas) AS schema LOOP
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', item.schema, role);
  END LOOP;
  FOR item IN
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind, c.relreplident, c.relispartition
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY (schemas) AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
      AND n.nspname || '.' || c.relname <> ALL (excluded)
    ORDER BY c.oid
  LOOP
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = item.oid AND to_jsonb(a) ->> 'attgenerated' = 'v') THEN
      RAISE WARNING '%.% has virtual generated columns and is left out: exclude it in the spec', item.schema, item.name;
      CONTINUE;
    END IF;
    EXECUTE format('GRANT SELECT ON %I.%I TO %I', item.schema, item.name, role);
    -- ONLY, or tables that inherit would be changed too.
    IF item.relreplident <> 'f' THEN
      EXECUTE format('ALTER TABLE ONLY %I.%I REPLICA IDENTITY FULL', item.schema, item.name);
    END IF;
    -- Partitions go under their root from 13 on; before, only they can be published.
    IF (CASE WHEN 130000 <= version THEN item.relispartition ELSE item.relkind = 'p' END)
      OR EXISTS (SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
                 WHERE p.pubname = task AND r.prrelid = item.oid)
    THEN
      CONTINUE;
    END IF;
    EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I', task, item.schema, item.name);
  END LOOP;
END
$do$;
