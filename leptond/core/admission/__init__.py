"""Admission of jobs, and the queues that they enter by."""
