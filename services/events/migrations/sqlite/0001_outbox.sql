CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tx BIGINT NOT NULL DEFAULT 0,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    event_time BIGINT NOT NULL,
    record_time BIGINT NOT NULL,
    schema_version BIGINT NOT NULL,
    traceparent TEXT NOT NULL,
    payload BLOB NOT NULL
);

CREATE TABLE cursors (
    consumer TEXT NOT NULL PRIMARY KEY,
    tx BIGINT NOT NULL,
    seq BIGINT NOT NULL
);
