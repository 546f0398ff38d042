-- An array is one row until its members run: `folds` holds runs of members that are alike in everything but
-- their number. They are jobs in every respect: their ids are given out, they are counted, listed and found.
-- A member gets its own row in `jobs` before it may start, or when somebody turns to it alone.

CREATE TABLE folds (
    id               INTEGER PRIMARY KEY,          -- the first of the members
    last_id          INTEGER NOT NULL,
    array_id         INTEGER NOT NULL,
    state            TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'cancelled')),
    spec             TEXT    NOT NULL CHECK (json_valid(spec)),
    name             TEXT    NOT NULL,
    user             TEXT    NOT NULL,
    project          TEXT,
    labels           TEXT    NOT NULL CHECK (json_valid(labels)),
    held             INTEGER NOT NULL CHECK (held IN (0, 1)),
    hold_reason      TEXT,
    priority         INTEGER NOT NULL,
    queue            TEXT    NOT NULL,
    gpus             INTEGER NOT NULL CHECK (gpus >= 0),
    gpu_type         TEXT,
    gpu_memory_bytes INTEGER CHECK (gpu_memory_bytes > 0),
    exclusive        INTEGER NOT NULL CHECK (exclusive IN (0, 1)),
    time_limit_s     REAL CHECK (time_limit_s > 0),
    retries          INTEGER NOT NULL CHECK (retries >= 0),
    begin_at         REAL,
    array_limit      INTEGER CHECK (array_limit > 0),
    deps_waiting     INTEGER NOT NULL CHECK (deps_waiting >= 0),
    deps_failed      INTEGER NOT NULL CHECK (deps_failed >= 0),
    submitted_at     REAL    NOT NULL,
    ended_at         REAL,
    class            TEXT,
    explanation      TEXT,
    preemptible      INTEGER NOT NULL CHECK (preemptible IN (0, 1)),
    urgent           INTEGER NOT NULL CHECK (urgent IN (0, 1)),
    signature        TEXT    NOT NULL,
    predicted_s      REAL CHECK (predicted_s > 0),
    order_at         REAL    NOT NULL,
    lane             INTEGER NOT NULL,
    due_at           REAL    NOT NULL,
    alone_at         REAL    NOT NULL,
    short_s          REAL    NOT NULL,
    version          INTEGER NOT NULL,
    CHECK (last_id >= id AND id > array_id),
    CHECK ((ended_at IS NOT NULL) = (state = 'cancelled'))
);
CREATE INDEX folds_array ON folds (array_id, id);
CREATE INDEX folds_queue ON folds (priority DESC, id) WHERE state = 'pending';
CREATE INDEX folds_ended ON folds (ended_at) WHERE ended_at IS NOT NULL;

-- a job is in one of the two, never in both
CREATE TRIGGER folds_apart BEFORE INSERT ON folds
WHEN EXISTS (SELECT 1 FROM jobs WHERE id BETWEEN NEW.id AND NEW.last_id)
     OR EXISTS (SELECT 1 FROM folds WHERE id <= NEW.last_id AND last_id >= NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'a job is folded or not');
END;
CREATE TRIGGER folds_only_shrink BEFORE UPDATE OF id, last_id ON folds
WHEN NEW.id < OLD.id OR NEW.last_id > OLD.last_id
BEGIN
    SELECT RAISE(ABORT, 'a fold only shrinks');
END;
CREATE TRIGGER jobs_apart AFTER INSERT ON jobs
WHEN NEW.array_id IS NOT NULL
     AND (SELECT last_id FROM folds WHERE id <= NEW.id ORDER BY id DESC LIMIT 1) >= NEW.id
BEGIN
    SELECT RAISE(ABORT, 'a job is folded or not');
END;
CREATE TRIGGER folds_end_once BEFORE UPDATE OF state ON folds WHEN OLD.state = 'cancelled' AND NEW.state <> 'cancelled'
BEGIN
    SELECT RAISE(ABORT, 'illegal transition of a job');
END;
CREATE TRIGGER folds_need_queue BEFORE INSERT ON folds
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;
CREATE TRIGGER folds_move_to_queue BEFORE UPDATE OF queue ON folds
WHEN NOT EXISTS (SELECT 1 FROM queues WHERE name = NEW.queue)
BEGIN
    SELECT RAISE(ABORT, 'a job needs a queue');
