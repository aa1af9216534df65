-- The statements of the store, each under its name. {table} and {journal} are the tables, {columns} is what
-- `rows.decode` takes, {outline} the same without the payloads, {entry} the columns of an entry, in their order. Names
-- come as one array: the statement stays prepared.

-- :name read
SELECT {columns} FROM {table} WHERE name = ANY(%(names)b::text[]);

-- :name lock
-- In the order of the names, as everybody locks: no two transactions wait for each other.
SELECT {columns} FROM {table} WHERE name = ANY(%(names)b::text[]) ORDER BY name FOR UPDATE;

-- :name appended
-- Of the entries that a batch appends: those that are there. Behind the lock, whose rows nobody else appends to.
SELECT journal.uid, journal.kind, journal.key
FROM unnest(%(names)b::text[], %(kinds)b::text[], %(keys)b::bytea[]) AS wanted (name, kind, key)
JOIN {table} AS operation ON operation.name = wanted.name
JOIN {journal} AS journal
ON journal.uid = operation.uid AND journal.kind = wanted.kind AND journal.key = wanted.key;

-- :name unfinished
SELECT name FROM {table} WHERE name = ANY(%(names)b::text[]) AND outcome = 0 AND NOT deleted;

-- :name routes
-- The routes that were asked for. One of all resume points is one for each that its rows have, found by a loose scan:
-- one seek for each.
WITH RECURSIVE given (handler, resume_point) AS (
    SELECT DISTINCT * FROM unnest(%(handlers)b::text[], %(points)b::text[])
), step (handler, resume_point) AS (
    SELECT given.handler, (
        SELECT o.resume_point FROM {table} AS o
        WHERE o.handler = given.handler AND o.check_time IS NOT NULL ORDER BY o.resume_point LIMIT 1
    ) FROM given WHERE given.resume_point IS NULL
    UNION ALL
    SELECT step.handler, (
        SELECT o.resume_point FROM {table} AS o
        WHERE o.handler = step.handler AND o.check_time IS NOT NULL AND o.resume_point > step.resume_point
        ORDER BY o.resume_point LIMIT 1
    ) FROM step WHERE step.resume_point IS NOT NULL
), route (handler, resume_point) AS (
    SELECT handler, resume_point FROM given WHERE resume_point IS NOT NULL
    UNION
    SELECT handler, resume_point FROM step WHERE resume_point IS NOT NULL
)

-- :name due
-- Behind the routes: from the index alone, for each route, then the rows.
SELECT {outline} FROM (
    SELECT soon.name FROM route CROSS JOIN LATERAL (
        SELECT o.name, o.check_time FROM {table} AS o
        WHERE o.handler = route.handler AND o.resume_point = route.resume_point AND o.check_time <= %(now)b
        AND (o.owner = '' OR o.owner <> %(skipped)b)
        ORDER BY o.check_time LIMIT %(limit)b
    ) AS soon ORDER BY soon.check_time LIMIT %(limit)b
) AS soonest JOIN {table} USING (name) ORDER BY check_time, name;

-- :name next_check
-- Behind the routes.
SELECT min(coming.check_time) FROM route CROSS JOIN LATERAL (
    SELECT o.check_time FROM {table} AS o
    WHERE o.handler = route.handler AND o.resume_point = route.resume_point AND o.check_time > %(now)b
    AND (o.owner = '' OR o.owner <> %(owner)b)
    ORDER BY o.check_time LIMIT 1
) AS coming;

-- :name steps
-- The routes that any row has: one seek for each, regardless of its rows.
WITH RECURSIVE step (handler, resume_point) AS (
    (SELECT handler, resume_point FROM {table} WHERE check_time IS NOT NULL ORDER BY handler, resume_point LIMIT 1)
    UNION ALL
    SELECT following.handler, following.resume_point FROM step CROSS JOIN LATERAL (
        SELECT o.handler, o.resume_point FROM {table} AS o
        WHERE o.check_time IS NOT NULL AND (o.handler, o.resume_point) > (step.handler, step.resume_point)
        ORDER BY o.handler, o.resume_point LIMIT 1
    ) AS following
)

-- :name unknown
-- Behind the steps: one that was not asked for and has a row due at `overdue`.
SELECT step.handler, step.resume_point FROM step
WHERE NOT EXISTS (
    SELECT FROM unnest(%(handlers)b::text[], %(points)b::text[]) AS given (handler, resume_point)
    WHERE given.handler = step.handler AND (given.resume_point IS NULL OR given.resume_point = step.resume_point)
) AND EXISTS (
    SELECT FROM {table} AS o
    WHERE o.handler = step.handler AND o.resume_point = step.resume_point AND o.check_time <= %(overdue)b
    AND (o.owner = '' OR o.owner <> %(owner)b)
) LIMIT 1;

