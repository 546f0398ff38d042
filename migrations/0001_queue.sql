-- The queue: jobs, their attempts, the GPUs they hold, and the one sequence of events.
--
-- Times are UTC seconds since the epoch (REAL); *_boot are seconds of CLOCK_BOOTTIME under the boot id
-- stored beside them; *_ms are integer milliseconds. What must not happen is forbidden here, whatever
-- the program above does.

-- The legal moves of a job, the same table as leptond.core.model.LEGAL (a test compares them).
CREATE TABLE transitions (
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    PRIMARY KEY (from_state, to_state)
) WITHOUT ROWID;

INSERT INTO transitions (from_state, to_state) VALUES
    ('pending',  'starting'), ('pending',  'cancelled'),
    ('starting', 'running'),  ('starting', 'stopping'), ('starting', 'pending'),
    ('starting', 'succeeded'), ('starting', 'failed'), ('starting', 'timed_out'),
    ('starting', 'cancelled'), ('starting', 'lost'),
    ('running',  'stopping'), ('running',  'pending'),
    ('running',  'succeeded'), ('running', 'failed'), ('running', 'timed_out'),
    ('running',  'cancelled'), ('running', 'lost'),
    ('stopping', 'pending'),
    ('stopping', 'succeeded'), ('stopping', 'failed'), ('stopping', 'timed_out'),
    ('stopping', 'cancelled'), ('stopping', 'lost');

CREATE TABLE jobs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    spec            TEXT    NOT NULL CHECK (json_valid(spec)),
    name            TEXT    NOT NULL,
    user            TEXT    NOT NULL,
    project         TEXT,
    labels          TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(labels)),
    state           TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN (
                        'pending', 'starting', 'running', 'stopping',
                        'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')),
    held            INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    hold_reason     TEXT,
    priority        INTEGER NOT NULL DEFAULT 0,
    gpus            INTEGER NOT NULL CHECK (gpus >= 0),
    time_limit_s    REAL CHECK (time_limit_s > 0),
    retries         INTEGER NOT NULL DEFAULT 0 CHECK (retries >= 0),
    begin_at        REAL,
    array_id        INTEGER,
    array_index     INTEGER,
    array_limit     INTEGER CHECK (array_limit > 0),
    retry_of        INTEGER REFERENCES jobs (id) ON DELETE SET NULL,
    root_id         INTEGER,
    deps_waiting    INTEGER NOT NULL DEFAULT 0 CHECK (deps_waiting >= 0),
    deps_failed     INTEGER NOT NULL DEFAULT 0 CHECK (deps_failed >= 0),
    submitted_at    REAL    NOT NULL,
    started_at      REAL,
    ended_at        REAL,
    deadline_at     REAL,
    -- end of a back-off: wall time for people, boot time for the decision
    backoff_at      REAL,
    backoff_boot    REAL,
    -- what was spent, by the budget it came from
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    spent_user      INTEGER NOT NULL DEFAULT 0 CHECK (spent_user >= 0),
    spent_infra     INTEGER NOT NULL DEFAULT 0 CHECK (spent_infra >= 0),
    spent_snooze    INTEGER NOT NULL DEFAULT 0 CHECK (spent_snooze >= 0),
    spent_requeue   INTEGER NOT NULL DEFAULT 0 CHECK (spent_requeue >= 0),
    exit_code       INTEGER,
    signal          INTEGER,
    class           TEXT,
    explanation     TEXT,
    gpu_ms          INTEGER NOT NULL DEFAULT 0 CHECK (gpu_ms >= 0),
    version         INTEGER NOT NULL DEFAULT 1,
    CHECK ((array_id IS NULL) = (array_index IS NULL)),
    CHECK ((ended_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost')))
);

-- the planner's window: what could start, in queue order
CREATE INDEX jobs_ready ON jobs (priority DESC, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0;
-- the same without those that need a GPU, for when none is free
CREATE INDEX jobs_ready_cpu ON jobs (priority DESC, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus = 0;
CREATE INDEX jobs_queue ON jobs (priority DESC, id) WHERE state = 'pending';
CREATE INDEX jobs_live ON jobs (id) WHERE state IN ('starting', 'running', 'stopping');
CREATE INDEX jobs_backoff ON jobs (backoff_boot) WHERE state = 'pending' AND backoff_boot IS NOT NULL;
CREATE INDEX jobs_begin ON jobs (begin_at) WHERE state = 'pending' AND begin_at IS NOT NULL;
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_user ON jobs (user, id);
CREATE INDEX jobs_name ON jobs (name, id);
CREATE INDEX jobs_project ON jobs (project, id) WHERE project IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_retry_of ON jobs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX jobs_root ON jobs (root_id) WHERE root_id IS NOT NULL;
CREATE UNIQUE INDEX jobs_array ON jobs (array_id, array_index) WHERE array_id IS NOT NULL;

CREATE TRIGGER jobs_legal_move BEFORE UPDATE OF state ON jobs
WHEN OLD.state <> NEW.state
     AND NOT EXISTS (SELECT 1 FROM transitions WHERE from_state = OLD.state AND to_state = NEW.state)
BEGIN
    SELECT RAISE(ABORT, 'illegal transition of a job');
END;

CREATE TRIGGER jobs_begin_pending BEFORE INSERT ON jobs WHEN NEW.state <> 'pending'
BEGIN
    SELECT RAISE(ABORT, 'a job begins as pending');
END;

-- counts are kept, not counted
CREATE TABLE job_counts (
    state TEXT    NOT NULL PRIMARY KEY,
    n     INTEGER NOT NULL CHECK (n >= 0)
) WITHOUT ROWID;
INSERT INTO job_counts (state, n) VALUES
    ('pending', 0), ('starting', 0), ('running', 0), ('stopping', 0),
    ('succeeded', 0), ('failed', 0), ('timed_out', 0), ('cancelled', 0), ('lost', 0);

CREATE TRIGGER jobs_count_insert AFTER INSERT ON jobs
BEGIN
    UPDATE job_counts SET n = n + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER jobs_count_delete AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET n = n - 1 WHERE state = OLD.state;
END;
CREATE TRIGGER jobs_count_move AFTER UPDATE OF state ON jobs WHEN OLD.state <> NEW.state
BEGIN
    UPDATE job_counts SET n = n - 1 WHERE state = OLD.state;
    UPDATE job_counts SET n = n + 1 WHERE state = NEW.state;
END;

CREATE TABLE dependencies (
    job_id    INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    on_job_id INTEGER NOT NULL,
    kind      TEXT    NOT NULL CHECK (kind IN ('ok', 'any', 'fail')),
    state     TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'met', 'failed')),
    PRIMARY KEY (job_id, on_job_id, kind),
    CHECK (on_job_id < job_id)  -- a job waits only for older ones: no cycles
) WITHOUT ROWID;
CREATE INDEX dependencies_on ON dependencies (on_job_id) WHERE state = 'waiting';

CREATE TABLE gpus (
    uuid         TEXT    NOT NULL PRIMARY KEY,
    idx          INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    memory_bytes INTEGER NOT NULL,
    simulated    INTEGER NOT NULL CHECK (simulated IN (0, 1)),
    present      INTEGER NOT NULL CHECK (present IN (0, 1)),
    drained      INTEGER NOT NULL DEFAULT 0 CHECK (drained IN (0, 1)),
    drain_reason TEXT
) WITHOUT ROWID;

CREATE TABLE attempts (
    id            TEXT    NOT NULL PRIMARY KEY,
    job_id        INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL CHECK (number >= 1),
    state         TEXT    NOT NULL CHECK (state IN ('starting', 'running', 'stopping', 'ended')),
    gpus          TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(gpus)),
    n_gpus        INTEGER NOT NULL CHECK (n_gpus >= 0),
    claimed_at    REAL    NOT NULL,
    claimed_boot  REAL    NOT NULL,
    boot_id       TEXT    NOT NULL,
    shim_pid      INTEGER,
    shim_start    INTEGER,
    pid           INTEGER,
    started_at    REAL,
    deadline_at   REAL,
    ended_at      REAL,
    run_s         REAL,
    stop_reason   TEXT,
    stop_by       TEXT,
    stop_grace_s  REAL,
    stop_at       REAL,
    exit_code     INTEGER,
    signal        INTEGER,
    class         TEXT,
    rule          TEXT,
    evidence      TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(evidence)),
    explanation   TEXT,
    retry         TEXT,
    gpu_ms        INTEGER NOT NULL DEFAULT 0 CHECK (gpu_ms >= 0),
    max_rss_bytes INTEGER,
    cpu_s         REAL,
    log_bytes     INTEGER NOT NULL DEFAULT 0,
    log_dropped_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job_id, number),
    CHECK ((class IS NULL) = (state <> 'ended'))
) WITHOUT ROWID;
-- never two live copies of a job
CREATE UNIQUE INDEX attempts_one_live ON attempts (job_id) WHERE state <> 'ended';

