"""Webhooks to deliver and output to copy after an end."""
