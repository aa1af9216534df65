-- One row per operation. The columns are the fields of Record and two that are derived from them: `parent`, the part
-- of the name before /operations/, and `outcome`, by which the partial indexes tell live rows from ended ones:
-- 0 has not ended, 1 SUCCEEDED, 2 FAILED or CANCELLED.
--
-- A table with rowids: names are random, and rows of over a thousand bytes do badly in a clustered b-tree (twice the
-- time of a batch, measured). The payloads come last, so that reading the rest never reads their overflow pages.
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
);

-- What is due, per route: one seek each for the sweep and for the next timer.
CREATE INDEX operations_due ON operations (handler, resume_point, check_time, owner) WHERE check_time IS NOT NULL;

-- The lists. Read backwards, they give create_time descending, name ascending. Written this way round, new rows go to
-- the right edge, where SQLite fills pages. Conditions on integers: an IN over texts costs 8 us a write.
CREATE INDEX operations_newest ON operations (create_time, name DESC);
CREATE INDEX operations_by_parent ON operations (parent, create_time, name DESC);
CREATE INDEX operations_by_handler ON operations (handler, create_time, name DESC);
CREATE INDEX operations_live ON operations (create_time, name DESC) WHERE outcome = 0;
CREATE INDEX operations_unsuccessful ON operations (create_time, name DESC) WHERE outcome = 2;
CREATE INDEX operations_children ON operations (parent_operation, create_time, name DESC)
    WHERE parent_operation <> '';

-- What retention removes.
CREATE INDEX operations_expiry ON operations (expire_time) WHERE expire_time IS NOT NULL;