END;

-- how many pending jobs are held: kept, not counted
CREATE TABLE held_count (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    n   INTEGER NOT NULL CHECK (n >= 0)
) WITHOUT ROWID;
INSERT INTO held_count SELECT 1, count(*) FROM jobs WHERE state = 'pending' AND held = 1;

CREATE TRIGGER jobs_held_insert AFTER INSERT ON jobs WHEN NEW.held = 1
BEGIN
    UPDATE held_count SET n = n + 1;
END;
CREATE TRIGGER jobs_held_change AFTER UPDATE OF held, state ON jobs
WHEN (OLD.held = 1 AND OLD.state = 'pending') <> (NEW.held = 1 AND NEW.state = 'pending')
BEGIN
    UPDATE held_count SET n = n + CASE WHEN NEW.held = 1 AND NEW.state = 'pending' THEN 1 ELSE -1 END;
END;
CREATE TRIGGER jobs_held_delete AFTER DELETE ON jobs WHEN OLD.held = 1 AND OLD.state = 'pending'
BEGIN
    UPDATE held_count SET n = n - 1;
END;

-- what is folded counts as what it stands for
CREATE TRIGGER folds_count_insert AFTER INSERT ON folds
BEGIN
    UPDATE job_counts SET n = n + NEW.last_id - NEW.id + 1 WHERE state = NEW.state;
    UPDATE held_count SET n = n + NEW.last_id - NEW.id + 1 WHERE NEW.held = 1 AND NEW.state = 'pending';
    INSERT INTO pending_counts SELECT 'user', NEW.user, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'queue', NEW.queue, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'project', NEW.project, NEW.last_id - NEW.id + 1
        WHERE NEW.state = 'pending' AND NEW.project IS NOT NULL ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;
CREATE TRIGGER folds_count_delete AFTER DELETE ON folds
BEGIN
    UPDATE job_counts SET n = n - (OLD.last_id - OLD.id + 1) WHERE state = OLD.state;
    UPDATE held_count SET n = n - (OLD.last_id - OLD.id + 1) WHERE OLD.held = 1 AND OLD.state = 'pending';
    UPDATE pending_counts SET n = n - (OLD.last_id - OLD.id + 1)
        WHERE OLD.state = 'pending' AND ((kind = 'user' AND name = OLD.user)
            OR (kind = 'queue' AND name = OLD.queue) OR (kind = 'project' AND name = OLD.project));
END;
CREATE TRIGGER folds_count_change AFTER UPDATE OF id, last_id, state, held, project, queue ON folds
BEGIN
    UPDATE job_counts SET n = n - (OLD.last_id - OLD.id + 1) WHERE state = OLD.state;
    UPDATE job_counts SET n = n + NEW.last_id - NEW.id + 1 WHERE state = NEW.state;
    UPDATE held_count SET n = n - (OLD.last_id - OLD.id + 1) WHERE OLD.held = 1 AND OLD.state = 'pending';
    UPDATE held_count SET n = n + NEW.last_id - NEW.id + 1 WHERE NEW.held = 1 AND NEW.state = 'pending';
    UPDATE pending_counts SET n = n - (OLD.last_id - OLD.id + 1)
        WHERE OLD.state = 'pending' AND ((kind = 'user' AND name = OLD.user)
            OR (kind = 'queue' AND name = OLD.queue) OR (kind = 'project' AND name = OLD.project));
    INSERT INTO pending_counts SELECT 'user', NEW.user, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'queue', NEW.queue, NEW.last_id - NEW.id + 1 WHERE NEW.state = 'pending'
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'project', NEW.project, NEW.last_id - NEW.id + 1
        WHERE NEW.state = 'pending' AND NEW.project IS NOT NULL ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;

