-- Run once, by the image of PostgreSQL, when its volume is empty.
CREATE ROLE distributary LOGIN REPLICATION PASSWORD 'distributary';
CREATE DATABASE shop OWNER distributary;
\connect shop
SET ROLE distributary;
\include /shop/schema.sql
RESET ROLE;
ANALYZE;
