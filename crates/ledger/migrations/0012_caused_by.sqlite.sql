-- Of a domain event, the event whose effect it announces.
ALTER TABLE events ADD COLUMN caused_by BLOB;
CREATE INDEX events_caused_by ON events (caused_by, id) WHERE caused_by IS NOT NULL;