-- how many members of an array that is partly folded stand in `jobs`, could start, and stand where the folded
-- ones do in every order: kept, not counted
CREATE TABLE arrays (
    id       INTEGER NOT NULL PRIMARY KEY,
    ready    INTEGER NOT NULL CHECK (ready >= 0),
    queue    TEXT    NOT NULL,
    gpus     INTEGER NOT NULL,
    order_at REAL    NOT NULL,
    due_at   REAL    NOT NULL,
    alone_at REAL    NOT NULL,
    short_s  REAL    NOT NULL
);
CREATE TRIGGER arrays_begin AFTER INSERT ON folds
BEGIN
    INSERT OR IGNORE INTO arrays SELECT NEW.array_id, count(*), NEW.queue, NEW.gpus, NEW.order_at, NEW.due_at,
        NEW.alone_at, NEW.short_s FROM jobs
        WHERE array_id = NEW.array_id AND state = 'pending' AND held = 0 AND deps_waiting = 0
        AND deps_failed = 0 AND backoff_boot IS NULL AND queue = NEW.queue AND gpus = NEW.gpus
        AND order_at = NEW.order_at AND due_at = NEW.due_at AND alone_at = NEW.alone_at AND short_s = NEW.short_s;
END;
CREATE TRIGGER arrays_end AFTER DELETE ON folds
WHEN NOT EXISTS (SELECT 1 FROM folds WHERE array_id = OLD.array_id)
BEGIN
    DELETE FROM arrays WHERE id = OLD.array_id;
END;
CREATE TRIGGER arrays_member_insert AFTER INSERT ON jobs WHEN NEW.array_id IS NOT NULL
BEGIN
    UPDATE arrays SET ready = ready + (NEW.state = 'pending' AND NEW.held = 0 AND NEW.deps_waiting = 0 AND NEW.deps_failed = 0
            AND NEW.backoff_boot IS NULL AND NEW.queue = queue AND NEW.gpus = gpus AND NEW.order_at = order_at
            AND NEW.due_at = due_at AND NEW.alone_at = alone_at AND NEW.short_s = short_s)
        WHERE id = NEW.array_id;
END;
CREATE TRIGGER arrays_member_change
AFTER UPDATE OF state, held, deps_waiting, deps_failed, backoff_boot, queue, gpus, order_at, due_at, alone_at, short_s ON jobs
WHEN NEW.array_id IS NOT NULL
BEGIN
    UPDATE arrays SET ready = ready
        + (NEW.state = 'pending' AND NEW.held = 0 AND NEW.deps_waiting = 0 AND NEW.deps_failed = 0
            AND NEW.backoff_boot IS NULL AND NEW.queue = queue AND NEW.gpus = gpus AND NEW.order_at = order_at
            AND NEW.due_at = due_at AND NEW.alone_at = alone_at AND NEW.short_s = short_s)
        - (OLD.state = 'pending' AND OLD.held = 0 AND OLD.deps_waiting = 0 AND OLD.deps_failed = 0
            AND OLD.backoff_boot IS NULL AND OLD.queue = queue AND OLD.gpus = gpus AND OLD.order_at = order_at
            AND OLD.due_at = due_at AND OLD.alone_at = alone_at AND OLD.short_s = short_s)
        WHERE id = NEW.array_id;
END;
CREATE TRIGGER arrays_member_delete AFTER DELETE ON jobs WHEN OLD.array_id IS NOT NULL
BEGIN
    UPDATE arrays SET ready = ready - (OLD.state = 'pending' AND OLD.held = 0 AND OLD.deps_waiting = 0 AND OLD.deps_failed = 0
            AND OLD.backoff_boot IS NULL AND OLD.queue = queue AND OLD.gpus = gpus AND OLD.order_at = order_at
            AND OLD.due_at = due_at AND OLD.alone_at = alone_at AND OLD.short_s = short_s)
        WHERE id = OLD.array_id;
END;

-- who waits for a whole array: one row, with how many of its members have not ended, and how many ended
-- other than wanted
CREATE TABLE array_dependencies (
    job_id      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    on_array_id INTEGER NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('ok', 'any', 'fail')),
    waiting     INTEGER NOT NULL CHECK (waiting >= 0),
    failed      INTEGER NOT NULL CHECK (failed >= 0),
    PRIMARY KEY (job_id, on_array_id, kind),
    CHECK (on_array_id < job_id)
) WITHOUT ROWID;
CREATE INDEX array_dependencies_on ON array_dependencies (on_array_id);

-- the oldest job that could start now
CREATE INDEX jobs_oldest ON jobs (id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND backoff_boot IS NULL;
