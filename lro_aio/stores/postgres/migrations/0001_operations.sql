-- One row per operation. The columns are the fields of Record and two that are derived from them: `parent`, the part
-- of the name before /operations/, and `outcome`, by which the partial indexes tell live rows from ended ones:
-- 0 has not ended, 1 SUCCEEDED, 2 FAILED or CANCELLED. Texts are compared by their bytes, as Python compares them.
--
-- A row is written some four times, and then rests: room in its page, and a vacuum that comes often.
CREATE TABLE {table} (
    name text COLLATE "C" NOT NULL,
    parent text COLLATE "C" NOT NULL,
    uid text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    outcome smallint NOT NULL CHECK (outcome IN (0, 1, 2)),
    deleted boolean NOT NULL,
    paused boolean NOT NULL,
    create_time double precision NOT NULL,
    update_time double precision NOT NULL,
    end_time double precision,
    expire_time double precision,
    deadline double precision,
    handler text COLLATE "C" NOT NULL,
    resume_point text COLLATE "C" NOT NULL,
    parent_operation text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    lease_expire_time double precision,
    claim bigint NOT NULL,
    attempt bigint NOT NULL,
    retries bigint NOT NULL,
    check_time double precision,
    handover bigint NOT NULL,
    schedule_handle text NOT NULL,
    cleaning boolean NOT NULL,
    cancel_requested boolean NOT NULL,
    cancel_children boolean NOT NULL,
    fingerprint text NOT NULL,
    traceparent text NOT NULL,
    revision bigint NOT NULL,
    entries bigint NOT NULL,
    state_codec text NOT NULL,
    initial_codec text NOT NULL,
    wait text,
    wake text,
    trail text NOT NULL,
    metadata bytea NOT NULL,
    error bytea NOT NULL,
    failure bytea NOT NULL,
    state_data bytea NOT NULL,
    initial_data bytea NOT NULL,
    response bytea NOT NULL,
    CONSTRAINT "{name}_pkey" PRIMARY KEY (name)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);

-- What is due, per route.
CREATE INDEX "{name}_due" ON {table} (handler, resume_point, check_time, owner) WHERE check_time IS NOT NULL;

-- The lists.
CREATE INDEX "{name}_newest" ON {table} (create_time DESC, name);
CREATE INDEX "{name}_by_parent" ON {table} (parent, create_time DESC, name);
CREATE INDEX "{name}_by_handler" ON {table} (handler, create_time DESC, name);
CREATE INDEX "{name}_live" ON {table} (create_time DESC, name) WHERE outcome = 0;
CREATE INDEX "{name}_unsuccessful" ON {table} (create_time DESC, name) WHERE outcome = 2;
CREATE INDEX "{name}_children" ON {table} (parent_operation, create_time DESC, name) WHERE parent_operation <> '';

-- For the counts of `Store.stats`: how many operations of a handler are in a state, and how many of those are paused.
-- It costs a write 5 to 7 per cent (measured on batches of 250 rows). Of every row, uid >= '' is true. Only those
-- statements say so, and the planner takes the index for no other: it would sort a page of a list that another index has
-- in order.
CREATE INDEX "{name}_states" ON {table} (state, handler, paused) WHERE NOT deleted AND uid >= '';

-- What retention removes.
CREATE INDEX "{name}_expiry" ON {table} (expire_time) WHERE expire_time IS NOT NULL;

-- The journal: one row per entry. `number` is its place among those of its operation, which count in `entries`. The key
-- is bytes: a text holds no zero byte.
CREATE TABLE {journal} (
    uid text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    number bigint NOT NULL,
    time double precision NOT NULL,
    codec text NOT NULL,
    payload bytea NOT NULL,
    CONSTRAINT "{name}_journal_pkey" PRIMARY KEY (uid, kind, key)
);

-- Entries go with their row, whoever removes it. The tables are found beside each other, whatever the search_path is.
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %I.%I WHERE uid = $1', TG_TABLE_SCHEMA, TG_TABLE_NAME || '_journal') USING OLD.uid;
    RETURN NULL;
END
$$;

CREATE TRIGGER "{name}_journal" AFTER DELETE ON {table} FOR EACH ROW WHEN (OLD.entries > 0)
EXECUTE FUNCTION {function}();
