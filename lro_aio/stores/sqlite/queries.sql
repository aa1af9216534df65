-- The statements of the store, each under its name. {columns} is what `rows.decode` takes, {outline} the same without
-- the payloads, {written} what `rows.encode` gives, {entry} the columns of an entry, in their order. Lists of names and
-- rowids come as one JSON text: the statement stays prepared.

-- :name read
SELECT {columns} FROM operations WHERE name IN (SELECT value FROM json_each(?));

-- :name read_one
-- A list would be put into a table of its own first, which costs ten times as much as the seek.
SELECT {columns} FROM operations WHERE name = ?;

-- :name unfinished
-- The index is named: an index on live rows would be scanned from end to end.
SELECT name FROM operations INDEXED BY sqlite_autoindex_operations_1
WHERE name IN (SELECT value FROM json_each(?)) AND outcome = 0 AND deleted = 0;

-- :name due
-- (handler, resume_point, now, skipped owner, limit): from the index alone, for one route.
SELECT check_time, rowid FROM operations INDEXED BY operations_due
WHERE handler = ? AND resume_point = ? AND check_time <= ? AND (owner = '' OR owner <> ?) ORDER BY check_time LIMIT ?;

-- :name due_small
-- (rowids, bytes): those whose payloads are no larger together. Without NOT INDEXED, all rows would be read where the table
-- was analyzed while it was small.
SELECT {columns} FROM operations NOT INDEXED
WHERE rowid IN (SELECT value FROM json_each(?)) AND {payload_bytes} <= ? ORDER BY check_time, rowid;

-- :name due_rows
SELECT {outline} FROM operations NOT INDEXED
WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY check_time, rowid;

-- :name next_check
-- (handler, resume_point, now, skipped owner)
SELECT check_time FROM operations INDEXED BY operations_due
WHERE handler = ? AND resume_point = ? AND check_time > ? AND (owner = '' OR owner <> ?)
ORDER BY check_time LIMIT 1;

-- :name held_by
-- owners: what they hold, from the index alone, all of which it reads.
SELECT rowid FROM operations INDEXED BY operations_due
WHERE check_time IS NOT NULL AND owner IN (SELECT value FROM json_each(?));

-- :name still_held
-- owners, rowids: those of the rows that one of the owners holds still.
SELECT rowid, owner FROM operations
WHERE owner IN (SELECT value FROM json_each(?)) AND rowid IN (SELECT value FROM json_each(?));

-- :name orphans
-- owners, rowids, routes, limit
SELECT {outline} FROM operations
WHERE owner IN (SELECT value FROM json_each(?)) AND rowid IN (SELECT value FROM json_each(?)) AND state = 'RUNNING'
AND (handler, resume_point) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))
ORDER BY check_time, rowid LIMIT ?;

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
-- {row} is {columns} or {outline}.
SELECT {row} FROM operations INDEXED BY {index}
WHERE {conditions} AND deleted = 0 AND (expire_time IS NULL OR expire_time > :now)
ORDER BY create_time DESC, name LIMIT :limit;

-- :name count_few
-- Of rows that an index tells by itself: none is read.
SELECT count(*) FROM (SELECT 1 FROM operations INDEXED BY {index} WHERE {conditions} AND deleted = 0 LIMIT :most);

-- :name write
-- {rows} of values: makes a row, or changes the one that is there. {changes} are the columns that may differ, with those
-- of the end only for rows that may have ended: SQLite rewrites every index that has a column of the SET list. What
-- never changes in the life of a row is not among them. Never changes another row of the same name.
INSERT INTO operations ({written}) VALUES {rows}
ON CONFLICT (name) DO UPDATE SET {changes} WHERE operations.uid = excluded.uid;

-- :name move
-- {rows} of values: changes what a row is in, the last two of them its name and its uid; {changes} as above.
UPDATE operations INDEXED BY sqlite_autoindex_operations_1 SET {changes} FROM (VALUES {rows}) AS new
WHERE operations.name = {name} AND operations.uid = {uid};

