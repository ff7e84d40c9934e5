-- How far each partition of a shared log was worked on.
CREATE TABLE derived_cursors (
    partition bigint PRIMARY KEY,
    upto bigint NOT NULL
);
