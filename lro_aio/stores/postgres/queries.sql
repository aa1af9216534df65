-- The statements of the store, each under its name. {table} and {journal} are the tables, {columns} is what
-- `rows.decode` takes, {outline} the same without the payloads, {entry} the columns of an entry, in their order. Names
-- come as one array: the statement stays prepared. {given} are rows: of one its values, of more an array for each column.
--
-- Tables grow faster than they are analyzed, and the planner takes a crowd for a handful. So it is left no choice that
-- is dear where it is wrong:
-- - A row that is known by its name is the first between its name and its name, in a subquery with a LIMIT. Most indexes
--   have the name behind other columns, and of a table that it takes for empty, as it does when there were no rows to
--   analyze, the planner holds each for as good as any: it would read one from end to end. The primary key alone has the
--   rows in this order. A change and a removal go to the place of a row that is found so.
-- - What belongs to a row is found by a subquery with a LIMIT, or an OFFSET where all of it is wanted: an EXISTS may become
--   a hash of all rows there are, and a join a walk through all that have the first column in common, or through all.
-- - Of tickets of a key, it asks for `standing = (SELECT 1)`, not for `standing = 1`: it is the same, but does not offer
--   the partial index of all who are in line, which has them in no order of use here.
-- - What a UNION takes from a table, it takes from a subquery with a LIMIT too: since version 17, the planner offers any
--   index that has the order of the UNION, and reads it from end to end.
--
-- A line is left at its head, and what left it stays in the indexes until a vacuum. So whether anybody is in a line is
-- asked from its end, where those stand who leave last.

-- :name read
SELECT {columns} FROM unnest(%(names)b::text[]) AS given (one) CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
) AS operation;

-- :name lock
-- The names come in their order, as everybody locks: no two transactions wait for each other.
SELECT {columns} FROM unnest(%(names)b::text[]) AS given (one) CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1 FOR UPDATE
) AS operation;

-- :name appended
-- Of the entries that a batch appends: those that are there. Behind the lock, whose rows nobody else appends to.
SELECT journal.uid, journal.kind, journal.key
FROM unnest(%(names)b::text[], %(kinds)b::text[], %(keys)b::bytea[]) AS given (one, kind, key) CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
) AS operation CROSS JOIN LATERAL (
    SELECT * FROM {journal} AS j WHERE j.uid = operation.uid AND j.kind = given.kind AND j.key = given.key LIMIT 1
) AS journal;

-- :name unfinished
SELECT name FROM unnest(%(names)b::text[]) AS given (one) CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
) AS operation WHERE outcome = 0 AND NOT deleted;

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
    SELECT soon.name AS one FROM route CROSS JOIN LATERAL (
        SELECT o.name, o.check_time FROM {table} AS o
        WHERE o.handler = route.handler AND o.resume_point = route.resume_point AND o.check_time <= %(now)b
        AND (o.owner = '' OR o.owner <> %(skipped)b)
        ORDER BY o.check_time LIMIT %(limit)b
    ) AS soon ORDER BY soon.check_time LIMIT %(limit)b
) AS given CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
) AS operation ORDER BY check_time, name;

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

-- :name held_by
-- What these owners hold: one scan of the index of what is due, from end to end and nothing but it, then a seek for each
-- lease. `IS TRUE` keeps the owners from being sought in the index: it would be read once for each.
SELECT held.owner, own.name, held.handler, held.resume_point FROM (
    SELECT DISTINCT handler, resume_point, check_time, owner FROM {table}
    WHERE check_time IS NOT NULL AND (owner IN (SELECT unnest(%(owners)b::text[]))) IS TRUE
    ORDER BY handler, resume_point, check_time, owner OFFSET 0
) AS held CROSS JOIN LATERAL (
    SELECT o.name FROM {table} AS o WHERE o.handler = held.handler AND o.resume_point = held.resume_point
    AND o.check_time >= held.check_time AND o.check_time <= held.check_time AND o.owner = held.owner
    ORDER BY o.check_time OFFSET 0
) AS own;

