DROP FUNCTION malote_unhex(text);
ANALYZE claims;
