-- A customer fills a cart.
\set customer random(1, 2000)
\set product random(1, 500)
INSERT INTO shop.carts (customer_id, product_id) VALUES (:customer, :product);
