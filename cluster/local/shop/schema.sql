-- A small shop. It belongs to the role that the task connects with, which may then publish its tables.
CREATE SCHEMA shop;
SET search_path = shop;

CREATE TYPE order_status AS ENUM ('new', 'paid', 'shipped', 'cancelled');

CREATE TABLE customers (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    email      text NOT NULL,
    address    jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE products (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL,
    tags  text[] NOT NULL,
    price numeric(10, 2) NOT NULL,
    stock integer NOT NULL
);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    status      order_status NOT NULL DEFAULT 'new',
    placed_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE order_lines (
    order_id   bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
    line       integer NOT NULL,
    product_id bigint NOT NULL REFERENCES products,
    quantity   integer NOT NULL,
    price      numeric(10, 2) NOT NULL,
    PRIMARY KEY (order_id, line)
);

-- Emptied now and then: a TRUNCATE is an event too.
CREATE TABLE carts (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    product_id  bigint NOT NULL
);

INSERT INTO customers (name, email, address)
SELECT 'Customer ' || n, 'customer' || n || '@example.org',
       jsonb_build_object('city', (ARRAY['Köln', 'Łódź', 'Oslo', '京都'])[1 + n % 4], 'zip', lpad(n::text, 5, '0'))
FROM generate_series(1, 2000) n;

INSERT INTO products (title, tags, price, stock)
SELECT 'Product ' || n, ARRAY['tag' || n % 7, 'tag' || n % 11], 1 + n * 0.37, 1000
FROM generate_series(1, 500) n;

INSERT INTO orders (customer_id, status)
SELECT 1 + n % 2000, (ARRAY['new', 'paid', 'shipped']::order_status[])[1 + n % 3]
FROM generate_series(1, 3000) n;

INSERT INTO order_lines (order_id, line, product_id, quantity, price)
SELECT o, l, 1 + (o * 7 + l) % 500, 1 + l, 9.99
FROM generate_series(1, 3000) o, generate_series(1, 2) l;
