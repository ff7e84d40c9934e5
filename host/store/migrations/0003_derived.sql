-- How far each partition of a shared log was worked on.
CREATE TABLE derived_cursors (
    partition INTEGER PRIMARY KEY,
    upto INTEGER NOT NULL
);

PRAGMA user_version = 3;
