"""Benchmarks: `python -m tests.benchmarks` prints one table, every figure beside a floor of the same run."""
