"""Progress, and successive halving."""
