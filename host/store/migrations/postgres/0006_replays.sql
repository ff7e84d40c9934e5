-- Where a device goes on at its next `hello`, whatever it says, until it has acknowledged something beyond: an operator set it back.
ALTER TABLE devices ADD COLUMN replay bigint;
-- How often that was done: what was acknowledged before counts no more.
ALTER TABLE devices ADD COLUMN turn bigint NOT NULL DEFAULT 0;
