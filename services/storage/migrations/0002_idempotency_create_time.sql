CREATE INDEX idempotency_create_time ON idempotency (create_time);
