-- Attempts by their end: the picture of who had which GPU when looks at a span of time.
CREATE INDEX attempts_by_end ON attempts (ended_at) WHERE state = 'ended' AND n_gpus > 0;
