-- Sweeps: the same command with many configurations. A sweep is an array (its id is that of its first job) whose
-- members have specs of their own. What its trials showed at the rungs, and what was decided there, is written down
-- before anything is done about it: a daemon that comes back decides the same.

CREATE TABLE sweeps (
    id           INTEGER NOT NULL PRIMARY KEY,  -- jobs.array_id of its trials
    name         TEXT    NOT NULL,
    user         TEXT    NOT NULL,
    metric       TEXT    NOT NULL,
    mode         TEXT    NOT NULL CHECK (mode IN ('min', 'max')),
    halving      INTEGER NOT NULL CHECK (halving IN (0, 1)),
    eta          INTEGER NOT NULL CHECK (eta >= 2),
    -- the first rung; NULL: a trial has to say how many steps there are before that is known
    min_step     INTEGER CHECK (min_step >= 1),
    asked        TEXT    NOT NULL CHECK (json_valid(asked)),
    submitted_at REAL    NOT NULL
);

CREATE TABLE trials (
    job_id    INTEGER NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    sweep_id  INTEGER NOT NULL REFERENCES sweeps (id),
    params    TEXT    NOT NULL CHECK (json_valid(params)),
    -- of the metric; NULL while it has shown none, last also where it was not a finite number
    last      REAL,
    last_step INTEGER,
    best      REAL,
    best_step INTEGER
);
CREATE INDEX trials_sweep ON trials (sweep_id, job_id);
CREATE TRIGGER sweeps_end_with_their_trials AFTER DELETE ON trials
WHEN NOT EXISTS (SELECT 1 FROM trials WHERE sweep_id = OLD.sweep_id)
BEGIN
    DELETE FROM sweeps WHERE id = OLD.sweep_id;
END;

CREATE TABLE rungs (
    id       INTEGER PRIMARY KEY,  -- in the order in which they were reached
    sweep_id INTEGER NOT NULL,
    job_id   INTEGER NOT NULL REFERENCES trials (job_id) ON DELETE CASCADE,
    rung     INTEGER NOT NULL CHECK (rung >= 1),
    step     INTEGER NOT NULL CHECK (step >= rung),  -- of the report that was taken
    value    REAL,                                   -- NULL: not a finite number
    at       REAL    NOT NULL,
    verdict  TEXT CHECK (verdict IN ('on', 'stop')), -- NULL: not decided yet
    note     TEXT,
    UNIQUE (job_id, rung)
);
CREATE INDEX rungs_sweep ON rungs (sweep_id, rung, id);
CREATE INDEX rungs_open ON rungs (id) WHERE verdict IS NULL;

-- why leptond stopped an attempt, in words; what the steps that it did not run would have taken (an estimate)
ALTER TABLE attempts ADD COLUMN stop_note TEXT;
ALTER TABLE attempts ADD COLUMN spared_ms INTEGER NOT NULL DEFAULT 0 CHECK (spared_ms >= 0);
ALTER TABLE past_attempts ADD COLUMN spared_ms INTEGER NOT NULL DEFAULT 0;

DROP TRIGGER jobs_leave_their_time;
CREATE TRIGGER jobs_leave_their_time BEFORE DELETE ON jobs
BEGIN
    INSERT INTO past_attempts (id, job_id, number, name, user, project, queue, gpus, n_gpus, claimed_at, startable_at,
                               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
                               retries_saved, spared_ms, job_state, job_class)
        SELECT id, job_id, number, OLD.name, OLD.user, OLD.project, OLD.queue, gpus, n_gpus, claimed_at, startable_at,
               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
               retries_saved, spared_ms, OLD.state, OLD.class
        FROM attempts WHERE job_id = OLD.id AND n_gpus > 0 AND state = 'ended';
    INSERT INTO past_use
        SELECT attempt_use.* FROM attempt_use JOIN past_attempts ON past_attempts.id = attempt_use.attempt_id
        WHERE past_attempts.job_id = OLD.id;
END;
