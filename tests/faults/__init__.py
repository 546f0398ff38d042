"""What happens when things break: kills at random, restarts, jobs that will not die."""
