-- What waits to be fetched, documents and files apart: looking for the next of one kind passes by no row of the other, however
-- many wait, and what is fetched takes no place.
CREATE INDEX documents_waiting ON documents (source, due_at, id) WHERE due_at IS NOT NULL AND entity <> 'file';
CREATE INDEX documents_waiting_files ON documents (source, due_at, id) WHERE due_at IS NOT NULL AND entity = 'file';
DROP INDEX documents_due;
