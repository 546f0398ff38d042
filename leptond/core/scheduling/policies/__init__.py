"""The policies, by their name in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from leptond.core.scheduling.plan_builder import PlanBuilder
from leptond.core.scheduling.policies.auto import auto, throughput
from leptond.core.scheduling.policies.easy import easy
from leptond.core.scheduling.policies.queues import fifo, firstfit, shortest

POLICIES: Mapping[str, Callable[[PlanBuilder], None]] = {
    "auto": auto,
    "fifo": fifo,
    "firstfit": firstfit,
    "shortest": shortest,
    "easy": easy,
    "throughput": throughput,
}
"""Each makes its moves on a :class:`leptond.core.scheduling.plan_builder.PlanBuilder`."""