-- :name orphans
-- Of these rows, those that run and that one of the owners holds still.
SELECT {outline} FROM unnest(%(names)b::text[]) AS given (one) CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
) AS operation WHERE state = 'RUNNING' AND owner = ANY(%(owners)b::text[]);

-- :name server
-- Which one it is, also after it was promoted, and its database.
SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()) FROM pg_control_system();

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
        WHERE NOT o.deleted AND o.uid >= ''
        AND (o.state, o.handler) >= (cell.state, cell.handler) AND (o.state, o.handler) <= (cell.state, cell.handler)
        ORDER BY o.state, o.handler LIMIT %(most)b
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
-- Rows that are locked: they stay at their places.
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT place FROM unnest(%b::text[]) AS given (one) CROSS JOIN LATERAL (
        SELECT o.ctid AS place FROM {table} AS o
        WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
    ) AS found
));

-- :name insert
INSERT INTO {table} ({written}) SELECT * FROM {given} AS given RETURNING name, xmin::text;

-- :name make
-- Those of them that are not there. One that somebody is removing is there: to wait for its end, with new rows that
-- others may wait for, could be a deadlock.
INSERT INTO {table} ({written}) SELECT * FROM {given} AS given ({written}) WHERE (
    SELECT true FROM {table} AS o WHERE o.name >= given.name AND o.name <= given.name ORDER BY o.name LIMIT 1
) IS NULL ON CONFLICT (name) DO NOTHING RETURNING name, xmin::text;

-- :name update
-- {changes} of {changed} columns: what never changes in the life of a row is not among them. Of rows that are locked.
UPDATE {table} AS operation SET {changes} FROM {given} AS new ({changed}) CROSS JOIN LATERAL (
    SELECT o.ctid AS place FROM {table} AS o WHERE o.name >= new.name AND o.name <= new.name ORDER BY o.name LIMIT 1
) AS found WHERE operation.ctid = found.place RETURNING operation.name, operation.xmin::text;

-- :name change
-- As `update`, of rows that nobody has locked or read: those of them that are still as the transaction `version` wrote
-- them. It waits for no lock: who holds one is about to change the row, most likely, and a wait might end with a commit
-- after whoever asked for it has given up.
UPDATE {table} AS operation SET {changes} FROM {given} AS new ({changed}, version) CROSS JOIN LATERAL (
    SELECT o.ctid AS place FROM {table} AS o
    WHERE o.name >= new.name AND o.name <= new.name AND o.xmin = new.version::xid
    ORDER BY o.name LIMIT 1 FOR UPDATE SKIP LOCKED
) AS found WHERE operation.ctid = found.place RETURNING operation.name, operation.xmin::text;

-- :name append
INSERT INTO {journal} ({entry}) SELECT * FROM {given} AS given;

-- :name follow
-- Behind `make` and `change`: of the rows that this transaction has written, and of no others.
INSERT INTO {journal} ({entry}) SELECT {given_entry} FROM {given} AS given (name, {entry}) WHERE (
    SELECT o.xmin FROM {table} AS o WHERE o.name >= given.name AND o.name <= given.name ORDER BY o.name LIMIT 1
) = pg_current_xact_id()::xid;

-- :name journal
SELECT operation.name, {entries} FROM unnest(%(names)b::text[]) AS given (one) CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
) AS operation CROSS JOIN LATERAL (
    SELECT * FROM {journal} AS j WHERE j.uid = operation.uid
    AND (%(kinds)b::text[] IS NULL OR j.kind = ANY(%(kinds)b::text[])) OFFSET 0
) AS journal;

-- :name purge
-- What somebody writes to just now is passed over: it comes with the next purge.
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE expire_time <= %b ORDER BY expire_time LIMIT %b FOR UPDATE SKIP LOCKED
));

