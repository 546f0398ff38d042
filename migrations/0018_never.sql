-- Who waits for what cannot happen any more, directly or behind others: the job whose end was the first cause.
-- Only pending jobs have one.

ALTER TABLE jobs ADD COLUMN never_cause INTEGER;
ALTER TABLE folds ADD COLUMN never_cause INTEGER;

UPDATE jobs SET never_cause = coalesce(
        (SELECT on_job_id FROM dependencies WHERE job_id = jobs.id AND state = 'failed' ORDER BY on_job_id LIMIT 1),
        (SELECT on_array_id FROM array_dependencies WHERE job_id = jobs.id AND failed > 0 ORDER BY on_array_id LIMIT 1))
    WHERE state = 'pending' AND deps_failed > 0;

-- from those to all that wait for them: for one of them, or for the array that it is a member of
WITH RECURSIVE
    behind (id, cause) AS (
        SELECT id, never_cause FROM jobs WHERE never_cause IS NOT NULL
        UNION
        SELECT d.job_id, behind.cause FROM behind JOIN dependencies AS d ON d.on_job_id = behind.id AND d.state = 'waiting'
        UNION
        SELECT a.job_id, behind.cause FROM behind JOIN jobs AS j ON j.id = behind.id
            JOIN array_dependencies AS a ON a.on_array_id = j.array_id AND a.waiting > 0
    ),
    first (id, cause) AS (SELECT id, min(cause) FROM behind GROUP BY id)
UPDATE jobs SET never_cause = (SELECT cause FROM first WHERE first.id = jobs.id)
    WHERE state = 'pending' AND never_cause IS NULL AND id IN (SELECT id FROM first);

-- what is folded waits as the first member of its array does
UPDATE folds SET never_cause = (SELECT never_cause FROM jobs WHERE id = folds.array_id) WHERE state = 'pending';

CREATE INDEX jobs_never ON jobs (array_id, id) WHERE never_cause IS NOT NULL;
CREATE INDEX folds_never ON folds (array_id, id) WHERE never_cause IS NOT NULL;