-- :name count_states
-- The states and handlers that any row has, by one seek for each, and of each no more than `most` rows. The order is
-- that of the index: it keeps the planner from reading all rows of a handler.
WITH RECURSIVE cell (state, handler) AS (
    (SELECT state, handler FROM {table} WHERE NOT deleted AND uid >= '' ORDER BY state, handler LIMIT 1)
    UNION ALL
    SELECT following.state, following.handler FROM cell CROSS JOIN LATERAL (
        SELECT o.state, o.handler FROM {table} AS o
        WHERE NOT o.deleted AND o.uid >= '' AND (o.state, o.handler) > (cell.state, cell.handler)
        ORDER BY o.state, o.handler LIMIT 1
    ) AS following
)
SELECT cell.state, cell.handler, (
    SELECT count(*) FROM (
        SELECT FROM {table} AS o
        WHERE NOT o.deleted AND o.uid >= '' AND o.state = cell.state AND o.handler = cell.handler
        ORDER BY o.paused LIMIT %(most)b
    ) AS counted
), (
    SELECT count(*) FROM (
        SELECT FROM {table} AS o
        WHERE NOT o.deleted AND o.uid >= '' AND o.state = cell.state AND o.handler = cell.handler AND o.paused
        ORDER BY o.paused LIMIT %(most)b
    ) AS counted
) FROM cell;

-- :name count_owners
SELECT owner, count(*) FROM (
    SELECT owner FROM {table}
    WHERE NOT deleted AND uid >= '' AND state = 'RUNNING' ORDER BY handler, paused LIMIT %(most)b
) AS running GROUP BY owner;

-- :name count_due
-- Behind the steps: the oldest of each, and no more than `most` rows.
SELECT step.handler, step.resume_point, oldest.check_time, oldest.name, (
    SELECT count(*) FROM (
        SELECT FROM {table} AS o
        WHERE o.handler = step.handler AND o.resume_point = step.resume_point AND o.check_time <= %(now)b
        ORDER BY o.check_time LIMIT %(most)b
    ) AS counted
) FROM step CROSS JOIN LATERAL (
    SELECT o.check_time, o.name FROM {table} AS o
    WHERE o.handler = step.handler AND o.resume_point = step.resume_point AND o.check_time <= %(now)b
    ORDER BY o.check_time LIMIT 1
) AS oldest;

-- :name failures
-- The newest, among `most` rows, of which some were cancelled. The errors come to `bytes` and one more; the length of a
-- value is known without it.
SELECT name, handler, CASE WHEN before <= %(bytes)b THEN error END, time FROM (
    SELECT name, handler, error, coalesce(end_time, update_time) AS time, create_time,
        sum(octet_length(error)) OVER (ORDER BY create_time DESC, name) - octet_length(error) AS before
    FROM (
        SELECT * FROM {table}
        WHERE outcome = 2 AND NOT deleted AND (expire_time IS NULL OR expire_time > %(now)b)
        ORDER BY create_time DESC, name LIMIT %(most)b
    ) AS unsuccessful WHERE state = 'FAILED'
) AS failed ORDER BY create_time DESC, name LIMIT %(failures)b;

-- :name list
-- {row} is {columns} or {outline}.
SELECT {row} FROM {table}
WHERE {conditions} AND NOT deleted AND (expire_time IS NULL OR expire_time > %(now)b)
ORDER BY create_time DESC, name LIMIT %(limit)b;

-- :name list_up_to
-- The same, up to the row with which the sizes come to so many bytes. The length of a value is known without it.
SELECT {row} FROM (
    SELECT *, sum({size}) OVER (ORDER BY create_time DESC, name) - {size} AS before FROM (
        SELECT * FROM {table}
        WHERE {conditions} AND NOT deleted AND (expire_time IS NULL OR expire_time > %(now)b)
        ORDER BY create_time DESC, name LIMIT %(limit)b
    ) AS page
) AS page WHERE before < %(most)b ORDER BY create_time DESC, name;

-- :name remove
DELETE FROM {table} WHERE name = ANY(%b::text[]);

-- :name insert
INSERT INTO {table} ({written}) SELECT * FROM unnest({arrays});

-- :name update
-- {changes} of {changed} columns: what never changes in the life of a row is not among them.
UPDATE {table} AS operation SET {changes} FROM unnest({arrays}) AS new ({changed}) WHERE operation.name = new.name;

-- :name append
INSERT INTO {journal} ({entry}) SELECT * FROM unnest({arrays});

-- :name journal
SELECT operation.name, {entries} FROM {table} AS operation JOIN {journal} AS journal ON journal.uid = operation.uid
WHERE operation.name = ANY(%(names)b::text[])
AND (%(kinds)b::text[] IS NULL OR journal.kind = ANY(%(kinds)b::text[]));

-- :name purge
-- What somebody writes to just now is passed over: it comes with the next purge.
DELETE FROM {table} WHERE name = ANY(ARRAY(
    SELECT name FROM {table} WHERE expire_time <= %b ORDER BY expire_time LIMIT %b FOR UPDATE SKIP LOCKED
));

-- :name notify
SELECT pg_notify(%s, %s);
