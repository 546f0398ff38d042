"""Progress of jobs, and the trials of sweeps."""
