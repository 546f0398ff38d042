"""From a commit to a start: when the queue is looked at, who is prepared, and how attempts are followed to
their end."""
