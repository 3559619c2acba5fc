-- Helper objects of one task: event triggers that write each DDL statement into the stream, in the
-- transaction that it is part of. @…@ is filled in by postgres::ddl, quoted.

CREATE SCHEMA IF NOT EXISTS @schema@;
REVOKE ALL ON SCHEMA @schema@ FROM PUBLIC;

@table@

CREATE OR REPLACE FUNCTION @schema@.emit(changed jsonb, content jsonb) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp
AS $distributary$
@emit@
$distributary$;
REVOKE ALL ON FUNCTION @schema@.emit(jsonb, jsonb) FROM PUBLIC;

-- Columns and primary key of tables and views, as they are now.
CREATE OR REPLACE FUNCTION @schema@.relations(oids oid[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp
AS $distributary$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
    'key', coalesce((
      SELECT jsonb_agg(a.attname ORDER BY k.place)
      FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place), pg_attribute a
      WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
        AND a.attrelid = c.oid AND a.attnum = k.attnum), '[]'),
    'columns', coalesce((
      SELECT jsonb_agg(jsonb_build_object(
        'name', a.attname, 'position', a.attnum, 'oid', a.atttypid::bigint, 'type_name', t.typname,
        'type', format_type(a.atttypid, a.atttypmod), 'modifier', a.atttypmod,
        'not_null', a.attnotnull,
        'default', pg_get_expr(d.adbin, d.adrelid),
        'is_identity', a.attidentity <> '',
        'is_generated', coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '',
        'labels', coalesce((
          SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder)
          FROM pg_enum e WHERE e.enumtypid = a.atttypid), '[]')
        ) ORDER BY a.attnum)
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attrelid = c.oid AND 0 < a.attnum AND NOT a.attisdropped), '[]')
    ) ORDER BY place), '[]')
  FROM unnest(oids) WITH ORDINALITY o (oid, place)
    JOIN pg_class c ON c.oid = o.oid JOIN pg_namespace n ON n.oid = c.relnamespace
$distributary$;
REVOKE ALL ON FUNCTION @schema@.relations(oid[]) FROM PUBLIC;

-- Names by which a relation may be selected: its own, and those of the partitioned tables above it.
CREATE OR REPLACE FUNCTION @schema@.names(relation oid) RETURNS SETOF jsonb
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp
AS $distributary$
  WITH RECURSIVE up (oid) AS (
    SELECT relation UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid
      JOIN pg_class p ON p.oid = i.inhparent AND p.relkind = 'p')
  SELECT jsonb_build_array(n.nspname, c.relname)
  FROM up JOIN pg_class c ON c.oid = up.oid JOIN pg_namespace n ON n.oid = c.relnamespace
$distributary$;
REVOKE ALL ON FUNCTION @schema@.names(oid) FROM PUBLIC;

-- Whether a table of this name belongs to the task.
CREATE OR REPLACE FUNCTION @schema@.wanted(name_of_schema text, name text) RETURNS bool
LANGUAGE sql IMMUTABLE SET search_path TO pg_catalog, pg_temp
AS $distributary$
  SELECT @wanted@
$distributary$;
REVOKE ALL ON FUNCTION @schema@.wanted(text, text) FROM PUBLIC;

-- A table that was just made is captured from its first row on: until its transaction ends nobody else can
-- write to it. What fails here is taken in later, by the task.
CREATE OR REPLACE FUNCTION @schema@.take(relation oid) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp
AS $distributary$
DECLARE
  made record;
  home record;
  is_in_tree bool;
  target text;
