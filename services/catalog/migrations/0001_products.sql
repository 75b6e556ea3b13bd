-- Empty text where nothing is known.
CREATE TABLE products (
    sku TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL,
    manufacturer_id TEXT NOT NULL,
    brand TEXT NOT NULL,
    category TEXT NOT NULL,
    package_size TEXT NOT NULL,
    -- Of what the source said last, which corrections do not change.
    source_digest TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);
CREATE INDEX products_by_category ON products (category, sku);
CREATE INDEX products_by_manufacturer ON products (manufacturer_id, sku);

-- At the top of the tree the parent is empty.
CREATE TABLE categories (
    id TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL,
    parent TEXT NOT NULL
);
CREATE INDEX categories_by_parent ON categories (parent, id);
