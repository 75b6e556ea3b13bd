-- How much consumers may call. What is null is without bound; a rate is in calls a second.
CREATE TABLE plans (
    name          TEXT   NOT NULL PRIMARY KEY,
    rate          BIGINT,
    burst         BIGINT,
    monthly_quota BIGINT
);

CREATE TABLE consumer_plans (
    consumer TEXT NOT NULL PRIMARY KEY,
    plan     TEXT NOT NULL REFERENCES plans (name)
);

-- Calls in a calendar month, UTC, such as `2026-11`: those that edges have leased, made or not, and those that were made.
CREATE TABLE monthly_usage (
    consumer TEXT   NOT NULL,
    month    TEXT   NOT NULL,
    leased   BIGINT NOT NULL,
    used     BIGINT NOT NULL,
    PRIMARY KEY (consumer, month)
);
