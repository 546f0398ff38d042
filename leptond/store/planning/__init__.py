"""What the planner reads (snapshot, candidates, owners, job_cache), what it decided, in one transaction
(commit_plan), the successors of running attempts (successors), and forecasts."""
