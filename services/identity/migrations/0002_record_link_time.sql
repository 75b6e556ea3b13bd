-- When the record became its person's.
ALTER TABLE records ADD COLUMN link_time BIGINT NOT NULL DEFAULT 0;
