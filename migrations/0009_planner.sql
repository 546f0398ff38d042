-- What the planner needs to know of a job without looking at the whole queue: its places in the orders of
-- the policies (leptond/core/ranks.py), worked out when it is stored and whenever they change; and what is
-- known of the runs of its like. Jobs that are pending now get their places when the daemon starts.

ALTER TABLE jobs ADD COLUMN preemptible INTEGER NOT NULL DEFAULT 0 CHECK (preemptible IN (0, 1));
ALTER TABLE jobs ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0 CHECK (urgent IN (0, 1));
-- what its command is, numbers apart: jobs of the same are expected to run as long
ALTER TABLE jobs ADD COLUMN signature TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN predicted_s REAL CHECK (predicted_s > 0);
ALTER TABLE jobs ADD COLUMN spent_preempt INTEGER NOT NULL DEFAULT 0 CHECK (spent_preempt >= 0);
ALTER TABLE jobs ADD COLUMN order_at REAL NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN lane INTEGER NOT NULL DEFAULT 0 CHECK (lane IN (0, 1));
ALTER TABLE jobs ADD COLUMN due_at REAL NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN alone_at REAL NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN short_s REAL NOT NULL DEFAULT 0;

-- the planner's windows: what could start, in the orders of the policies
DROP INDEX jobs_ready;
DROP INDEX jobs_ready_cpu;
CREATE INDEX jobs_by_order ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0;
CREATE INDEX jobs_by_order_cpu ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus = 0;
CREATE INDEX jobs_by_due ON jobs (lane, due_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0;
CREATE INDEX jobs_by_due_alone ON jobs (alone_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0;
CREATE INDEX jobs_by_run ON jobs (short_s, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0;
CREATE INDEX jobs_urgent ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND urgent = 1;
CREATE INDEX jobs_preemptible ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND preemptible = 1;

-- the last two successful runs of a user's command on so many GPUs (seconds in all attempts), and what a
-- preemption of it cost in work and start-up, as a moving mean
CREATE TABLE runs (
    user            TEXT    NOT NULL,
    signature       TEXT    NOT NULL,
    gpus            INTEGER NOT NULL,
    last_s          REAL,
    before_s        REAL,
    eviction_cost_s REAL,
    at              REAL    NOT NULL,
    PRIMARY KEY (user, signature, gpus)
) WITHOUT ROWID;
CREATE INDEX runs_at ON runs (at);
