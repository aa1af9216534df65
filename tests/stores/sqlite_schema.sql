-- What all migrations together must give. Change it with every new migration; a test compares the two.
CREATE TABLE operations (
    name TEXT NOT NULL PRIMARY KEY,
    parent TEXT NOT NULL,
    uid TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome INTEGER NOT NULL CHECK (outcome IN (0, 1, 2)),
    deleted INTEGER NOT NULL,
    create_time REAL NOT NULL,
    update_time REAL NOT NULL,
    end_time REAL,
    expire_time REAL,
    handler TEXT NOT NULL,
    resume_point TEXT NOT NULL,
    parent_operation TEXT NOT NULL,
    owner TEXT NOT NULL,
    lease_expire_time REAL,
    claim INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    check_time REAL,
    handover INTEGER NOT NULL,
    schedule_handle TEXT NOT NULL,
    cleaning INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    cancel_children INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    revision INTEGER NOT NULL,
    state_codec TEXT NOT NULL,
    wait TEXT,
    wake TEXT,
    metadata BLOB NOT NULL,
    error BLOB NOT NULL,
    state_data BLOB NOT NULL,
    response BLOB NOT NULL
, entries INTEGER NOT NULL DEFAULT 0, trail TEXT NOT NULL DEFAULT '', paused INTEGER NOT NULL DEFAULT 0, failure BLOB NOT NULL DEFAULT x'', deadline REAL, initial_data BLOB NOT NULL DEFAULT x'', initial_codec TEXT NOT NULL DEFAULT '', seat TEXT);

CREATE INDEX operations_due ON operations (handler, resume_point, check_time, owner) WHERE check_time IS NOT NULL;

CREATE INDEX operations_newest ON operations (create_time, name DESC);
CREATE INDEX operations_by_parent ON operations (parent, create_time, name DESC);
CREATE INDEX operations_by_handler ON operations (handler, create_time, name DESC);
CREATE INDEX operations_live ON operations (create_time, name DESC) WHERE outcome = 0;
CREATE INDEX operations_unsuccessful ON operations (create_time, name DESC) WHERE outcome = 2;
CREATE INDEX operations_children ON operations (parent_operation, create_time, name DESC)
    WHERE parent_operation <> '';

CREATE INDEX operations_expiry ON operations (expire_time) WHERE expire_time IS NOT NULL;

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
CREATE INDEX operations_states ON operations (state, handler, paused, deleted) WHERE deleted = 0;
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

CREATE INDEX tickets_line ON tickets (queue, handler, priority, turn, number) WHERE standing = 1;
CREATE INDEX tickets_handlers ON tickets (handler, queue) WHERE standing < 2;

CREATE INDEX tickets_keys ON tickets (queue, key, standing, priority, turn, number);

CREATE INDEX tickets_held ON tickets (queue, key) WHERE standing = 2;

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
