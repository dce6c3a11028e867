-- Who is logged in by a provider of OpenID Connect has no token: the session itself says who it is.
ALTER TABLE console_sessions ADD COLUMN user_name TEXT;
ALTER TABLE console_sessions ADD COLUMN user_role TEXT;
