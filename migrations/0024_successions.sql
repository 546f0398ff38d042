-- An attempt that may start at any moment without the daemon: its shim waits in a succession, for the slot of a
-- running attempt that ends well. `slots` are the slots that it may take, each a list of the UUIDs of its GPUs
-- (an empty one: a CPU slot). A row is written before the shim is told so, and goes when the attempt is claimed, or
-- when its shim has answered that it will not start. `after` (an attempt) is only in rows of earlier releases.
DROP INDEX successors_job;
ALTER TABLE successors RENAME TO successors_before;
CREATE TABLE successors (
    attempt_id TEXT    NOT NULL PRIMARY KEY,
    job_id     INTEGER NOT NULL UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL,
    boot_id    TEXT    NOT NULL,
    shim_pid   INTEGER NOT NULL,
    shim_start INTEGER NOT NULL,
    slots      TEXT    NOT NULL CHECK (json_valid(slots))
) WITHOUT ROWID;
INSERT OR IGNORE INTO successors (attempt_id, job_id, number, boot_id, shim_pid, shim_start, slots)
    SELECT one.attempt_id, one.job_id, one.number, one.boot_id, one.shim_pid, one.shim_start,
           (SELECT json_group_array(json((SELECT json_group_array(json_extract(gpu.value, '$.uuid'))
                                          FROM json_each(attempts.gpus) AS gpu)))
            FROM successors_before AS other JOIN attempts ON attempts.id = other.after
            WHERE other.attempt_id = one.attempt_id)
    FROM successors_before AS one GROUP BY one.attempt_id;
DROP TABLE successors_before;

-- What is to become of such a job can be changed only when its shim has answered: the store has that done, and
-- tries the change again.
CREATE TRIGGER jobs_given_stay BEFORE UPDATE OF state, held, spec, name, labels, gpus, gpu_type, gpu_memory_bytes,
    exclusive, cuda_devices, queue, time_limit_s, retries, begin_at, backoff_boot, priority,
    tuned_version ON jobs
WHEN EXISTS (SELECT 1 FROM successors WHERE job_id = OLD.id)
 AND (NEW.state, NEW.held, NEW.spec, NEW.name, NEW.labels, NEW.gpus, NEW.gpu_type, NEW.gpu_memory_bytes,
      NEW.exclusive, NEW.cuda_devices, NEW.queue, NEW.time_limit_s, NEW.retries, NEW.begin_at, NEW.backoff_boot,
      NEW.priority, NEW.tuned_version)
     IS NOT (OLD.state, OLD.held, OLD.spec, OLD.name, OLD.labels, OLD.gpus, OLD.gpu_type, OLD.gpu_memory_bytes,
      OLD.exclusive, OLD.cuda_devices, OLD.queue, OLD.time_limit_s, OLD.retries, OLD.begin_at, OLD.backoff_boot,
      OLD.priority, OLD.tuned_version)
BEGIN
    SELECT RAISE (ABORT, 'the job may start at any moment');
END;
CREATE TRIGGER jobs_given_are_kept BEFORE DELETE ON jobs
WHEN EXISTS (SELECT 1 FROM successors WHERE job_id = OLD.id)
BEGIN
    SELECT RAISE (ABORT, 'the job may start at any moment');
END;
CREATE TRIGGER gpus_given_stay BEFORE UPDATE OF drained ON gpus
WHEN NEW.drained = 1 AND OLD.drained = 0
 AND EXISTS (SELECT 1 FROM successors WHERE instr(slots, '"' || OLD.uuid || '"'))
BEGIN
    SELECT RAISE (ABORT, 'the job may start at any moment');
END;
