"""The policies, by the name that the configuration calls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from leptond.core.policies.auto import auto, throughput
from leptond.core.policies.easy import easy
from leptond.core.policies.queues import fifo, firstfit, shortest
from leptond.core.turn import Turn

POLICIES: Mapping[str, Callable[[Turn], None]] = {
    "auto": auto,
    "fifo": fifo,
    "firstfit": firstfit,
    "shortest": shortest,
    "easy": easy,
    "throughput": throughput,
}
"""Each takes its moves on a turn."""
