-- The statements of the store, each under its name. {columns} is what `rows.decode` takes, in its order; the values
-- of the writes come from `rows` too. Lists of names and rowids come as one JSON text: the statement stays prepared.

-- :name read
SELECT {columns} FROM operations WHERE name IN (SELECT value FROM json_each(?));

-- :name unfinished
-- The index is named: an index on live rows would be scanned from end to end.
SELECT name FROM operations INDEXED BY sqlite_autoindex_operations_1
WHERE name IN (SELECT value FROM json_each(?)) AND outcome = 0 AND deleted = 0;

-- :name due
-- (handler, resume_point, now, skipped owner, limit): from the index alone, for one route.
SELECT check_time, rowid FROM operations INDEXED BY operations_due
WHERE handler = ? AND resume_point = ? AND check_time <= ? AND (owner = '' OR owner <> ?) ORDER BY check_time LIMIT ?;

-- :name due_rows
SELECT {columns} FROM operations WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY check_time, rowid;

-- :name next_check
-- (handler, resume_point, now, skipped owner)
SELECT check_time FROM operations INDEXED BY operations_due
WHERE handler = ? AND resume_point = ? AND check_time > ? AND (owner = '' OR owner <> ?)
ORDER BY check_time LIMIT 1;

-- :name next_route
-- (handler, resume_point, handler)
-- One step of a loose scan: the next distinct route after a given one, by at most two seeks. A comparison of row
-- values would be one seek, but SQLite walks through all rows of the given route to get past it.
SELECT * FROM (
    SELECT handler, resume_point FROM operations INDEXED BY operations_due
    WHERE check_time IS NOT NULL AND handler = ? AND resume_point > ? ORDER BY resume_point LIMIT 1
)
UNION ALL
SELECT * FROM (
    SELECT handler, resume_point FROM operations INDEXED BY operations_due
    WHERE check_time IS NOT NULL AND handler > ? ORDER BY handler, resume_point LIMIT 1
)
LIMIT 1;

-- :name list
SELECT {columns} FROM operations INDEXED BY {index}
WHERE {conditions} AND deleted = 0 AND (expire_time IS NULL OR expire_time > :now)
ORDER BY create_time DESC, name LIMIT :limit;

-- :name write
-- {rows} of values: creates a row, or changes the existing one. Leaves out what never changes in the life of a row:
-- SQLite rewrites every index that has a column of the SET list. Never changes another row of the same name.
-- {ended} is the next part for rows that may have ended, and nothing for those that have not.
INSERT INTO operations (
    name, parent, uid, state, outcome, deleted, create_time, update_time, end_time, expire_time, handler, resume_point,
    parent_operation, owner, lease_expire_time, claim, attempt, retries, check_time, handover, schedule_handle,
    cleaning, cancel_requested, cancel_children, fingerprint, traceparent, revision, state_codec, wait, wake, metadata,
    error, state_data, response
) VALUES {rows}
ON CONFLICT (name) DO UPDATE SET
    {ended}
    state = excluded.state, deleted = excluded.deleted, update_time = excluded.update_time,
    resume_point = excluded.resume_point, owner = excluded.owner, lease_expire_time = excluded.lease_expire_time,
    claim = excluded.claim, attempt = excluded.attempt, retries = excluded.retries, check_time = excluded.check_time,
    handover = excluded.handover, schedule_handle = excluded.schedule_handle, cleaning = excluded.cleaning,
    cancel_requested = excluded.cancel_requested, cancel_children = excluded.cancel_children,
    revision = excluded.revision, state_codec = excluded.state_codec, wait = excluded.wait, wake = excluded.wake,
    metadata = excluded.metadata, error = excluded.error, state_data = excluded.state_data,
    response = excluded.response
WHERE operations.uid = excluded.uid;

-- :name ended
outcome = excluded.outcome, end_time = excluded.end_time, expire_time = excluded.expire_time,

-- :name remove
DELETE FROM operations WHERE name = ?;

-- :name purge
DELETE FROM operations WHERE rowid IN (
    SELECT rowid FROM operations INDEXED BY operations_expiry WHERE expire_time <= ? ORDER BY expire_time LIMIT ?
);
