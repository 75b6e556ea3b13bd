-- Orders as lists filter and sort them; empty text where nothing is known. What was bought is folded from the sources.
CREATE TABLE orders (
    order_uid TEXT NOT NULL PRIMARY KEY,
    golden_id TEXT NOT NULL,
    location_id TEXT NOT NULL,
    order_time BIGINT NOT NULL,
    merged_into TEXT NOT NULL,
    revision BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
CREATE INDEX orders_by_time ON orders (order_time, order_uid);
CREATE INDEX orders_by_golden_id ON orders (golden_id, order_time, order_uid);
CREATE INDEX orders_by_location ON orders (location_id, order_time, order_uid);

-- Records of source systems, as JSON, and the order that each belongs to.
CREATE TABLE source_orders (
    system TEXT NOT NULL,
    id TEXT NOT NULL,
    order_uid TEXT NOT NULL,
    match_rule BIGINT NOT NULL,
    customer_system TEXT,
    customer_id TEXT,
    record TEXT NOT NULL,
    PRIMARY KEY (system, id)
);
CREATE INDEX source_orders_by_order ON source_orders (order_uid);
CREATE INDEX source_orders_by_customer ON source_orders (customer_system, customer_id);

-- Digests of what records may share with others of the same order. Equal digests only suggest a match.
CREATE TABLE order_keys (
    digest BIGINT NOT NULL,
    system TEXT NOT NULL,
    id TEXT NOT NULL
);
CREATE INDEX order_keys_by_digest ON order_keys (digest);

-- Operators' words on pairs of records, each pair in both directions: one order (1), or never (0).
CREATE TABLE verdicts (
    system TEXT NOT NULL,
    id TEXT NOT NULL,
    other_system TEXT NOT NULL,
    other_id TEXT NOT NULL,
    together BIGINT NOT NULL,
    PRIMARY KEY (system, id, other_system, other_id)
);

-- Persons behind customers' records and loyalty cards, as the identity service resolved them.
CREATE TABLE customer_links (
    system TEXT NOT NULL,
    id TEXT NOT NULL,
    golden_id TEXT NOT NULL,
    PRIMARY KEY (system, id)
);
CREATE INDEX customer_links_by_golden_id ON customer_links (golden_id);
