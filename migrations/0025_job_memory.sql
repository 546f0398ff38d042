-- Memory of the machine, and CPUs, that a job may use; and the most memory that an attempt has used.

ALTER TABLE jobs ADD COLUMN mem_bytes INTEGER CHECK (mem_bytes > 0);
ALTER TABLE jobs ADD COLUMN cpus INTEGER CHECK (cpus > 0);
ALTER TABLE folds ADD COLUMN mem_bytes INTEGER CHECK (mem_bytes > 0);
ALTER TABLE folds ADD COLUMN cpus INTEGER CHECK (cpus > 0);
ALTER TABLE attempts ADD COLUMN peak_mem_bytes INTEGER;

-- These are changed as little as the rest while a job may start at any moment.
DROP TRIGGER jobs_given_stay;
CREATE TRIGGER jobs_given_stay BEFORE UPDATE OF state, held, spec, name, labels, gpus, gpu_type, gpu_memory_bytes,
    exclusive, mem_bytes, cpus, cuda_devices, queue, time_limit_s, retries, begin_at, backoff_boot, priority,
    tuned_version ON jobs
WHEN EXISTS (SELECT 1 FROM successors WHERE job_id = OLD.id)
 AND (NEW.state, NEW.held, NEW.spec, NEW.name, NEW.labels, NEW.gpus, NEW.gpu_type, NEW.gpu_memory_bytes,
      NEW.exclusive, NEW.mem_bytes, NEW.cpus, NEW.cuda_devices, NEW.queue, NEW.time_limit_s,
      NEW.retries, NEW.begin_at, NEW.backoff_boot, NEW.priority, NEW.tuned_version)
     IS NOT (OLD.state, OLD.held, OLD.spec, OLD.name, OLD.labels, OLD.gpus, OLD.gpu_type, OLD.gpu_memory_bytes,
      OLD.exclusive, OLD.mem_bytes, OLD.cpus, OLD.cuda_devices, OLD.queue, OLD.time_limit_s,
      OLD.retries, OLD.begin_at, OLD.backoff_boot, OLD.priority, OLD.tuned_version)
BEGIN
    SELECT RAISE (ABORT, 'the job may start at any moment');
END;
