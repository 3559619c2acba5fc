-- A customer orders two things: three inserts and two updates in one transaction.
\set customer random(1, 2000)
\set product random(1, 499)
BEGIN;
INSERT INTO shop.orders (customer_id) VALUES (:customer) RETURNING id AS order_id \gset
INSERT INTO shop.order_lines
SELECT :order_id, line, :product + line - 1, line, price
FROM generate_series(1, 2) line JOIN shop.products p ON p.id = :product + line - 1;
UPDATE shop.products SET stock = stock - 1 WHERE id IN (:product, :product + 1);
COMMIT;
