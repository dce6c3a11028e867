-- The last attempt that failed at a message that was retried before, and the copy of the message that goes on from it.
CREATE TABLE retry (
    message_id TEXT NOT NULL,
    consumer TEXT NOT NULL,
    job TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    copy TEXT NOT NULL,
    PRIMARY KEY (message_id, consumer, job)
);
