-- The queues of subscriptions as the broker may have them: a row is written before the broker is asked, and deleted after
-- its queue.
CREATE TABLE subscription_queues (
    -- of the subscription
    name            TEXT   NOT NULL PRIMARY KEY,
    -- Its id: a queue of another one with this name is of one that was removed.
    subscription    BLOB   NOT NULL,
    -- Every binding that may exist, as JSON: [[provider, pattern], …].
    bindings        TEXT   NOT NULL,
    -- The user of RabbitMQ that may exist.
    broker_user     TEXT,
    -- Goes up whenever a process begins to change the queue: only the last one concludes.
    round           BIGINT NOT NULL,
    -- How many messages were seen in it last.
    messages        BIGINT
);