BEGIN
  SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.relispartition, c.relreplident INTO made
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
  IF made.relkind NOT IN ('r', 'p') OR made.relpersistence <> 'p' THEN
    RETURN;
  END IF;
  WITH RECURSIVE up (oid) AS (
    SELECT relation UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid)
  SELECT n.nspname, c.relname INTO home
    FROM up JOIN pg_class c ON c.oid = up.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE made.relispartition AND NOT c.relispartition AND @schema@.wanted(n.nspname, c.relname) LIMIT 1;
  is_in_tree := FOUND;
  IF NOT is_in_tree AND NOT @schema@.wanted(made.nspname, made.relname) THEN
    RETURN;
  END IF;
  -- The name by which its rows go.
  IF NOT is_in_tree OR NOT @via_root@ THEN
    SELECT made.nspname, made.relname INTO home;
  END IF;
  target := @publication@;
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = target) THEN
    RETURN;
  END IF;
  -- Its users could not update it any more: FULL does not bear virtual columns, and without FULL a key is needed.
  IF (CASE WHEN @full@
        THEN EXISTS (SELECT FROM pg_attribute a
          WHERE a.attrelid = relation AND to_jsonb(a) ->> 'attgenerated' = 'v')
        ELSE NOT EXISTS (SELECT FROM pg_index i
          WHERE i.indrelid = relation AND i.indisprimary AND i.indimmediate AND i.indisvalid) END)
  THEN
    RETURN;
  END IF;
  -- A publication is locked until the end of whoever alters it.
  PERFORM set_config('lock_timeout', '500ms', true);
  PERFORM set_config('distributary.ddl_capture', 'off', true);
  IF @full@ AND made.relreplident <> 'f' THEN
    EXECUTE format('ALTER TABLE ONLY %I.%I REPLICA IDENTITY FULL', made.nspname, made.relname);
  END IF;
  -- Without parentheses PL/pgSQL would end the condition at the first THEN.
  IF (CASE WHEN NOT @via_root@ THEN made.relkind = 'r'
           WHEN made.relkind = 'r' THEN NOT is_in_tree ELSE NOT made.relispartition END)
  THEN
    EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I', target, made.nspname, made.relname);
  END IF;
END
$distributary$;
REVOKE ALL ON FUNCTION @schema@.take(oid) FROM PUBLIC;

-- A partition that was just attached to a published tree gets its replica identity before anybody can update it. Its
-- transaction holds it alone already; what others hold is left to the task.
CREATE OR REPLACE FUNCTION @schema@.settle(relation oid) RETURNS void
LANGUAGE plpgsql SET search_path TO pg_catalog, pg_temp
AS $distributary$
DECLARE
  home record;
  leaf record;
BEGIN
  IF NOT (@full@ AND @via_root@) THEN
    RETURN;
  END IF;
  WITH RECURSIVE up (oid) AS (
    SELECT relation UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid)
  SELECT c.oid, n.nspname, c.relname INTO home
    FROM up JOIN pg_class c ON c.oid = up.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'p' AND NOT c.relispartition LIMIT 1;
  IF NOT FOUND OR NOT EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
    WHERE p.pubname = @publication@ AND r.prrelid = home.oid)
  THEN
    RETURN;
  END IF;
  PERFORM set_config('distributary.ddl_capture', 'off', true);
  FOR leaf IN
    WITH RECURSIVE down (oid) AS (
      SELECT relation UNION SELECT i.inhrelid FROM down JOIN pg_inherits i ON i.inhparent = down.oid)
    SELECT n.nspname, c.relname
    FROM down JOIN pg_class c ON c.oid = down.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relreplident <> 'f'
      AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.relation = c.oid
        AND l.mode = 'AccessExclusiveLock' AND l.granted)
      AND NOT EXISTS (SELECT FROM pg_attribute a
        WHERE a.attrelid = c.oid AND to_jsonb(a) ->> 'attgenerated' = 'v')
  LOOP
    EXECUTE format('ALTER TABLE ONLY %I.%I REPLICA IDENTITY FULL', leaf.nspname, leaf.relname);
  END LOOP;
END
$distributary$;
REVOKE ALL ON FUNCTION @schema@.settle(oid) FROM PUBLIC;

-- Whether it is a schema of a task's helper objects.
CREATE OR REPLACE FUNCTION @schema@.helps(home oid) RETURNS bool
LANGUAGE sql STABLE SET search_path TO pg_catalog, pg_temp
AS $distributary$
  SELECT coalesce(obj_description(home, 'pg_namespace'), '') LIKE 'Distributary: helper %'
$distributary$;
REVOKE ALL ON FUNCTION @schema@.helps(oid) FROM PUBLIC;

-- The names that are about to go: of what is renamed or moved, those who select only the old name learn where it went. What is
-- STABLE sees the catalog as it was when the statement began.
CREATE OR REPLACE FUNCTION @schema@.remember() RETURNS event_trigger
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp
AS $distributary$
BEGIN
  IF current_setting('distributary.ddl_capture', true) = 'off' THEN
    RETURN;
  END IF;
  PERFORM set_config(@before@, coalesce((SELECT jsonb_agg(DISTINCT name)::text FROM (
    SELECT n AS name FROM pg_event_trigger_ddl_commands() c
      JOIN pg_class r ON c.classid = 'pg_class'::regclass AND r.oid = c.objid
        AND r.relkind IN ('r', 'p', 'f'), @schema@.names(r.oid) n
    UNION ALL
    SELECT jsonb_build_array(n.nspname, NULL)
    FROM pg_event_trigger_ddl_commands() c JOIN pg_namespace n ON n.oid = (CASE c.classid
      WHEN 'pg_namespace'::regclass THEN c.objid
      WHEN 'pg_class'::regclass THEN (SELECT relnamespace FROM pg_class
        WHERE oid = c.objid AND relkind NOT IN ('r', 'p', 'f', 'i', 'I', 'S'))
      WHEN 'pg_proc'::regclass THEN (SELECT pronamespace FROM pg_proc WHERE oid = c.objid)
      WHEN 'pg_type'::regclass THEN (SELECT typnamespace FROM pg_type WHERE oid = c.objid)
    END)) names), ''), true);
