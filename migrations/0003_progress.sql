-- What jobs say about themselves: progress, checkpoints, a bounded curve of metrics, and knobs that can be
-- turned while they run. NULL means that the job has not said.

ALTER TABLE attempts ADD COLUMN first_progress_at REAL;
ALTER TABLE attempts ADD COLUMN progress_at REAL;
ALTER TABLE attempts ADD COLUMN first_step INTEGER CHECK (first_step >= 0);
ALTER TABLE attempts ADD COLUMN step INTEGER CHECK (step >= 0);
ALTER TABLE attempts ADD COLUMN total_steps INTEGER CHECK (total_steps >= 0);
-- of the last checkpoint that the job announced as durable
ALTER TABLE attempts ADD COLUMN checkpoint_at REAL;
ALTER TABLE attempts ADD COLUMN checkpoint_step INTEGER CHECK (checkpoint_step >= 0);
-- the newest value of each metric (null: not a finite number)
ALTER TABLE attempts ADD COLUMN metrics TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metrics));
-- what the script lets be changed: {"lr": {"value": 0.001, "low": 0, "high": 1}}
ALTER TABLE attempts ADD COLUMN knobs TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(knobs));
-- the jobs.tuned_version that the script says it follows
ALTER TABLE attempts ADD COLUMN applied_version INTEGER NOT NULL DEFAULT 0;
-- when the last event about its progress was written: they thin out as an attempt grows old
ALTER TABLE attempts ADD COLUMN progress_event_at REAL;

-- what was asked for with `leptonctl tune`: it counts for every attempt from then on
ALTER TABLE jobs ADD COLUMN tuned TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(tuned));
ALTER TABLE jobs ADD COLUMN tuned_version INTEGER NOT NULL DEFAULT 0;

-- the curve of a job: every stride-th of the reports that came. When it is full, every other point goes and
-- the stride doubles, so that a curve of any length has between half of the limit and the limit.
CREATE TABLE curves (
    job_id INTEGER NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    stride INTEGER NOT NULL DEFAULT 1 CHECK (stride >= 1),
    seen   INTEGER NOT NULL DEFAULT 0,
    kept   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE metrics (
    job_id  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    n       INTEGER NOT NULL,  -- which report it was, a multiple of the stride
    attempt INTEGER NOT NULL,
    step    INTEGER,
    at      REAL    NOT NULL,
    data    TEXT    NOT NULL CHECK (json_valid(data)),
    PRIMARY KEY (job_id, n)
) WITHOUT ROWID;
