-- As in the store: the earlier table refuses what a process of the previous release writes, from before the copy on.
SET LOCAL lock_timeout = '2s';
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON receivables FOR EACH STATEMENT EXECUTE FUNCTION malote_refuse();