-- :name move_one
-- The same for one row, without the tables in memory that the other one makes.
UPDATE operations INDEXED BY sqlite_autoindex_operations_1 SET {changes} WHERE name = ? AND uid = ?;

-- :name remove
DELETE FROM operations WHERE name = ?;

-- :name append
INSERT INTO journal ({entry}) VALUES {rows};

-- :name appended
-- {rows} of (uid, kind, key): those that are there. Not as JSON, whose texts end at a zero byte for SQLite.
WITH wanted (uid, kind, key) AS (VALUES {rows})
SELECT uid, kind, key FROM wanted CROSS JOIN journal USING (uid, kind, key);

-- :name journal
-- names, kinds or NULL for all. By name, for Python 3.12 warns of ?1.
SELECT operations.name, {entry} FROM operations CROSS JOIN journal USING (uid)
WHERE operations.name IN (SELECT value FROM json_each(:names))
AND (:kinds IS NULL OR kind IN (SELECT value FROM json_each(:kinds)));

-- :name purge
DELETE FROM operations WHERE rowid IN (
    SELECT rowid FROM operations INDEXED BY operations_expiry WHERE expire_time <= ? ORDER BY expire_time LIMIT ?
);

-- :name next_handler
-- (state, handler): the next handler that has a row in this state.
SELECT handler FROM operations INDEXED BY operations_states
WHERE deleted = 0 AND state = ? AND handler > ? ORDER BY handler LIMIT 1;

-- :name count
-- (state, handler, most): from the index alone, and no further than that.
SELECT count(*) FROM (
    SELECT 1 FROM operations INDEXED BY operations_states WHERE deleted = 0 AND state = ? AND handler = ? LIMIT ?
);

-- :name count_paused
-- (state, handler, most)
SELECT count(*) FROM (
    SELECT 1 FROM operations INDEXED BY operations_states
    WHERE deleted = 0 AND state = ? AND handler = ? AND paused = 1 LIMIT ?
);

-- :name count_owners
-- (most)
SELECT owner, count(*) FROM (
    SELECT owner FROM operations INDEXED BY operations_states WHERE deleted = 0 AND state = 'RUNNING' LIMIT ?
) GROUP BY owner;

-- :name oldest_due
-- (handler, resume_point, now)
SELECT check_time, name FROM operations INDEXED BY operations_due
WHERE handler = ? AND resume_point = ? AND check_time <= ? ORDER BY check_time LIMIT 1;

-- :name count_due
-- (handler, resume_point, now, most)
SELECT count(*) FROM (
    SELECT 1 FROM operations INDEXED BY operations_due
    WHERE handler = ? AND resume_point = ? AND check_time <= ? LIMIT ?
);

-- :name failures
-- (now, rows to look at): the newest; those that were cancelled are among the rows to look at.
SELECT name, handler, error, coalesce(end_time, update_time) FROM (
    SELECT name, handler, state, error, end_time, update_time FROM operations INDEXED BY operations_unsuccessful
    WHERE outcome = 2 AND deleted = 0 AND (expire_time IS NULL OR expire_time > ?)
    ORDER BY create_time DESC, name LIMIT ?
) WHERE state = 'FAILED';

-- :name queue
SELECT name, bounds, paused, turn, last, number, starts, clock, rests_until FROM queues WHERE name = ?;

-- :name put_queue
-- What a decision changes; what holds of the queue stays as it is: '' where nobody has said it.
INSERT INTO queues (name, bounds, paused, turn, last, number, starts, clock, rests_until, declared)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '[]')
ON CONFLICT (name) DO UPDATE SET turn = excluded.turn, last = excluded.last, number = excluded.number,
starts = excluded.starts, clock = excluded.clock, rests_until = excluded.rests_until;

-- :name terms
SELECT override, declared, paused FROM queues WHERE name = ?;

-- :name put_terms
INSERT INTO queues (name, bounds, override, declared, paused, turn, last, number, starts, clock, rests_until)
VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0)
ON CONFLICT (name) DO UPDATE SET bounds = excluded.bounds, override = excluded.override, declared = excluded.declared,
paused = excluded.paused;

