-- A person. One that has become a part of another keeps its row, so that its golden id leads on.
CREATE TABLE identities (
    golden_id TEXT NOT NULL PRIMARY KEY,
    merged_into TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX identities_by_create_time ON identities (create_time, golden_id);

-- Which person a source record is of. `source` is `<system>/<id>`.
CREATE TABLE records (
    source TEXT NOT NULL PRIMARY KEY,
    golden_id TEXT NOT NULL
);
CREATE INDEX records_by_golden_id ON records (golden_id);

-- Every version of a source record, as the source wrote it.
CREATE TABLE record_versions (
    source TEXT NOT NULL,
    update_time BIGINT NOT NULL,
    given_name TEXT NOT NULL,
    family_name TEXT NOT NULL,
    email TEXT NOT NULL,
    phone TEXT NOT NULL,
    loyalty_card TEXT NOT NULL,
    street TEXT NOT NULL,
    city TEXT NOT NULL,
    postcode TEXT NOT NULL,
    country_code TEXT NOT NULL,
    PRIMARY KEY (source, update_time)
);

-- The keys of each record's newest version.
CREATE TABLE record_keys (
    record_key TEXT NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (record_key, source)
);
CREATE INDEX record_keys_by_source ON record_keys (source);

-- Pairs of records that an operator said are of one person.
CREATE TABLE must_links (
    source TEXT NOT NULL,
    other TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (source, other)
);
