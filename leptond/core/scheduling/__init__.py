"""Scheduling decisions: which jobs start, on which GPUs, and why the others wait."""
