-- A customer. One that has become a part of another keeps its row, so that its golden id leads on.
-- `family_name`, `email` and `phone` repeat the profile's, for filters and order.
CREATE TABLE customers (
    golden_id TEXT NOT NULL PRIMARY KEY,
    merged_into TEXT NOT NULL,
    family_name TEXT NOT NULL,
    email TEXT NOT NULL,
    phone TEXT NOT NULL,
    profile TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    identity_version BIGINT NOT NULL
);
CREATE INDEX customers_by_family_name ON customers (family_name, golden_id);
CREATE INDEX customers_by_email ON customers (email);
CREATE INDEX customers_by_phone ON customers (phone);

-- What profiles are made of: the versions of the person's source records, as a version of the identity has them, and
-- operators' corrections; and since when each period of the profile is recorded as it is now. JSON, because all is read
-- and written as a whole.
CREATE TABLE evidence (
    golden_id TEXT NOT NULL PRIMARY KEY,
    identity_version BIGINT NOT NULL,
    records TEXT NOT NULL,
    corrections TEXT NOT NULL,
    recorded TEXT NOT NULL
);
