-- The planner's windows of jobs that need GPUs hold no others: on a machine with an idle GPU, a queue of jobs
-- that need none was read and judged at every look.
DROP INDEX jobs_by_order;
DROP INDEX jobs_by_due;
DROP INDEX jobs_by_due_alone;
DROP INDEX jobs_by_run;
DROP INDEX jobs_urgent;
DROP INDEX jobs_by_owner;
CREATE INDEX jobs_by_order ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_due ON jobs (lane, due_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_due_alone ON jobs (alone_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_run ON jobs (short_s, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_urgent ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND urgent = 1 AND gpus > 0;
CREATE INDEX jobs_urgent_cpu ON jobs (order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND urgent = 1 AND gpus = 0;
CREATE INDEX jobs_by_owner ON jobs (user, queue, coalesce(project, ''), order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus > 0;
CREATE INDEX jobs_by_owner_cpu ON jobs (user, queue, coalesce(project, ''), order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus = 0;
