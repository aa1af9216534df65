-- Queues. A ticket is an operation, or a step of one, that waits for a place (standing 0: behind others of its key, 1: in
-- line) or holds one (2). The places that are taken are counted, never kept as a number. A process of an older release
-- leaves `seat` as it is: the trigger puts away the tickets of what it removes, and `Store.purge` those of what it ended.
-- A row without a queue costs the trigger one comparison.
ALTER TABLE {table} ADD COLUMN seat text;

-- Whoever decides about a queue holds its row. It is written with each decision: there is room for that in its page.
CREATE TABLE {queues} (
    name text COLLATE "C" NOT NULL,
    bounds text NOT NULL,
    override text,
    declared text NOT NULL,
    paused boolean NOT NULL,
    turn bigint NOT NULL,
    last bigint NOT NULL,
    number bigint NOT NULL,
    starts bigint NOT NULL,
    clock double precision NOT NULL,
    rests_until double precision NOT NULL,
    CONSTRAINT "{name}_queues_pkey" PRIMARY KEY (name)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE {queue_keys} (
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    turn bigint NOT NULL,
    starts bigint NOT NULL,
    rests_until double precision NOT NULL,
    wakes double precision,
    idle double precision,
    CONSTRAINT "{name}_queue_keys_pkey" PRIMARY KEY (queue, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Keys of which more may go when their time comes, and keys that nothing is to be remembered of.
CREATE INDEX "{name}_queue_keys_wakes" ON {queue_keys} (queue, wakes) WHERE wakes IS NOT NULL;
CREATE INDEX "{name}_queue_keys_idle" ON {queue_keys} (idle) WHERE idle IS NOT NULL;

-- The uid is bytes: that of a step ends with its key, and a text holds no zero byte.
CREATE TABLE {tickets} (
    uid bytea NOT NULL,
    name text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    handler text COLLATE "C" NOT NULL,
    priority bigint NOT NULL,
    turn bigint NOT NULL,
    number bigint NOT NULL,
    standing smallint NOT NULL CHECK (standing IN (0, 1, 2)),
    since double precision NOT NULL,
    CONSTRAINT "{name}_tickets_pkey" PRIMARY KEY (uid)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);

-- Who is next, for those who run a handler; and in which queues it has anybody.
CREATE INDEX "{name}_tickets_line" ON {tickets} (queue, handler, priority, turn, number) WHERE standing = 1;
CREATE INDEX "{name}_tickets_handlers" ON {tickets} (handler, queue) WHERE standing < 2;

-- Who is next of a key.
CREATE INDEX "{name}_tickets_keys" ON {tickets} (queue, key, standing, priority, turn, number);

-- What is taken.
CREATE INDEX "{name}_tickets_held" ON {tickets} (queue, key) WHERE standing = 2;

-- The last starts that a rate counts, numbered from 1; key '' counts for the queue.
CREATE TABLE {queue_starts} (
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    time double precision NOT NULL,
    CONSTRAINT "{name}_queue_starts_pkey" PRIMARY KEY (queue, key, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- Tickets go with their row, whoever removes it, as the journal does: also those of its steps, which have the uid in front
-- of a line break.
CREATE FUNCTION {tickets_go}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'DELETE FROM %I.%I WHERE uid = $1 OR (uid > $1 || ''\x0a''::bytea AND uid < $1 || ''\x0b''::bytea)',
        TG_TABLE_SCHEMA, TG_TABLE_NAME || '_tickets'
    ) USING convert_to(OLD.uid, 'UTF8');
    RETURN NULL;
END
$$;

CREATE TRIGGER "{name}_tickets" AFTER DELETE ON {table} FOR EACH ROW WHEN (OLD.seat IS NOT NULL)
EXECUTE FUNCTION {tickets_go}();

-- Who may write to the table may write to these: a release that is there already removes rows, and the trigger their
-- tickets.
DO $$
DECLARE
    writer text;
    place text;
BEGIN
    FOR writer IN
        SELECT DISTINCT CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(granted.grantee)) END
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS granted
        WHERE c.oid = '{table}'::regclass AND granted.privilege_type = 'DELETE' AND granted.grantee <> c.relowner
    LOOP
        FOREACH place IN ARRAY ARRAY['{queues}', '{queue_keys}', '{tickets}', '{queue_starts}'] LOOP
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s', place, writer);
        END LOOP;
    END LOOP;
END
$$;