EXCEPTION WHEN OTHERS THEN
  RAISE LOG 'distributary: names before % are not known: %', TG_TAG, SQLERRM;
END
$distributary$;
REVOKE ALL ON FUNCTION @schema@.remember() FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.capture() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp @messages@
AS $distributary$
DECLARE
  context text;
  at text := extract(epoch FROM statement_timestamp())::text;
  kind text := replace(TG_TAG, 'TABLE AS', 'TABLE');
  seen jsonb;
  nth int;
  is_nested bool;
  needs_definition bool;
  objects jsonb;
  dropped jsonb;
  changed jsonb;
  before jsonb;
  helpers text[];
  -- So many objects are named, of so many.
  named_max int := 1000;
  total int;
  relations oid[];
  source text;
  relation oid;
  settings text[];
BEGIN
  -- What Distributary does itself is none of the user's.
  IF current_setting('distributary.ddl_capture', true) = 'off' THEN
    RETURN;
  END IF;
  GET DIAGNOSTICS context = PG_CONTEXT;
  -- The first line is this function.
  context := substr(context, strpos(context || E'\n', E'\n') + 1);
  is_nested := context <> '';
  IF TG_EVENT = 'ddl_command_end' AND TG_TAG IN ('CREATE TABLE', 'CREATE SCHEMA', 'ALTER TABLE') THEN
    settings := ARRAY[current_setting('lock_timeout'), current_setting('distributary.ddl_capture', true)];
    FOR relation IN
      SELECT c.objid
      FROM pg_event_trigger_ddl_commands() c JOIN pg_class r ON r.oid = c.objid
      WHERE c.classid = 'pg_class'::regclass AND NOT c.in_extension
        AND (c.command_tag = 'CREATE TABLE' OR c.command_tag = 'ALTER TABLE' AND r.relkind = 'p')
    LOOP
      BEGIN
        IF TG_TAG = 'ALTER TABLE' THEN
          PERFORM @schema@.settle(relation);
        ELSE
          PERFORM @schema@.take(relation);
        END IF;
      EXCEPTION WHEN OTHERS THEN
        RAISE LOG 'distributary: table % is taken in later: %', relation::regclass, SQLERRM;
      END;
    END LOOP;
    PERFORM set_config('lock_timeout', settings[1], true);
    PERFORM set_config('distributary.ddl_capture', coalesce(settings[2], ''), true);
  END IF;
  BEGIN
    -- How many statements of this tag the client's string has had so far.
    seen := nullif(current_setting(@seen@, true), '')::jsonb;
    IF seen IS NULL OR seen ->> 'at' <> at THEN
      seen := jsonb_build_object('at', at);
    END IF;
    nth := coalesce((seen ->> kind)::int, 0) + 1;
    IF TG_EVENT = 'ddl_command_end' AND NOT is_nested THEN
      PERFORM set_config(@seen@, (seen || jsonb_build_object(kind, nth))::text, false);
    END IF;
    IF TG_TAG !~ '^(CREATE|ALTER|DROP) (TABLE|FOREIGN TABLE|TABLE AS|VIEW|MATERIALIZED VIEW|PROCEDURE|FUNCTION|ROUTINE|INDEX|TYPE|DOMAIN|SCHEMA)$'
      AND TG_TAG NOT IN ('SELECT INTO', 'DROP OWNED', 'DROP EXTENSION', 'IMPORT FOREIGN SCHEMA')
    THEN
      RETURN;
    END IF;

    IF TG_EVENT = 'sql_drop' THEN
      -- Of another task. Where the schema goes with its functions, its comment is gone already.
      SELECT array_agg(home) INTO helpers FROM (
        SELECT schema_name AS home, count(*) FILTER (WHERE object_type = 'function'
            AND substr(object_identity, length(quote_ident(schema_name)) + 2) ~ '^(capture|emit|wanted)\(') AS functions
        FROM pg_event_trigger_dropped_objects() WHERE schema_name IS NOT NULL GROUP BY schema_name) h
      WHERE functions = 3 OR @schema@.helps(to_regnamespace(quote_ident(home)));
      SELECT jsonb_agg(jsonb_build_object('type', object_type, 'schema', schema_name,
          'name', object_name, 'identity', object_identity, 'original', original) ORDER BY place)
          FILTER (WHERE place <= named_max),
        jsonb_agg(DISTINCT CASE
          WHEN object_type IN ('table', 'foreign table') THEN jsonb_build_array(schema_name, object_name)
          WHEN object_type = 'schema' THEN jsonb_build_array(object_name, NULL)
          ELSE jsonb_build_array(schema_name, NULL) END),
        count(*)
        INTO dropped, changed, total
      FROM (
        SELECT *, row_number() OVER (ORDER BY original DESC,
          object_type IN ('table', 'foreign table') DESC, came) AS place
        FROM (SELECT *, row_number() OVER () AS came FROM pg_event_trigger_dropped_objects()) d
        WHERE NOT is_temporary AND (original OR normal
            -- Partitions go with their root, views with what they show.
            OR object_type IN ('table', 'foreign table', 'view', 'materialized view'))
          AND coalesce(schema_name, object_name, '') <> ALL (coalesce(helpers, '{}'))
          AND object_type NOT IN ('rule', 'default value', 'trigger', 'policy', 'sequence', 'toast table', 'extension')
          AND (TG_TAG NOT IN ('DROP EXTENSION', 'DROP OWNED') OR object_type IN ('table', 'foreign table'))
      ) o;
      IF dropped IS NULL THEN
        RETURN;
      END IF;
      IF TG_TAG LIKE 'ALTER %' OR TG_TAG LIKE 'CREATE %' THEN
        -- The rest of the statement is told when it ends.
        PERFORM set_config(@dropped@, jsonb_build_object('list', dropped, 'total', total)::text, true);
        RETURN;
      END IF;
      objects := '[]';
      relations := '{}';
    ELSE
      IF TG_TAG LIKE 'DROP %' THEN
        RETURN;
      END IF;
      before := nullif(current_setting(@dropped@, true), '')::jsonb;
      dropped := coalesce(before -> 'list', '[]');
      total := coalesce((before ->> 'total')::int, 0);
      IF before IS NOT NULL THEN
        PERFORM set_config(@dropped@, '', true);
      END IF;
      before := '[]';
      IF TG_TAG LIKE 'ALTER %' THEN
        before := coalesce(nullif(current_setting(@before@, true), '')::jsonb, '[]');
        PERFORM set_config(@before@, '', true);
      END IF;
      needs_definition := is_nested AND context NOT LIKE 'SQL statement "%';
      SELECT coalesce(jsonb_agg(jsonb_build_object('type', o.object_type, 'schema', o.schema_name,
          'name', CASE o.classid
            WHEN 'pg_class'::regclass THEN (SELECT relname::text FROM pg_class WHERE oid = o.objid)
            WHEN 'pg_proc'::regclass THEN (SELECT proname::text FROM pg_proc WHERE oid = o.objid)
            WHEN 'pg_type'::regclass THEN (SELECT typname::text FROM pg_type WHERE oid = o.objid)
            WHEN 'pg_namespace'::regclass THEN (SELECT nspname::text FROM pg_namespace WHERE oid = o.objid)
          END,
          'identity', o.object_identity,
          'definition', CASE WHEN NOT needs_definition THEN NULL
            WHEN o.relkind = 'v' THEN 'CREATE VIEW ' || o.object_identity || ' AS ' || pg_get_viewdef(o.objid)
            WHEN o.relkind = 'm' THEN 'CREATE MATERIALIZED VIEW ' || o.object_identity || ' AS ' || pg_get_viewdef(o.objid)
            WHEN o.relkind IN ('i', 'I') AND TG_TAG = 'CREATE INDEX' THEN pg_get_indexdef(o.objid)
            WHEN o.classid = 'pg_proc'::regclass AND TG_TAG LIKE 'CREATE %' THEN pg_get_functiondef(o.objid)
          END) ORDER BY o.place) FILTER (WHERE o.place <= named_max), '[]'),
        coalesce(array_agg(DISTINCT o.objid)
          FILTER (WHERE o.relkind IN ('r', 'p', 'f', 'v', 'm') AND o.place <= named_max), '{}'),
        greatest(total, count(*))
        INTO objects, relations, total
      FROM (
        SELECT c.*, r.relkind, row_number() OVER () AS place
        FROM pg_event_trigger_ddl_commands() c
          LEFT JOIN pg_class r ON c.classid = 'pg_class'::regclass AND r.oid = c.objid
        WHERE NOT c.in_extension AND c.schema_name IS DISTINCT FROM 'pg_temp'
          AND NOT @schema@.helps(CASE c.classid WHEN 'pg_namespace'::regclass THEN c.objid
            ELSE to_regnamespace(quote_ident(c.schema_name)) END)
      ) o;
      IF objects = '[]' THEN
        RETURN;
      END IF;
      SELECT jsonb_agg(DISTINCT name) INTO changed FROM (
        SELECT n AS name FROM pg_event_trigger_ddl_commands() c
          JOIN pg_class r ON c.classid = 'pg_class'::regclass AND r.oid = c.objid
            AND r.relkind IN ('r', 'p', 'f'), @schema@.names(r.oid) n
        UNION ALL
        SELECT n FROM pg_event_trigger_ddl_commands() c
          JOIN pg_index i ON c.classid = 'pg_class'::regclass AND i.indexrelid = c.objid,
            @schema@.names(i.indrelid) n
        UNION ALL
        SELECT jsonb_build_array(coalesce(c.schema_name, (SELECT nspname FROM pg_namespace
            WHERE c.classid = 'pg_namespace'::regclass AND oid = c.objid)), NULL)
        FROM pg_event_trigger_ddl_commands() c
          LEFT JOIN pg_class r ON c.classid = 'pg_class'::regclass AND r.oid = c.objid
        WHERE r.relkind IS NULL OR r.relkind NOT IN ('r', 'p', 'f', 'i', 'I', 'S')
      ) names;
      changed := coalesce(changed, '[]');
      -- The names of now come first: they decide where a choice is left.
      changed := changed || coalesce((SELECT jsonb_agg(n) FROM jsonb_array_elements(before) n
        WHERE n NOT IN (SELECT jsonb_array_elements(changed))), '[]');
    END IF;

    IF context LIKE 'SQL function "%' THEN
      SELECT min(p.prosrc) INTO source FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
      WHERE l.lanname = 'sql' AND p.proname = substring(context FROM '^SQL function "([^"]*)"')
      HAVING count(*) = 1;
    END IF;
    PERFORM @schema@.emit(changed, jsonb_build_object(
      'tag', TG_TAG,
      'query', CASE WHEN NOT is_nested AND length(current_query()) <= 1000000 THEN current_query() END,
      'nth', nth, 'context', context, 'source', source, 'user', session_user,
      'replica', current_setting('session_replication_role') = 'replica',
      'objects', objects, 'dropped', dropped,
      'relations', @schema@.relations(relations),
      'gap', CASE WHEN named_max < total
        THEN format('only %s of %s objects are named', named_max, total) END));
  EXCEPTION WHEN OTHERS THEN
    BEGIN
      PERFORM @schema@.emit('[]', jsonb_build_object('tag', TG_TAG, 'context', context,
        'query', left(current_query(), 10000), 'nth', nth, 'gap', SQLSTATE || ': ' || SQLERRM));
    EXCEPTION WHEN OTHERS THEN
      RAISE LOG 'distributary: a DDL statement (%) was not captured: %', TG_TAG, SQLERRM;
    END;
  END;
END
$distributary$;
REVOKE ALL ON FUNCTION @schema@.capture() FROM PUBLIC;

DROP EVENT TRIGGER IF EXISTS @on_alter@;
CREATE EVENT TRIGGER @on_alter@ ON ddl_command_end
  WHEN TAG IN ('ALTER TABLE', 'ALTER FOREIGN TABLE', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'ALTER INDEX', 'ALTER SCHEMA',
    'ALTER PROCEDURE', 'ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER TYPE', 'ALTER DOMAIN')
  EXECUTE PROCEDURE @schema@.remember();
ALTER EVENT TRIGGER @on_alter@ ENABLE ALWAYS;
DROP EVENT TRIGGER IF EXISTS @on_end@;
CREATE EVENT TRIGGER @on_end@ ON ddl_command_end EXECUTE PROCEDURE @schema@.capture();
ALTER EVENT TRIGGER @on_end@ ENABLE ALWAYS;
DROP EVENT TRIGGER IF EXISTS @on_drop@;
CREATE EVENT TRIGGER @on_drop@ ON sql_drop EXECUTE PROCEDURE @schema@.capture();
ALTER EVENT TRIGGER @on_drop@ ENABLE ALWAYS;
COMMENT ON SCHEMA @schema@ IS @comment@;
