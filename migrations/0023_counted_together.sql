-- Jobs that one statement stores are counted at once: a row here says how many of a kind, and while there is one, rows
-- of jobs are not counted one by one. It is there only within the transaction that stores them.

CREATE TABLE counted_together (
    user    TEXT    NOT NULL,
    queue   TEXT    NOT NULL,
    project TEXT,
    held    INTEGER NOT NULL CHECK (held IN (0, 1)),
    n       INTEGER NOT NULL CHECK (n > 0)
);

CREATE TRIGGER counted_together_insert AFTER INSERT ON counted_together
BEGIN
    UPDATE job_counts SET n = n + NEW.n WHERE state = 'pending';
    UPDATE held_count SET n = n + NEW.n WHERE NEW.held = 1;
    INSERT INTO pending_counts VALUES ('user', NEW.user, NEW.n) ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, NEW.n) ON CONFLICT DO UPDATE SET n = n + excluded.n;
    INSERT INTO pending_counts SELECT 'project', NEW.project, NEW.n WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;

DROP TRIGGER jobs_count_insert;
CREATE TRIGGER jobs_count_insert AFTER INSERT ON jobs WHEN NOT EXISTS (SELECT 1 FROM counted_together)
BEGIN
    UPDATE job_counts SET n = n + 1 WHERE state = NEW.state;
END;

DROP TRIGGER jobs_held_insert;
CREATE TRIGGER jobs_held_insert AFTER INSERT ON jobs
WHEN NEW.held = 1 AND NOT EXISTS (SELECT 1 FROM counted_together)
BEGIN
    UPDATE held_count SET n = n + 1;
END;

DROP TRIGGER jobs_pending_insert;
CREATE TRIGGER jobs_pending_insert AFTER INSERT ON jobs WHEN NOT EXISTS (SELECT 1 FROM counted_together)
BEGIN
    INSERT INTO pending_counts VALUES ('user', NEW.user, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts VALUES ('queue', NEW.queue, 1) ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO pending_counts SELECT 'project', NEW.project, 1 WHERE NEW.project IS NOT NULL
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