-- :name wake_keys
-- (moment, queue): all keys in which somebody waits are looked at once more.
UPDATE queue_keys SET wakes = ? WHERE queue = ? AND idle IS NULL AND EXISTS (
    SELECT 1 FROM tickets WHERE tickets.queue = queue_keys.queue AND tickets.key = queue_keys.key AND standing < 2
);

-- :name queue_key
SELECT queue, key, turn, starts, rests_until, wakes, idle FROM queue_keys WHERE queue = ? AND key = ?;

-- :name put_key
INSERT OR REPLACE INTO queue_keys (queue, key, turn, starts, rests_until, wakes, idle) VALUES (?, ?, ?, ?, ?, ?, ?);

-- :name tickets
SELECT {ticket} FROM tickets WHERE uid IN (SELECT value FROM json_each(?));

-- :name ticket
SELECT {ticket} FROM tickets WHERE uid = ?;

-- :name step_tickets
-- (uid, uid): those of the steps of an operation, which have it in front of a line break.
SELECT {ticket} FROM tickets WHERE uid > ? || char(10) AND uid < ? || char(11);

-- :name put_ticket
INSERT OR REPLACE INTO tickets ({ticket}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- :name remove_ticket
DELETE FROM tickets WHERE uid = ?;

-- :name move_ticket
UPDATE tickets SET standing = ? WHERE uid = ?;

-- :name held
SELECT count(*) FROM tickets INDEXED BY tickets_held WHERE queue = ? AND standing = 2;

-- :name held_key
SELECT count(*) FROM tickets INDEXED BY tickets_held WHERE queue = ? AND key = ? AND standing = 2;

-- :name any_ready
SELECT 1 FROM tickets INDEXED BY tickets_line WHERE queue = ? AND standing = 1 LIMIT 1;

-- :name starts
-- (queue, key, number, limit)
SELECT number, time FROM queue_starts WHERE queue = ? AND key = ? AND number > ? ORDER BY number LIMIT ?;

-- :name put_start
INSERT OR REPLACE INTO queue_starts (queue, key, number, time) VALUES (?, ?, ?, ?);

-- :name trim_starts
DELETE FROM queue_starts WHERE queue = ? AND key = ? AND number <= ?;

-- :name next_queue
-- (handler, queue): the next queue in which the handler has somebody in line.
SELECT queue FROM tickets INDEXED BY tickets_handlers
WHERE handler = ? AND queue > ? AND standing < 2 ORDER BY queue LIMIT 1;

-- :name next_in_line
-- (queue, handler, limit)
SELECT {ticket} FROM tickets INDEXED BY tickets_line
WHERE queue = ? AND handler = ? AND standing = 1 ORDER BY priority, turn, number LIMIT ?;

-- :name next_of_key
-- (queue, key, standing, limit)
SELECT {ticket} FROM tickets INDEXED BY tickets_keys
WHERE queue = ? AND key = ? AND standing = ? ORDER BY priority, turn, number LIMIT ?;

-- :name ripe_keys
-- (queue, now, limit)
SELECT key FROM queue_keys INDEXED BY queue_keys_wakes WHERE queue = ? AND wakes <= ? ORDER BY wakes LIMIT ?;

-- :name next_wake
-- (queue, now)
SELECT wakes FROM queue_keys INDEXED BY queue_keys_wakes WHERE queue = ? AND wakes > ? ORDER BY wakes LIMIT 1;

-- :name line_rows
SELECT {outline} FROM operations WHERE name IN (SELECT value FROM json_each(?)) AND outcome = 0 AND paused = 0;

-- :name idle_keys
-- (now, limit)
SELECT queue, key FROM queue_keys INDEXED BY queue_keys_idle WHERE idle <= ? LIMIT ?;

-- :name remove_key
DELETE FROM queue_keys WHERE queue = ? AND key = ?;

-- :name stale
-- (now): places that an older release did not give back, and those who are next, or first of a key whose time has come,
-- although it has ended them: it does not know of queues. Who stands further behind is first one day.
SELECT uid, queue, key FROM (
    SELECT uid, queue, key, name FROM tickets INDEXED BY tickets_held WHERE standing = 2
    UNION ALL
    SELECT uid, queue, key, name FROM tickets INDEXED BY tickets_line WHERE standing = 1
    UNION ALL
    SELECT uid, queue, key, name FROM tickets WHERE uid IN (
        SELECT (
            SELECT uid FROM tickets AS t INDEXED BY tickets_keys WHERE t.queue = k.queue AND t.key = k.key AND t.standing = 0
            ORDER BY t.priority, t.turn, t.number LIMIT 1
        ) FROM queues CROSS JOIN queue_keys AS k INDEXED BY queue_keys_wakes ON k.queue = queues.name AND k.wakes <= ?
    )
) AS tickets WHERE NOT EXISTS (
    SELECT 1 FROM operations WHERE operations.name = tickets.name AND outcome = 0
    AND (tickets.uid = operations.uid OR tickets.uid LIKE operations.uid || char(10) || '%')
);

-- :name some_keys
-- (queue, key, limit): keys behind this one, each with whether it seems that nobody decided when its last place came back.
SELECT queue, key, idle IS NULL AND wakes IS NULL AND NOT EXISTS (
    SELECT 1 FROM tickets WHERE tickets.queue = queue_keys.queue AND tickets.key = queue_keys.key AND standing > 0
) FROM queue_keys WHERE (queue, key) > (?, ?) ORDER BY queue, key LIMIT ?;

-- :name leave_key
-- (now, queue, key): places of a key have come back by no decision. Who waits there is looked at once more; a key without
-- tickets is idle, as soon as its rate counts none of its starts.
UPDATE queue_keys SET wakes = CASE WHEN EXISTS (
    SELECT 1 FROM tickets WHERE queue = queue_keys.queue AND key = queue_keys.key AND standing < 2
) THEN 0.0 END, idle = CASE WHEN NOT EXISTS (
    SELECT 1 FROM tickets WHERE queue = queue_keys.queue AND key = queue_keys.key
) THEN (
    SELECT max(queue_keys.rests_until, max(:now, clock) + coalesce(json_extract(nullif(bounds, ''), '$.rate_per_key[1]'), 0))
    FROM queues WHERE name = queue_keys.queue
) END WHERE queue = :queue AND key = :key;

-- :name every_queue
SELECT name, bounds, override, declared, paused, rests_until FROM queues ORDER BY name;

-- :name key_counts
-- (queue, most): from indexes alone, and no further than that.
SELECT key, sum(standing < 2), sum(standing = 2) FROM (
    SELECT * FROM (
        SELECT key, standing FROM tickets INDEXED BY tickets_held WHERE queue = :queue AND standing = 2 LIMIT :most
    )
    UNION ALL
    SELECT * FROM (
        SELECT key, standing FROM tickets INDEXED BY tickets_keys WHERE queue = :queue AND standing < 2 LIMIT :most
    )
) GROUP BY key;

-- :name tickets_of
-- (uid, told): of an operation and its steps, those that wait first.
SELECT {ticket} FROM (
    SELECT * FROM tickets WHERE uid = :uid
    UNION ALL
    SELECT * FROM tickets WHERE uid > :uid || char(10) AND uid < :uid || char(11)
) ORDER BY standing = 2, priority, turn, number LIMIT :told;

-- :name ahead
-- (queue, most, priority, turn, number): of those that wait, how many stand before one, and how many were looked at.
SELECT coalesce(sum((priority, turn, number) < (:priority, :turn, :number)), 0), count(*) FROM (
    SELECT priority, turn, number FROM tickets INDEXED BY tickets_keys WHERE queue = :queue AND standing < 2 LIMIT :most
);

-- :name resting_keys
-- (queue, now, limit)
SELECT key, rests_until FROM queue_keys WHERE queue = ? AND rests_until > ? LIMIT ?;