-- :name notify
SELECT pg_notify(%s, %s);

-- :name pairs
-- The queues and keys that a transaction is to decide about: those that are given, and those of tickets, which nobody
-- moves to another queue while their operations are locked. `steps` are operations of which all steps are wanted.
WITH wanted (uid) AS (
    SELECT unnest(%(uids)b::bytea[])
    UNION
    SELECT ticket.uid FROM unnest(%(steps)b::bytea[]) AS operation (uid) CROSS JOIN LATERAL (
        SELECT uid FROM {tickets} AS t
        WHERE t.uid > operation.uid || '\x0a'::bytea AND t.uid < operation.uid || '\x0b'::bytea OFFSET 0
    ) AS ticket
), pair (queue, key) AS (
    SELECT * FROM unnest(%(queues)b::text[], %(keys)b::text[])
    UNION
    SELECT ticket.queue, ticket.key FROM wanted CROSS JOIN LATERAL (
        SELECT queue, key FROM {tickets} AS t WHERE t.uid >= wanted.uid AND t.uid <= wanted.uid ORDER BY t.uid LIMIT 1
    ) AS ticket
), line (queue) AS (
    SELECT DISTINCT queue FROM pair
)

-- :name queue_made
-- Behind the pairs, in the order of the names: what is locked must be there. Nobody has said yet what it allows.
INSERT INTO {queues} (name, bounds, declared, paused, turn, last, number, starts, clock, rests_until)
SELECT queue, '', '[]', false, 0, 0, 0, 0, 0, 0 FROM line ORDER BY queue ON CONFLICT (name) DO NOTHING;

-- :name queue_locked
-- Behind the pairs, in the order of the names: no two transactions wait for each other. All that is read of a queue is
-- read in statements behind this one, which see what its last holder has committed.
SELECT {queue} FROM {queues} WHERE name = ANY(ARRAY(SELECT queue FROM line)) ORDER BY name FOR UPDATE;

-- :name queue_line
-- Behind the pairs: places that are taken, and whether anybody is in line.
SELECT queue, (SELECT count(*) FROM {tickets} AS t WHERE t.queue = line.queue AND t.standing = 2),
    (
        SELECT true FROM {tickets} AS t WHERE t.queue = line.queue AND t.standing = 1
        ORDER BY t.handler DESC, t.priority DESC, t.turn DESC, t.number DESC LIMIT 1
    ) IS NOT NULL
FROM line;

-- :name queue_key
-- Behind the pairs: places of a key that are taken, and its row where it has one.
SELECT pair.queue, pair.key,
    (SELECT count(*) FROM {tickets} AS t WHERE t.queue = pair.queue AND t.key = pair.key AND t.standing = 2),
    k.turn, k.starts, k.rests_until, k.wakes, k.idle
FROM pair LEFT JOIN LATERAL (
    SELECT * FROM {queue_keys} AS own WHERE own.queue = pair.queue AND own.key = pair.key LIMIT 1
) AS k ON true WHERE pair.key <> '';

