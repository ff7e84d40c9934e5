-- The nodes that share this store, and what each said last.
CREATE TABLE nodes (
    node text PRIMARY KEY,
    beat_at timestamptz NOT NULL,
    report text NOT NULL
);
