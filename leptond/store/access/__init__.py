"""Tokens and sessions of persons, and the jobs that connections come from."""
