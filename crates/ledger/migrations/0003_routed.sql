-- Events that none of our consumers takes: found without going through all the others.
CREATE INDEX event_routed ON event (id) WHERE consumers = '';
