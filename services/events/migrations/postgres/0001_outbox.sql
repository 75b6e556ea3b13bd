CREATE TABLE outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    tx BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    event_time BIGINT NOT NULL,
    record_time BIGINT NOT NULL,
    schema_version BIGINT NOT NULL,
    traceparent TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (tx, seq)
);

CREATE TABLE cursors (
    consumer TEXT NOT NULL PRIMARY KEY,
    tx BIGINT NOT NULL,
    seq BIGINT NOT NULL
);
