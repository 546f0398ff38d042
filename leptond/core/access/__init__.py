"""Who may do what: roles, callers, and what a caller may see and do."""
