"""Answers built from rows: each function turns what the store read into a body of :mod:`leptond.schema`."""
