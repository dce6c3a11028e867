-- Of two snapshots of an agreement with the same webhook id, the one received later is newer: microseconds since 1970 UTC
-- and the event's id. Of rows from before it is empty, which is older than every receipt. The instalments' is `state_event`.
ALTER TABLE agreements ADD COLUMN webhook_receipt TEXT NOT NULL DEFAULT '';
