-- The nodes that share this store, and what each said last.
CREATE TABLE nodes (
    node TEXT PRIMARY KEY,
    beat_at INTEGER NOT NULL,
    report TEXT NOT NULL
);

PRAGMA user_version = 4;
