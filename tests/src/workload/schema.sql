-- The tables of the random workload. What a server version does not know is added by the program.
CREATE SCHEMA shop;
CREATE SCHEMA "Größe & Co";

CREATE TABLE shop.orders (
    id bigint PRIMARY KEY, note text, total numeric(12,2) NOT NULL DEFAULT 0, at timestamptz DEFAULT now()
);
CREATE TABLE shop.lines (
    order_id bigint REFERENCES shop.orders ON UPDATE CASCADE ON DELETE CASCADE,
    line smallint, sku varchar(20), quantity int, PRIMARY KEY (order_id, line)
);
-- No key, and rows that are equal.
CREATE TABLE shop.events (at timestamp(3), kind text, payload jsonb, body text);
ALTER TABLE shop.events REPLICA IDENTITY FULL;
-- The key is not the first column, and its columns are in another order than the table's.
CREATE TABLE shop.stock (amount int, shelf char(4), place uuid, PRIMARY KEY (place, shelf));
CREATE TABLE "Größe & Co"."Straße ""x"".y" (
    "Schlüssel" text PRIMARY KEY, "ein Wert" text, "naïve.dot" int, " " "char"
);
-- TOAST: values stay out of line and uncompressed, so that small ones are enough.
CREATE TABLE shop.documents (id int PRIMARY KEY, title text, body text, attachment bytea, revision int);
ALTER TABLE shop.documents ALTER body SET STORAGE EXTERNAL, ALTER attachment SET STORAGE EXTERNAL;
CREATE TABLE shop.bulk (id int PRIMARY KEY, value text, part int);
CREATE TABLE shop.scratch_a (id serial PRIMARY KEY, value int);
CREATE TABLE shop.scratch_b (value int);
ALTER TABLE shop.scratch_b REPLICA IDENTITY FULL;
-- An expression index and a unique index beside the key, which must not become it.
CREATE UNIQUE INDEX ON shop.bulk (lower(value), id);

-- With a key: moving to another partition changes it.
CREATE TABLE shop.regions (region text, id int, reading double precision, remark text, PRIMARY KEY (region, id))
    PARTITION BY LIST (region);
CREATE TABLE shop.regions_north PARTITION OF shop.regions FOR VALUES IN ('north', 'Nørd');
CREATE TABLE shop.regions_south PARTITION OF shop.regions FOR VALUES IN ('south') PARTITION BY RANGE (id);
CREATE TABLE shop.regions_south_low PARTITION OF shop.regions_south FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE shop.regions_south_high PARTITION OF shop.regions_south FOR VALUES FROM (100) TO (MAXVALUE);
-- Attached, with its columns in another order and a hole where one was dropped.
CREATE TABLE shop.regions_rest (remark text, gone int, reading double precision, id int NOT NULL, region text NOT NULL);
ALTER TABLE shop.regions_rest DROP COLUMN gone;
ALTER TABLE shop.regions ATTACH PARTITION shop.regions_rest DEFAULT;
-- Without a key.
CREATE TABLE shop.readings (day int, value numeric, note text) PARTITION BY RANGE (day);
CREATE TABLE shop.readings_1 PARTITION OF shop.readings FOR VALUES FROM (0) TO (10);
CREATE TABLE shop.readings_2 PARTITION OF shop.readings FOR VALUES FROM (10) TO (20);
CREATE TABLE shop.readings_3 PARTITION OF shop.readings DEFAULT;
ALTER TABLE shop.readings_1 REPLICA IDENTITY FULL;
ALTER TABLE shop.readings_2 REPLICA IDENTITY FULL;
ALTER TABLE shop.readings_3 REPLICA IDENTITY FULL;
ALTER TABLE shop.readings REPLICA IDENTITY FULL;

CREATE TYPE shop.mood AS ENUM ('sad', 'ok', 'very happy, indeed');
CREATE DOMAIN shop.positive AS int CHECK (0 < VALUE);
CREATE DOMAIN shop.cents AS numeric(9,2);
CREATE DOMAIN shop.names AS text[];
CREATE TYPE shop.place AS (street text, "house no" int, at point);
CREATE TYPE shop.float_range AS RANGE (subtype = float8);

-- Where the workload does not reach: nothing ever happens here.
CREATE TABLE shop.empty (id int PRIMARY KEY);

INSERT INTO shop.orders SELECT n, 'order ' || n, n * 1.25, 'epoch'::timestamptz + n * interval '1 hour' FROM generate_series(1, 800) n;
INSERT INTO shop.lines SELECT 1 + n % 800, n / 800, 'sku-' || n, n FROM generate_series(0, 1599) n;
INSERT INTO shop.events SELECT timestamp '2024-02-29' + n % 50 * interval '1 ms', 'kind ' || n % 5, jsonb_build_object('n', n % 10), NULL FROM generate_series(1, 600) n;
INSERT INTO shop.stock SELECT n, lpad(n::text, 3), md5(n::text)::uuid FROM generate_series(1, 200) n;
INSERT INTO "Größe & Co"."Straße ""x"".y" SELECT 'Weg ' || n || ' "ß" 😀', E'\\ \n' || n, n, 'c' FROM generate_series(1, 200) n;
INSERT INTO shop.documents SELECT n, 'title ' || n, repeat(md5(n::text), 200), decode(repeat(md5(n::text), 150), 'hex'), 0 FROM generate_series(1, 120) n;
INSERT INTO shop.bulk SELECT n, md5(n::text), n % 7 FROM generate_series(1, 3000) n;
INSERT INTO shop.scratch_a (value) SELECT n FROM generate_series(1, 40) n;
INSERT INTO shop.scratch_b SELECT n % 9 FROM generate_series(1, 40) n;
INSERT INTO shop.regions SELECT (ARRAY['north', 'south', 'Nørd', 'east'])[1 + n % 4], n, n / 3.0, 'r' || n FROM generate_series(1, 240) n;
INSERT INTO shop.readings SELECT n % 30, n % 12 / 5.0, NULL FROM generate_series(1, 300) n;
