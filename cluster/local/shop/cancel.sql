-- An order is cancelled and removed; its lines go with it.
\set age random(1, 500)
DELETE FROM shop.orders WHERE id = (SELECT max(id) FROM shop.orders) - :age;
