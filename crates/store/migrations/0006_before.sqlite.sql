-- A process of the release before this one must not work on this file any more. Its tables stay, empty, and refuse every
-- write as a full disk does, which such a process takes for a database that is down: no greater row can follow this one.
CREATE TABLE refusal (
    id INTEGER PRIMARY KEY AUTOINCREMENT
);
INSERT INTO refusal (id) VALUES (9223372036854775807);

