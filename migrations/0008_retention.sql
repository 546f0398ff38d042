-- Which outputs are not kept any more, the oldest that are, and who depends on a finished job.
ALTER TABLE attempts ADD COLUMN log_removed INTEGER NOT NULL DEFAULT 0 CHECK (log_removed IN (0, 1));
CREATE INDEX attempts_output ON attempts (ended_at) WHERE state = 'ended' AND log_removed = 0;
CREATE INDEX dependencies_of ON dependencies (on_job_id);
