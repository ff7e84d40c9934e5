-- Where a device goes on at its next `hello`, whatever it says, until it has acknowledged something beyond: an operator set it back.
ALTER TABLE devices ADD COLUMN replay INTEGER;
-- How often that was done: what was acknowledged before counts no more.
ALTER TABLE devices ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 7;
