-- What has to be noted while things happen so that every GPU-second of the past can be put into one box
-- later. All of it is transitions, written inside transactions that happen anyway or a few together: none is
-- a sample, and none costs a job's start or end a commit of its own. Amounts of money are integers,
-- millionths of the currency.

-- when a device came into service, left it, and why
CREATE TABLE gpu_service (
    gpu_uuid TEXT    NOT NULL,
    at       REAL    NOT NULL,
    present  INTEGER NOT NULL CHECK (present IN (0, 1)),
    drained  TEXT,   -- why, if it is
    sick     TEXT,   -- what it says, if it does not answer properly
    PRIMARY KEY (gpu_uuid, at)
) WITHOUT ROWID;

-- devices known from before count from the first attempt that this database knows
INSERT INTO gpu_service (gpu_uuid, at, present, drained)
    SELECT uuid, (SELECT min(claimed_at) FROM attempts), present, drain_reason FROM gpus
    WHERE EXISTS (SELECT 1 FROM attempts);

-- what an hour of a device costs, from when on; a new row only when that changes
CREATE TABLE gpu_prices (
    gpu_uuid TEXT NOT NULL,
    at       REAL NOT NULL,
    micros   INTEGER CHECK (micros >= 0),
    currency TEXT,
    model    TEXT NOT NULL,
    source   TEXT,
    as_of    TEXT,
    PRIMARY KEY (gpu_uuid, at)
) WITHOUT ROWID;

-- what the queue was like for GPUs that were free
CREATE TABLE demand (
    at    REAL NOT NULL PRIMARY KEY,
    kind  TEXT NOT NULL CHECK (kind IN ('none', 'fits', 'blocked')),
    cause TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

-- when the last process of a device's last attempt was gone
ALTER TABLE gpus ADD COLUMN released_at REAL;

ALTER TABLE attempts ADD COLUMN startable_at REAL;
ALTER TABLE attempts ADD COLUMN gap_cause TEXT;
ALTER TABLE attempts ADD COLUMN price_micros INTEGER CHECK (price_micros >= 0); -- an hour of all its GPUs
ALTER TABLE attempts ADD COLUMN signature TEXT;
ALTER TABLE attempts ADD COLUMN retries_saved INTEGER NOT NULL DEFAULT 0 CHECK (retries_saved >= 0);
CREATE INDEX attempts_gpu_end ON attempts (ended_at) WHERE n_gpus > 0;
CREATE INDEX attempts_gpu_live ON attempts (claimed_at) WHERE n_gpus > 0 AND state <> 'ended';

-- what the samples of a device amount to over an attempt
CREATE TABLE attempt_use (
    attempt_id       TEXT    NOT NULL REFERENCES attempts (id) ON DELETE CASCADE,
    gpu_uuid         TEXT    NOT NULL,
    sampled_ms       INTEGER NOT NULL DEFAULT 0,
    idle_ms          INTEGER NOT NULL DEFAULT 0,
    energy_mj        INTEGER,
    energy_source    TEXT,
    first_use_at     REAL,
    max_utilization  REAL,
    max_memory_bytes INTEGER,
    PRIMARY KEY (attempt_id, gpu_uuid)
) WITHOUT ROWID;

-- energy that devices took while nobody had them, by the hour
CREATE TABLE idle_energy (
    hour          INTEGER NOT NULL, -- hours since the epoch
    gpu_uuid      TEXT    NOT NULL,
    energy_mj     INTEGER NOT NULL,
    energy_source TEXT    NOT NULL,
    PRIMARY KEY (hour, gpu_uuid)
) WITHOUT ROWID;

-- what ended attempts cost, by the day of their end: budgets and counters read it, and it only grows
CREATE TABLE spend (
    day         INTEGER NOT NULL, -- days since the epoch, UTC
    user        TEXT    NOT NULL,
    project     TEXT    NOT NULL DEFAULT '',
    gpu_ms      INTEGER NOT NULL DEFAULT 0,
    cost_micros INTEGER NOT NULL DEFAULT 0,
    unpriced_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, user, project)
) WITHOUT ROWID;

CREATE TABLE budgets (
    scope         TEXT NOT NULL CHECK (scope IN ('user', 'project')),
    name          TEXT NOT NULL,
    period        TEXT NOT NULL CHECK (period IN ('day', 'week', 'month')),
    amount_micros INTEGER CHECK (amount_micros >= 0),
    gpu_hours     REAL CHECK (gpu_hours >= 0),
    action        TEXT NOT NULL CHECK (action IN ('warn', 'refuse')),
    set_by        TEXT NOT NULL,
    set_at        REAL NOT NULL,
    PRIMARY KEY (scope, name),
    CHECK ((amount_micros IS NULL) <> (gpu_hours IS NULL))
) WITHOUT ROWID;
-- what a budget's owner still has in the queue
CREATE INDEX jobs_open_user ON jobs (user) WHERE ended_at IS NULL AND gpus > 0;
CREATE INDEX jobs_open_project ON jobs (project) WHERE ended_at IS NULL AND gpus > 0 AND project IS NOT NULL;

-- what is left of attempts whose jobs are forgotten: their time was paid all the same
CREATE TABLE past_attempts (
    id            TEXT    NOT NULL PRIMARY KEY,
    job_id        INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    name          TEXT    NOT NULL,
    user          TEXT    NOT NULL,
    project       TEXT,
    gpus          TEXT    NOT NULL,
    n_gpus        INTEGER NOT NULL,
    claimed_at    REAL    NOT NULL,
    startable_at  REAL,
    started_at    REAL,
    first_progress_at REAL,
    checkpoint_at REAL,
    stop_at       REAL,
    ended_at      REAL    NOT NULL,
    run_s         REAL,
    class         TEXT    NOT NULL,
    stop_reason   TEXT,
    gap_cause     TEXT,
    retries_saved INTEGER NOT NULL,
    job_state     TEXT    NOT NULL,
    job_class     TEXT
) WITHOUT ROWID;
CREATE INDEX past_attempts_end ON past_attempts (ended_at);
CREATE TABLE past_use (
    attempt_id       TEXT    NOT NULL REFERENCES past_attempts (id) ON DELETE CASCADE,
    gpu_uuid         TEXT    NOT NULL,
    sampled_ms       INTEGER NOT NULL,
    idle_ms          INTEGER NOT NULL,
    energy_mj        INTEGER,
    energy_source    TEXT,
    first_use_at     REAL,
    max_utilization  REAL,
    max_memory_bytes INTEGER,
    PRIMARY KEY (attempt_id, gpu_uuid)
) WITHOUT ROWID;

CREATE TRIGGER jobs_leave_their_time BEFORE DELETE ON jobs
BEGIN
    INSERT INTO past_attempts (id, job_id, number, name, user, project, gpus, n_gpus, claimed_at, startable_at,
                               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
                               retries_saved, job_state, job_class)
        SELECT id, job_id, number, OLD.name, OLD.user, OLD.project, gpus, n_gpus, claimed_at, startable_at,
               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
               retries_saved, OLD.state, OLD.class
        FROM attempts WHERE job_id = OLD.id AND n_gpus > 0 AND state = 'ended';
    INSERT INTO past_use
        SELECT attempt_use.* FROM attempt_use JOIN past_attempts ON past_attempts.id = attempt_use.attempt_id
        WHERE past_attempts.job_id = OLD.id;
END;