-- a row lives as long as the GPU is given away; one row a GPU
CREATE TABLE leases (
    gpu_uuid   TEXT NOT NULL PRIMARY KEY REFERENCES gpus (uuid),
    attempt_id TEXT NOT NULL REFERENCES attempts (id),
    since      REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX leases_attempt ON leases (attempt_id);

CREATE TRIGGER leases_need_life BEFORE INSERT ON leases
WHEN NOT EXISTS (SELECT 1 FROM attempts WHERE id = NEW.attempt_id AND state <> 'ended')
BEGIN
    SELECT RAISE(ABORT, 'a lease needs a live attempt');
END;
CREATE TRIGGER attempts_end_without_leases BEFORE UPDATE OF state ON attempts
WHEN NEW.state = 'ended' AND EXISTS (SELECT 1 FROM leases WHERE attempt_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'an attempt ends after its leases');
END;
CREATE TRIGGER attempts_end_for_good BEFORE UPDATE OF state ON attempts
WHEN OLD.state = 'ended' AND NEW.state <> 'ended'
BEGIN
    SELECT RAISE(ABORT, 'an ended attempt stays ended');
END;

-- append-only: ids only grow, rows never change
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    type    TEXT NOT NULL,
    job_id  INTEGER,
    attempt INTEGER,
    data    TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data))
);
CREATE INDEX events_job ON events (job_id, id) WHERE job_id IS NOT NULL;
CREATE TRIGGER events_do_not_change BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are append-only');
END;

CREATE TABLE idempotency (
    user   TEXT NOT NULL,
    key    TEXT NOT NULL,
    body   TEXT NOT NULL,  -- SHA-256 of the request
    answer TEXT NOT NULL CHECK (json_valid(answer)),
    at     REAL NOT NULL,
    PRIMARY KEY (user, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at);

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
