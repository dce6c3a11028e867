-- What the sender of an event was answered: the status, the client's address and the sender's own id, with a space between.
-- NULL where nobody posted it, or an earlier version recorded it. Rejected bodies have it among their headers.
ALTER TABLE events ADD COLUMN answer TEXT;
