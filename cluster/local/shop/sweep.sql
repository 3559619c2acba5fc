-- Carts are forgotten.
TRUNCATE shop.carts;
