-- Until when retention leaves an event alone: a job has sent it again, and its message is under way.
ALTER TABLE event ADD COLUMN held_until BIGINT;
