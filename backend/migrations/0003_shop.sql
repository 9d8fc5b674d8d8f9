-- What there is to buy and where it lies, what people mean to buy, and what they have bought and paid. Money is in the
-- hundredth part of the currency.

create table warehouses (
    id text primary key,
    name text not null
);

create table products (
    id text primary key,
    name text not null,
    description text not null,
    price_minor bigint not null check (price_minor > 0),
    created_ms bigint not null
);

-- How many pieces lie where. It never falls below zero, whatever a statement says.
create table stock (
    product_id text not null references products (id),
    warehouse_id text not null references warehouses (id),
    on_hand bigint not null check (on_hand >= 0),
    primary key (product_id, warehouse_id)
);

create table cart_lines (
    user_id text not null references users (id) on delete cascade,
    product_id text not null references products (id),
    quantity bigint not null check (quantity > 0),
    primary key (user_id, product_id)
);

create table orders (
    id text primary key,
    user_id text not null references users (id),
    total_minor bigint not null,
    created_ms bigint not null
);
create index orders_by_user on orders (user_id, id);

-- With the name and price of that day.
create table order_lines (
    order_id text not null references orders (id),
    product_id text not null references products (id),
    warehouse_id text not null references warehouses (id),
    name text not null,
    price_minor bigint not null,
    quantity bigint not null check (quantity > 0),
    primary key (order_id, product_id, warehouse_id)
);

-- Every order has one, made in the same transaction.
create table payments (
    order_id text primary key references orders (id),
    provider text not null,
    reference text not null,
    amount_minor bigint not null,
    paid_ms bigint not null
);

-- Which requests for an order have come, so that each is carried out once.
create table order_keys (
    user_id text not null references users (id) on delete cascade,
    name text not null,
    -- Of the request that it stands for.
    digest text not null,
    -- Whoever carries it out, and since when.
    claim text not null,
    claimed_ms bigint not null,
    -- What was answered, about which order, and what that took out of the edge's cache; null while it is under way.
    answer text,
    order_id text,
    invalidated text,
    primary key (user_id, name)
);
create index order_keys_by_claim on order_keys (claimed_ms);
