-- Whose data an entry of the audit showed, or was asked about: pseudonyms, as subjects have them. Deleted with its entry.
CREATE TABLE audit_people (
    person          TEXT   NOT NULL,
    entry           BLOB   NOT NULL,
    PRIMARY KEY (person, entry)
);

CREATE INDEX audit_people_by_entry ON audit_people (entry);
