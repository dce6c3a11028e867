-- For retention: the versions in the order in which they were fetched.
CREATE INDEX document_versions_fetched ON document_versions (fetched_at);
