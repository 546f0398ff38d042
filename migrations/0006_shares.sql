-- Queues and whose GPUs are whose; what users and projects may have at a time and have had; and GPUs that
-- several jobs share by memory.

CREATE TABLE queues (
    name             TEXT    NOT NULL PRIMARY KEY,
    state            TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    weight           REAL    NOT NULL DEFAULT 1.0 CHECK (weight > 0),
    default_priority INTEGER NOT NULL DEFAULT 0,
    default_time_limit_s REAL CHECK (default_time_limit_s > 0),
    max_time_limit_s REAL CHECK (max_time_limit_s > 0),
    max_gpus         INTEGER CHECK (max_gpus >= 0),       -- of one job
    users            TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(users)),  -- empty: everybody
    borrow           INTEGER NOT NULL DEFAULT 0 CHECK (borrow IN (0, 1)),
    lend             TEXT    NOT NULL DEFAULT 'all' CHECK (lend IN ('all', 'preemptible', 'none')),
    version          INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;
INSERT INTO queues (name) VALUES ('default');

CREATE TRIGGER queues_keep_default BEFORE DELETE ON queues WHEN OLD.name = 'default'
BEGIN
    SELECT RAISE(ABORT, 'the default queue stays');
END;

-- a GPU belongs to one queue at most
CREATE TABLE queue_gpus (
    gpu_uuid TEXT NOT NULL PRIMARY KEY REFERENCES gpus (uuid),
    queue    TEXT NOT NULL REFERENCES queues (name) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX queue_gpus_queue ON queue_gpus (queue);

ALTER TABLE jobs ADD COLUMN queue TEXT NOT NULL DEFAULT 'default';
ALTER TABLE jobs ADD COLUMN gpu_type TEXT;
ALTER TABLE jobs ADD COLUMN gpu_memory_bytes INTEGER CHECK (gpu_memory_bytes > 0);
ALTER TABLE jobs ADD COLUMN exclusive INTEGER NOT NULL DEFAULT 0 CHECK (exclusive IN (0, 1));

-- what is left of forgotten jobs knows their queue too
ALTER TABLE past_attempts ADD COLUMN queue TEXT;
DROP TRIGGER jobs_leave_their_time;
CREATE TRIGGER jobs_leave_their_time BEFORE DELETE ON jobs
BEGIN
    INSERT INTO past_attempts (id, job_id, number, name, user, project, queue, gpus, n_gpus, claimed_at, startable_at,
                               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
                               retries_saved, job_state, job_class)
        SELECT id, job_id, number, OLD.name, OLD.user, OLD.project, OLD.queue, gpus, n_gpus, claimed_at, startable_at,
               started_at, first_progress_at, checkpoint_at, stop_at, ended_at, run_s, class, stop_reason, gap_cause,
               retries_saved, OLD.state, OLD.class
        FROM attempts WHERE job_id = OLD.id AND n_gpus > 0 AND state = 'ended';
    INSERT INTO past_use
        SELECT attempt_use.* FROM attempt_use JOIN past_attempts ON past_attempts.id = attempt_use.attempt_id
        WHERE past_attempts.job_id = OLD.id;
END;

CREATE TRIGGER jobs_need_queue BEFORE INSERT ON jobs
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;
CREATE TRIGGER jobs_move_to_queue BEFORE UPDATE OF queue ON jobs
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;

-- how many jobs of each user, project and queue wait: kept, not counted
CREATE TABLE pending_counts (
    kind TEXT    NOT NULL CHECK (kind IN ('user', 'project', 'queue')),
    name TEXT    NOT NULL,
    n    INTEGER NOT NULL CHECK (n >= 0),
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
INSERT INTO pending_counts SELECT 'user', user, count(*) FROM jobs WHERE state = 'pending' GROUP BY user;
INSERT INTO pending_counts SELECT 'project', project, count(*) FROM jobs
    WHERE state = 'pending' AND project IS NOT NULL GROUP BY project;
INSERT INTO pending_counts SELECT 'queue', queue, count(*) FROM jobs WHERE state = 'pending' GROUP BY queue;

CREATE TRIGGER jobs_pending_insert AFTER INSERT ON jobs
BEGIN
    INSERT INTO pending_counts VALUES ('user', NEW.user, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts SELECT 'project', NEW.project, 1 WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_leave AFTER UPDATE OF state ON jobs
WHEN OLD.state = 'pending' AND NEW.state <> 'pending'
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'user' AND name = OLD.user;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'queue' AND name = OLD.queue;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'project' AND name = OLD.project;
END;
CREATE TRIGGER jobs_pending_return AFTER UPDATE OF state ON jobs
WHEN OLD.state <> 'pending' AND NEW.state = 'pending'
BEGIN
    INSERT INTO pending_counts VALUES ('user', NEW.user, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts SELECT 'project', NEW.project, 1 WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_project AFTER UPDATE OF project ON jobs
WHEN OLD.state = 'pending' AND NEW.state = 'pending' AND OLD.project IS NOT NEW.project
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'project' AND name = OLD.project;
    INSERT INTO pending_counts SELECT 'project', NEW.project, 1 WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_queue AFTER UPDATE OF queue ON jobs
WHEN OLD.state = 'pending' AND NEW.state = 'pending' AND OLD.queue <> NEW.queue
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'queue' AND name = OLD.queue;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER jobs_pending_delete AFTER DELETE ON jobs WHEN OLD.state = 'pending'
BEGIN
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'user' AND name = OLD.user;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'queue' AND name = OLD.queue;
    UPDATE pending_counts SET n = n - 1 WHERE kind = 'project' AND name = OLD.project;
END;

-- what was used of ended attempts, faded up to `at`; what runs now is added when it is read
CREATE TABLE shares (
    user    TEXT NOT NULL,
    project TEXT NOT NULL,  -- '' for none
    queue   TEXT NOT NULL,
    gpu_s   REAL NOT NULL CHECK (gpu_s >= 0),
    at      REAL NOT NULL,
    PRIMARY KEY (user, project, queue)
) WITHOUT ROWID;

-- caps and weights of single users and projects; NULL: as the configuration says
CREATE TABLE limits (
    kind        TEXT NOT NULL CHECK (kind IN ('user', 'project')),
    name        TEXT NOT NULL,
    max_gpus    INTEGER CHECK (max_gpus >= 0),
    max_pending INTEGER CHECK (max_pending >= 0),
    weight      REAL CHECK (weight > 0),
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- leases by share: a GPU is one attempt's, or several have parts of its memory
CREATE TABLE shared_leases (
    gpu_uuid     TEXT NOT NULL REFERENCES gpus (uuid),
    attempt_id   TEXT NOT NULL REFERENCES attempts (id),
    since        REAL NOT NULL,
    memory_bytes INTEGER CHECK (memory_bytes > 0),  -- NULL: the whole GPU
    PRIMARY KEY (gpu_uuid, attempt_id)
) WITHOUT ROWID;
INSERT INTO shared_leases (gpu_uuid, attempt_id, since) SELECT gpu_uuid, attempt_id, since FROM leases;
DROP TRIGGER attempts_end_without_leases;
DROP TABLE leases;
ALTER TABLE shared_leases RENAME TO leases;
CREATE INDEX leases_attempt ON leases (attempt_id);
CREATE UNIQUE INDEX leases_whole ON leases (gpu_uuid) WHERE memory_bytes IS NULL;

CREATE TRIGGER leases_need_life BEFORE INSERT ON leases
WHEN NOT EXISTS (SELECT 1 FROM attempts WHERE id = NEW.attempt_id AND state <> 'ended')
BEGIN
    SELECT RAISE(ABORT, 'a lease needs a live attempt');
END;
CREATE TRIGGER leases_whole_or_shared BEFORE INSERT ON leases
WHEN EXISTS (
    SELECT 1 FROM leases WHERE gpu_uuid = NEW.gpu_uuid AND (memory_bytes IS NULL OR NEW.memory_bytes IS NULL)
)
BEGIN
    SELECT RAISE(ABORT, 'a GPU is leased whole or in shares');
END;
CREATE TRIGGER leases_within_memory BEFORE INSERT ON leases
WHEN NEW.memory_bytes
     + (SELECT coalesce(sum(memory_bytes), 0) FROM leases WHERE gpu_uuid = NEW.gpu_uuid)
     > (SELECT memory_bytes FROM gpus WHERE uuid = NEW.gpu_uuid)
BEGIN
    SELECT RAISE(ABORT, 'the shares of a GPU are within its memory');
END;
CREATE TRIGGER leases_do_not_change BEFORE UPDATE ON leases
BEGIN
    SELECT RAISE(ABORT, 'a lease does not change');
END;
CREATE TRIGGER attempts_end_without_leases BEFORE UPDATE OF state ON attempts
WHEN NEW.state = 'ended' AND EXISTS (SELECT 1 FROM leases WHERE attempt_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'an attempt ends after its leases');
END;
