"""Progress of trainings, sweeps, and successive halving."""
