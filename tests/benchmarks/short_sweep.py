"""The sweep of :mod:`tests.benchmarks.sweep` with a tenth of a second of work in each training."""

from __future__ import annotations

from tests.benchmarks.bench import Bench
from tests.benchmarks.rows import Row
from tests.benchmarks.sweep import STEPS, rows_of


def run(bench: Bench) -> list[Row]:
    """Short trainings, where a start counts the most."""
    return rows_of(bench, "short", STEPS["short"])
