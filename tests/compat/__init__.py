"""What users rely on, as each release had it, and what has been changed since on purpose."""
