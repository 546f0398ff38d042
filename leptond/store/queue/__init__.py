"""Jobs, arrays, attempts, GPUs, queues and limits: one function a verb."""
