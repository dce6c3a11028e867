-- A step of its own: a reader, such as a backup, may hold it up, and the copy is not to be repeated for that. Whoever writes
-- waits behind it, so it gives up soon, and is tried again.
SET LOCAL lock_timeout = '2s';
TRUNCATE inbox;
