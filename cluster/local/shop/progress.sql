-- An order goes one step on.
\set age random(1, 300)
UPDATE shop.orders SET status = CASE status WHEN 'new' THEN 'paid' ELSE 'shipped' END::shop.order_status
WHERE id = (SELECT max(id) FROM shop.orders) - :age AND status IN ('new', 'paid');
