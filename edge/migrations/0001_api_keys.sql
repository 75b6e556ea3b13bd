-- The keys by which consumers are known. A secret is never stored, only its SHA-256.
-- `permissions` is a comma-separated list of patterns; times are microseconds since 1970, UTC.
CREATE TABLE api_keys (
    id            TEXT   NOT NULL PRIMARY KEY,
    secret_sha256 BLOB   NOT NULL,
    consumer      TEXT   NOT NULL,
    permissions   TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT
);
