-- What a consumer says about an event that it handled: the optional fields that it could not read.
ALTER TABLE inbox ADD COLUMN note TEXT;
