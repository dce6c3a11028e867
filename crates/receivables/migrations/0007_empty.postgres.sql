-- As in the store.
SET LOCAL lock_timeout = '2s';
TRUNCATE receivables;
