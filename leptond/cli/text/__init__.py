"""Texts for people: jobs, GPUs and output on a terminal."""
