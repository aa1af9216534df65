-- Queues. A ticket is an operation that waits for a place (standing 0: behind others of its key, 1: in line) or holds one
-- (2). The places that are taken are counted, never kept as a number. A process of an older release leaves `seat` as it is:
-- the trigger puts away the tickets of what it removes, and `Store.purge` those of what it ended. A row without a queue
-- costs the trigger one comparison.
ALTER TABLE operations ADD COLUMN seat TEXT;

CREATE TABLE queues (
    name TEXT NOT NULL PRIMARY KEY,
    bounds TEXT NOT NULL,
    override TEXT,
    declared TEXT NOT NULL,
    paused INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    last INTEGER NOT NULL,
    number INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    clock REAL NOT NULL,
    rests_until REAL NOT NULL
);

CREATE TABLE queue_keys (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    turn INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    rests_until REAL NOT NULL,
    wakes REAL,
    idle REAL,
    PRIMARY KEY (queue, key)
);

-- Keys of which more may go when their time comes, and keys that nothing is to be remembered of.
CREATE INDEX queue_keys_wakes ON queue_keys (queue, wakes) WHERE wakes IS NOT NULL;
CREATE INDEX queue_keys_idle ON queue_keys (idle) WHERE idle IS NOT NULL;

CREATE TABLE tickets (
    uid TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    handler TEXT NOT NULL,
    priority INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    number INTEGER NOT NULL,
    standing INTEGER NOT NULL,
    since REAL NOT NULL
);

-- Who is next, for those who run a handler; and in which queues it has anybody.
CREATE INDEX tickets_line ON tickets (queue, handler, priority, turn, number) WHERE standing = 1;
CREATE INDEX tickets_handlers ON tickets (handler, queue) WHERE standing < 2;

-- Who is next of a key.
CREATE INDEX tickets_keys ON tickets (queue, key, standing, priority, turn, number);

-- What is taken.
CREATE INDEX tickets_held ON tickets (queue, key) WHERE standing = 2;

-- The last starts that a rate counts, numbered from 1; key '' counts for the queue.
CREATE TABLE queue_starts (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (queue, key, number)
);

CREATE TRIGGER operations_tickets AFTER DELETE ON operations WHEN OLD.seat IS NOT NULL
BEGIN
    DELETE FROM tickets WHERE uid = OLD.uid OR (uid > OLD.uid || char(10) AND uid < OLD.uid || char(11));
END;
