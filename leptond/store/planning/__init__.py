"""The planner's input (snapshot, candidates, owners, job_cache), its decisions, in one transaction
(commit_plan), the successors of running attempts (successors), and forecasts."""