-- :name queue_started
-- Behind the pairs: the first starts that a rate still counts. A count may be stored that is too large for a bigint.
SELECT counted.queue, counted.key, s.number, s.time FROM (
    SELECT q.name, '', q.starts - least((nullif(q.bounds, '')::json #>> '{rate,0}')::numeric, 1000000000)::bigint
    FROM line CROSS JOIN LATERAL (SELECT * FROM {queues} AS own WHERE own.name = line.queue LIMIT 1) AS q
    UNION ALL
    SELECT k.queue, k.key, k.starts - least((nullif(q.bounds, '')::json #>> '{rate_per_key,0}')::numeric, 1000000000)::bigint
    FROM pair CROSS JOIN LATERAL (
        SELECT * FROM {queues} AS own WHERE own.name = pair.queue LIMIT 1
    ) AS q CROSS JOIN LATERAL (
        SELECT * FROM {queue_keys} AS own WHERE own.queue = pair.queue AND own.key = pair.key LIMIT 1
    ) AS k
) AS counted (queue, key, after) CROSS JOIN LATERAL (
    SELECT number, time FROM {queue_starts} AS started
    WHERE started.queue = counted.queue AND started.key = counted.key AND started.number > counted.after
    ORDER BY number LIMIT %(most)b
) AS s WHERE counted.after IS NOT NULL ORDER BY s.number;

-- :name queue_tickets
-- Behind the pairs.
SELECT {ticket} FROM {tickets} WHERE uid = ANY(ARRAY(SELECT uid FROM wanted));

-- :name remove_tickets
DELETE FROM {tickets} WHERE uid = ANY(%b::bytea[]);

-- :name put_tickets
INSERT INTO {tickets} ({ticket}) SELECT * FROM {given} AS given ON CONFLICT (uid) DO UPDATE SET {changes};

-- :name put_starts
INSERT INTO {queue_starts} (queue, key, number, time)
SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::double precision[])
ON CONFLICT (queue, key, number) DO UPDATE SET time = excluded.time;

-- :name trim_starts
DELETE FROM {queue_starts} WHERE ctid = ANY(ARRAY(
    SELECT place FROM unnest(%b::text[], %b::text[], %b::bigint[]) AS old (queue, key, number) CROSS JOIN LATERAL (
        SELECT s.ctid AS place FROM {queue_starts} AS s
        WHERE s.queue = old.queue AND s.key = old.key AND s.number <= old.number OFFSET 0
    ) AS found
));

-- :name put_queues
-- What a decision changes; what holds of a queue stays as it is. Of queues that are locked: they stay at their places.
UPDATE {queues} AS q SET turn = new.turn, last = new.last, number = new.number, starts = new.starts, clock = new.clock,
    rests_until = new.rests_until
FROM unnest(
    %b::text[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::double precision[], %b::double precision[]
) AS new (name, turn, last, number, starts, clock, rests_until) CROSS JOIN LATERAL (
    SELECT own.ctid AS place FROM {queues} AS own WHERE own.name = new.name LIMIT 1
) AS found WHERE q.ctid = found.place;

-- :name resettle
-- The first tickets of a key are to be READY, as many as is said, and the others to stand BEHIND.
WITH first AS (
    SELECT line.place, line.standing, CASE WHEN row_number() OVER (
        PARTITION BY key.queue, key.key ORDER BY line.priority, line.turn, line.number
    ) <= key.ready THEN 1 ELSE 0 END AS wanted
    FROM unnest(%(queues)b::text[], %(keys)b::text[], %(ready)b::bigint[]) AS key (queue, key, ready)
    CROSS JOIN LATERAL (
        (SELECT ctid AS place, standing, priority, turn, number FROM {tickets} AS r
        WHERE r.queue = key.queue AND r.key = key.key AND r.standing = (SELECT 1)
        ORDER BY priority, turn, number LIMIT %(most)b)
        UNION ALL
        (SELECT ctid AS place, standing, priority, turn, number FROM {tickets} AS b
        WHERE b.queue = key.queue AND b.key = key.key AND b.standing = (SELECT 0)
        ORDER BY priority, turn, number LIMIT greatest(key.ready, 1))
    ) AS line
), ahead AS (
    UPDATE {tickets} SET standing = 1 WHERE ctid = ANY(ARRAY(SELECT place FROM first WHERE standing = 0 AND wanted = 1))
)
UPDATE {tickets} SET standing = 0 WHERE ctid = ANY(ARRAY(SELECT place FROM first WHERE standing = 1 AND wanted = 0));

-- :name put_keys
-- When it wakes counts while anybody waits, and since when it is idle where nobody does.
INSERT INTO {queue_keys} (queue, key, turn, starts, rests_until, wakes, idle)
SELECT queue, key, turn, starts, rests_until, CASE WHEN waits THEN wakes END, CASE WHEN NOT waits THEN idle END FROM (
    SELECT *, coalesce((
        SELECT true FROM {tickets} AS t WHERE t.queue = new.queue AND t.key = new.key AND t.standing = (SELECT 1)
        ORDER BY t.priority DESC, t.turn DESC, t.number DESC LIMIT 1
    ), (
        SELECT true FROM {tickets} AS t WHERE t.queue = new.queue AND t.key = new.key AND t.standing = (SELECT 0)
        ORDER BY t.priority DESC, t.turn DESC, t.number DESC LIMIT 1
    ), false) AS waits
    FROM unnest(
        %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::double precision[], %b::double precision[],
        %b::double precision[]
    ) AS new (queue, key, turn, starts, rests_until, wakes, idle)
) AS found ON CONFLICT (queue, key) DO UPDATE SET turn = excluded.turn, starts = excluded.starts,
    rests_until = excluded.rests_until, wakes = excluded.wakes, idle = excluded.idle;

-- :name served
-- The queues in which these handlers have anybody, found by a loose scan: one seek for each.
WITH RECURSIVE step (handler, queue) AS (
    SELECT given.handler, (
        SELECT t.queue FROM {tickets} AS t WHERE t.handler = given.handler AND t.standing < 2
        ORDER BY t.queue DESC LIMIT 1
    ) FROM (SELECT DISTINCT unnest(%(handlers)b::text[])) AS given (handler)
    UNION ALL
    SELECT step.handler, (
        SELECT t.queue FROM {tickets} AS t WHERE t.handler = step.handler AND t.standing < 2 AND t.queue < step.queue
        ORDER BY t.queue DESC LIMIT 1
    ) FROM step WHERE step.queue IS NOT NULL
), line (queue) AS (
    SELECT DISTINCT queue FROM step WHERE queue IS NOT NULL
)

-- :name line_handlers
-- Behind what is served.
SELECT queue, handler FROM step WHERE queue IS NOT NULL;

-- :name line_queues
-- Behind what is served: places that are taken, and when a key wakes next.
SELECT {queue}, (SELECT count(*) FROM {tickets} AS t WHERE t.queue = q.name AND t.standing = 2), (
    SELECT k.wakes FROM {queue_keys} AS k WHERE k.queue = q.name AND k.wakes > greatest(%(now)b, q.clock)
    ORDER BY k.wakes LIMIT 1
) FROM {queues} AS q WHERE q.name = ANY(ARRAY(SELECT queue FROM line)) ORDER BY name;

-- :name line_started
-- Behind what is served: the first starts that the rate of a queue still counts.
SELECT q.name, s.number, s.time FROM {queues} AS q CROSS JOIN LATERAL (
    SELECT number, time FROM {queue_starts} AS started
    WHERE started.queue = q.name AND started.key = ''
    AND started.number > q.starts - least((nullif(q.bounds, '')::json #>> '{rate,0}')::numeric, 1000000000)::bigint
    ORDER BY number LIMIT %(most)b
) AS s WHERE q.name = ANY(ARRAY(SELECT queue FROM line)) ORDER BY s.number;

-- :name next
-- The first in line for a handler, and of each key whose time has come its first ticket, READY or not.
WITH following AS (
    SELECT ready.* FROM unnest(%(queues)b::text[], %(handlers)b::text[], %(limits)b::bigint[])
    AS wanted (queue, handler, most) CROSS JOIN LATERAL (
        SELECT {ticket} FROM {tickets} AS t
        WHERE t.queue = wanted.queue AND t.handler = wanted.handler AND t.standing = 1
        ORDER BY t.priority, t.turn, t.number LIMIT wanted.most
    ) AS ready
    UNION
    SELECT head.* FROM unnest(%(ripe)b::text[], %(moments)b::double precision[]) AS wanted (queue, now)
    CROSS JOIN LATERAL (
        SELECT k.queue, k.key FROM {queue_keys} AS k WHERE k.queue = wanted.queue AND k.wakes <= wanted.now
        ORDER BY k.wakes LIMIT %(most)b
    ) AS key CROSS JOIN LATERAL (
        SELECT * FROM (
            (SELECT {ticket} FROM {tickets} AS t WHERE t.queue = key.queue AND t.key = key.key AND t.standing = (SELECT 1)
            ORDER BY t.priority, t.turn, t.number LIMIT 1)
            UNION ALL
            (SELECT {ticket} FROM {tickets} AS t WHERE t.queue = key.queue AND t.key = key.key AND t.standing = (SELECT 0)
            ORDER BY t.priority, t.turn, t.number LIMIT 1)
        ) AS either ORDER BY priority, turn, number LIMIT 1
    ) AS head
)

-- :name next_tickets
-- Behind those who are next.
SELECT * FROM following ORDER BY priority, turn, number;

-- :name next_rows
-- Behind those who are next.
SELECT {outline} FROM (SELECT DISTINCT name AS one FROM following) AS given CROSS JOIN LATERAL (
    SELECT * FROM {table} AS o WHERE o.name >= given.one AND o.name <= given.one ORDER BY o.name LIMIT 1
) AS operation
WHERE outcome = 0 AND NOT paused;

-- :name queue_terms
SELECT override, declared, paused FROM {queues} WHERE name = %(queue)b FOR UPDATE;

-- :name put_terms
UPDATE {queues} SET bounds = %(bounds)b, override = %(override)b::text, declared = %(declared)b, paused = %(paused)b
WHERE name = %(queue)b;

-- :name wake_keys
-- All keys in which somebody waits are looked at once more.
UPDATE {queue_keys} AS k SET wakes = 0 WHERE k.queue = %(queue)b AND k.idle IS NULL AND coalesce((
    SELECT true FROM {tickets} AS t WHERE t.queue = k.queue AND t.key = k.key AND t.standing = (SELECT 1)
    ORDER BY t.priority DESC, t.turn DESC, t.number DESC LIMIT 1
), (
    SELECT true FROM {tickets} AS t WHERE t.queue = k.queue AND t.key = k.key AND t.standing = (SELECT 0)
    ORDER BY t.priority DESC, t.turn DESC, t.number DESC LIMIT 1
), false);

-- :name every_queue
-- Those of which somebody has said what they allow.
SELECT name, bounds, override, declared, paused, rests_until FROM {queues}
WHERE bounds <> '' AND (%(names)b::text[] IS NULL OR name = ANY(%(names)b::text[])) ORDER BY name;

-- :name key_counts
-- From indexes alone, and no further than `most` of each queue.
SELECT q.name, counted.key, counted.waiting, counted.running FROM {queues} AS q CROSS JOIN LATERAL (
    SELECT key, count(*) FILTER (WHERE standing < 2) AS waiting, count(*) FILTER (WHERE standing = 2) AS running FROM (
        (SELECT key, standing FROM {tickets} AS t WHERE t.queue = q.name AND t.standing = 2 ORDER BY key LIMIT %(most)b)
        UNION ALL
        (SELECT key, standing FROM {tickets} AS t WHERE t.queue = q.name AND t.standing < (SELECT 2)
        ORDER BY key LIMIT %(most)b)
    ) AS found GROUP BY key
) AS counted WHERE %(names)b::text[] IS NULL OR q.name = ANY(%(names)b::text[]);

-- :name resting_keys
SELECT q.name, resting.key, resting.rests_until FROM {queues} AS q CROSS JOIN LATERAL (
    SELECT key, rests_until FROM {queue_keys} AS k WHERE k.queue = q.name AND k.rests_until > %(now)b
    ORDER BY key LIMIT %(keys)b
) AS resting WHERE %(names)b::text[] IS NULL OR q.name = ANY(%(names)b::text[]);

-- :name in_line
-- Of an operation and its steps, those that wait first; and of who waits, how many stand before each.
SELECT t.*, q.paused, q.rests_until, k.rests_until, counted.ahead, counted.seen FROM (
    SELECT * FROM (
        SELECT {ticket} FROM {tickets} WHERE uid = %(uid)b::bytea
        UNION ALL
        SELECT {ticket} FROM {tickets}
        WHERE uid > %(uid)b::bytea || '\x0a'::bytea AND uid < %(uid)b::bytea || '\x0b'::bytea
    ) AS own ORDER BY standing = 2, priority, turn, number LIMIT %(told)b
) AS t LEFT JOIN LATERAL (
    SELECT paused, rests_until FROM {queues} AS own WHERE own.name = t.queue LIMIT 1
) AS q ON true LEFT JOIN LATERAL (
    SELECT rests_until FROM {queue_keys} AS own WHERE own.queue = t.queue AND own.key = t.key LIMIT 1
) AS k ON true CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE (o.priority, o.turn, o.number) < (t.priority, t.turn, t.number)) AS ahead,
    count(*) AS seen FROM (
        SELECT priority, turn, number FROM {tickets} AS w WHERE w.queue = t.queue AND w.standing < (SELECT 2)
        ORDER BY key LIMIT %(most)b
    ) AS o
) AS counted ORDER BY t.standing = 2, t.priority, t.turn, t.number;

-- :name stale
-- Places that an older release did not give back, and those who are next, or among the first of a key whose time has
-- come, although it has ended them: it does not know of queues. Who stands further behind is first one day.
-- The queues in which anybody is are found by a loose scan: one seek for each.
WITH RECURSIVE line (queue) AS (
    (SELECT queue FROM {tickets} ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT following.queue FROM line CROSS JOIN LATERAL (
        SELECT t.queue FROM {tickets} AS t WHERE t.queue > line.queue ORDER BY t.queue LIMIT 1
    ) AS following
), stale AS (
    SELECT t.uid, line.queue FROM line CROSS JOIN LATERAL (
        (SELECT uid, name FROM {tickets} AS h WHERE h.queue = line.queue AND h.standing = 2)
        UNION ALL
        (SELECT uid, name FROM {tickets} AS r WHERE r.queue = line.queue AND r.standing = 1 ORDER BY r.handler, r.priority)
        UNION ALL
        (SELECT first.uid, first.name FROM (
            SELECT key FROM {queue_keys} AS k WHERE k.queue = line.queue AND k.wakes <= %(now)b ORDER BY k.wakes OFFSET 0
        ) AS ripe CROSS JOIN LATERAL (
            SELECT uid, name FROM {tickets} AS b
            WHERE b.queue = line.queue AND b.key = ripe.key AND b.standing = (SELECT 0)
            ORDER BY b.priority, b.turn, b.number LIMIT 16
        ) AS first)
    ) AS t WHERE (
        SELECT o.outcome = 0 AND (
            t.uid = convert_to(o.uid, 'UTF8')
            OR substring(t.uid FOR octet_length(o.uid) + 1) = convert_to(o.uid, 'UTF8') || '\x0a'::bytea
        ) FROM {table} AS o WHERE o.name >= t.name AND o.name <= t.name ORDER BY o.name LIMIT 1
    ) IS NOT TRUE
)

-- :name stale_queues
-- Behind those tickets.
SELECT DISTINCT queue FROM stale;

-- :name some_keys
-- Keys behind this one. Of those where it seems that nobody decided when the last place came back, all; and the last one.
WITH seen AS (
    SELECT queue, key, idle IS NULL AND wakes IS NULL AND (
        SELECT true FROM {tickets} AS t WHERE t.queue = k.queue AND t.key = k.key AND t.standing > 0
        ORDER BY t.standing DESC, t.priority DESC, t.turn DESC, t.number DESC LIMIT 1
    ) IS NULL AS alone, row_number() OVER (ORDER BY queue, key) AS place
    FROM (
        SELECT * FROM {queue_keys} WHERE (queue, key) > (%(queue)b, %(key)b) ORDER BY queue, key LIMIT %(most)b
    ) AS k
)
SELECT queue, key, alone, place = %(most)b FROM seen WHERE alone OR place = %(most)b ORDER BY queue, key;

-- :name unlocked
-- Of these queues, those about which nobody decides just now.
SELECT name FROM {queues} WHERE name = ANY(%(queues)b::text[]) ORDER BY name FOR UPDATE SKIP LOCKED;

-- :name remove_stale
-- Behind those tickets, of queues that are locked. Who waits in their keys, and in those that are given, is looked at once
-- more; a key without tickets is idle, as soon as its rate counts none of its starts.
, gone AS (
    DELETE FROM {tickets} WHERE uid = ANY(ARRAY(
        SELECT uid FROM {tickets} WHERE uid = ANY(ARRAY(SELECT uid FROM stale WHERE queue = ANY(%(queues)b::text[])))
        FOR UPDATE SKIP LOCKED
    )) RETURNING uid, queue, key
), touched AS (
    SELECT came.queue, came.key, (
        SELECT true FROM {tickets} AS t WHERE t.queue = came.queue AND t.key = came.key AND t.standing < (SELECT 2)
        AND t.uid <> ALL(ARRAY(SELECT uid FROM gone)) LIMIT 1
    ) IS NOT NULL AS waits, (
        SELECT true FROM {tickets} AS t WHERE t.queue = came.queue AND t.key = came.key AND t.standing = (SELECT 2)
        AND t.uid <> ALL(ARRAY(SELECT uid FROM gone)) LIMIT 1
    ) IS NOT NULL AS held, greatest(q.clock, %(now)b)
    + coalesce((nullif(q.bounds, '')::json #>> '{rate_per_key,1}')::double precision, 0) AS later
    FROM (
        SELECT queue, key FROM gone WHERE key <> ''
        UNION
        SELECT * FROM unnest(%(of)b::text[], %(keys)b::text[]) AS given (queue, key) WHERE queue = ANY(%(queues)b::text[])
    ) AS came CROSS JOIN LATERAL (SELECT * FROM {queues} AS own WHERE own.name = came.queue LIMIT 1) AS q
)
UPDATE {queue_keys} AS k SET wakes = CASE WHEN touched.waits THEN 0 END,
    idle = CASE WHEN NOT touched.waits AND NOT touched.held THEN greatest(k.rests_until, touched.later) END
FROM touched CROSS JOIN LATERAL (
    SELECT own.ctid AS place FROM {queue_keys} AS own WHERE own.queue = touched.queue AND own.key = touched.key LIMIT 1
) AS found WHERE k.ctid = found.place;

-- :name forget_idle
-- (now, limit): keys of which nothing is to be remembered, with their starts. Not of a queue about which somebody decides
-- just now; a key that was changed meanwhile is looked at once more: not by the index, which `IS TRUE` keeps out of it, but
-- at its place.
WITH idle AS (
    SELECT ctid AS place, queue FROM {queue_keys} WHERE idle <= %(now)b ORDER BY idle LIMIT %(limit)b
), locked AS MATERIALIZED (
    SELECT name FROM {queues} WHERE name = ANY(ARRAY(SELECT queue FROM idle)) ORDER BY name FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {queue_keys} WHERE ctid = ANY(ARRAY(
        SELECT place FROM idle WHERE queue = ANY(ARRAY(SELECT name FROM locked))
    )) AND (idle <= %(now)b) IS TRUE RETURNING queue, key
)
DELETE FROM {queue_starts} WHERE ctid = ANY(ARRAY(
    SELECT place FROM gone CROSS JOIN LATERAL (
        SELECT s.ctid AS place FROM {queue_starts} AS s WHERE s.queue = gone.queue AND s.key = gone.key OFFSET 0
    ) AS found
));
