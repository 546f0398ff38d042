"""The forecast and the estimate of a submit."""

from __future__ import annotations

from datetime import datetime

import msgspec

from leptond.core.jobs.model import Reason


class Planned(msgspec.Struct, kw_only=True):
    """A start that is foretold. `earliest_at` and `latest_at`: if all runs take half of what is expected, or
    twice. `ends_known` is False where nothing is known of the run: then `ends_at` is as the planner takes
    it."""

    id: int
    ref: str
    name: str
    user: str
    gpus: int
    gpu_indices: list[int]
    starts_at: datetime
    earliest_at: datetime | None
    latest_at: datetime | None
    ends_at: datetime
    ends_known: bool = True


class Plan(msgspec.Struct, kw_only=True):
    """The predicted starts under `policy`, the earliest first. `not_foretold`: the number of jobs in the
    planner's window that start later than the forecast reaches, or not at all as things are."""

    policy: str
    at: datetime
    items: list[Planned]
    not_foretold: int


class Estimate(msgspec.Struct, kw_only=True):
    """When a job would start if it were submitted now, of an array its first member. `expected_run_s` comes
    from earlier runs of its kind, else from its limit. `warnings`: those that a submit would answer with."""

    jobs: int
    sentence: str = ""
    reason: Reason | None = None
    starts_at: datetime | None = None
    earliest_at: datetime | None = None
    latest_at: datetime | None = None
    ends_at: datetime | None = None
    gpu_indices: list[int] = []
    expected_run_s: float | None = None
    warnings: list[str] = []
