"""Standard-library helpers that know nothing of jobs: errors, clocks, paths, locks."""
