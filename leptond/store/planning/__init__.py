"""What the planner reads, and what it decided, written in one transaction."""
