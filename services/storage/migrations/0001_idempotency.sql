CREATE TABLE idempotency (
    request_id TEXT NOT NULL PRIMARY KEY,
    method TEXT NOT NULL,
    digest BLOB NOT NULL,
    response TEXT NOT NULL,
    create_time BIGINT NOT NULL
);
