-- The journal: one row per entry. `number` is its place among those of its operation, which count in operations.entries.
-- It is keyed by the uid: a name may come again, and SQLite may renumber rowids.
--
-- A process of an older release goes on with this file while it has it open: it leaves the new columns as they are, and
-- the trigger removes the entries of what it removes. A row without entries costs the trigger one comparison.
ALTER TABLE operations ADD COLUMN entries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN trail TEXT NOT NULL DEFAULT '';

CREATE TABLE journal (
    uid TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    time REAL NOT NULL,
    codec TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (uid, kind, key)
);

CREATE TRIGGER operations_journal AFTER DELETE ON operations WHEN OLD.entries > 0
BEGIN
    DELETE FROM journal WHERE uid = OLD.uid;
END;
