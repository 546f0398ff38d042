"""Ordinary training scripts that work well as leptond jobs, meant to be read and copied."""
