CREATE TABLE sources (
    system TEXT NOT NULL PRIMARY KEY,
    -- Digest of the counts that were published last.
    counts TEXT NOT NULL,
    update_time BIGINT NOT NULL
);

-- A file or a table: how far it was read, and what came of its records.
CREATE TABLE objects (
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    object TEXT NOT NULL,
    -- Of a file, as it was when it was last read.
    size BIGINT NOT NULL,
    mtime BIGINT NOT NULL,
    -- Everything before `position` is landed, and its digest was `digest`.
    position TEXT NOT NULL,
    digest TEXT NOT NULL,
    complete BIGINT NOT NULL,
    landed_count BIGINT NOT NULL,
    applied_count BIGINT NOT NULL,
    quarantined_count BIGINT NOT NULL,
    -- First position of the last batch that is applied.
    applied_to BIGINT NOT NULL,
    -- How often it became another, or the replay of a record of it began: what was read later is newer.
    revision BIGINT NOT NULL,
    -- Cursor of our own log before the first batch.
    landed_after TEXT NOT NULL,
    PRIMARY KEY (system, entity, object)
);

CREATE TABLE quarantine (
    id TEXT NOT NULL PRIMARY KEY,
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    object TEXT NOT NULL,
    position TEXT NOT NULL,
    payload TEXT NOT NULL,
    reason TEXT NOT NULL,
    create_time BIGINT NOT NULL
);

-- What was taken in place of records that were quarantined.
CREATE TABLE replayed (
    id TEXT NOT NULL PRIMARY KEY,
    system TEXT NOT NULL,
    entity TEXT NOT NULL,
    object TEXT NOT NULL,
    position TEXT NOT NULL,
    payload TEXT NOT NULL
);

CREATE INDEX replayed_object ON replayed (system, entity, object);
CREATE INDEX quarantine_object ON quarantine (system, entity, object);
CREATE INDEX quarantine_create_time ON quarantine (create_time, id);
