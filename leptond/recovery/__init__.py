"""The database against the machine: after a start, after a restored backup, after damage."""
