-- In a step of its own: readers of the table do not wait while it is built.
SET LOCAL lock_timeout = '2s';
CREATE INDEX events_caused_by ON events (caused_by, id) WHERE caused_by IS NOT NULL;
