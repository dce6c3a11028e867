-- As in the store.
SET LOCAL lock_timeout = '2s';
TRUNCATE event, unsettled, unrouted, rejected, dead_letter, job;
