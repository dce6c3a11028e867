-- When the next probe of an endpoint that fails is due. `held_until` is the pause that the endpoint asked for, which resuming keeps.
ALTER TABLE subscriptions ADD COLUMN probe_at BIGINT;
