-- In a step of its own: readers of the table do not wait while it is built.
SET LOCAL lock_timeout = '2s';
CREATE INDEX events_written ON events (written_in, id);
