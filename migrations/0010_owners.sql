-- The first waiting jobs of each user, queue and project, however many others stand before them: what caps, fair
-- share and queues that own GPUs decide must not depend on how deep somebody else has filled the queue.
CREATE INDEX jobs_by_owner ON jobs (user, queue, coalesce(project, ''), order_at, id)
    WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0;
