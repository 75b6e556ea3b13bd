CREATE TABLE stocks (
    location_id TEXT NOT NULL,
    sku TEXT NOT NULL,
    tracked BIGINT NOT NULL,
    on_hand BIGINT NOT NULL,
    last_count_time BIGINT,
    ledger_sequence BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (location_id, sku)
);

-- Lists hold tracked stocks only, which can be few among all that was ever sold.
CREATE INDEX stocks_tracked ON stocks (location_id, sku) WHERE tracked = 1;

CREATE TABLE ledger (
    location_id TEXT NOT NULL,
    sku TEXT NOT NULL,
    ledger_sequence BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    quantity BIGINT NOT NULL,
    event_time BIGINT NOT NULL,
    record_time BIGINT NOT NULL,
    source_system TEXT NOT NULL,
    source_id TEXT NOT NULL
);

CREATE UNIQUE INDEX ledger_position ON ledger (location_id, sku, ledger_sequence);
CREATE INDEX ledger_source ON ledger (source_id, source_system);
