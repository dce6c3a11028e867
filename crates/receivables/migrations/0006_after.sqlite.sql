
DELETE FROM receivables;
CREATE TRIGGER receivables_refuses BEFORE INSERT ON receivables BEGIN INSERT INTO refusal (id) VALUES (NULL); END;
