"""The planner run forward on a snapshot: when jobs will start, and where."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.admission.admission import Admitted
from leptond.core.jobs.model import DEFAULT_QUEUE
from leptond.core.scheduling import planner
from leptond.core.scheduling.forecast import (
    MAX_PASSES,
    Eta,
    Forecast,
    StartEstimates,
    estimate_starts,
    forecast_starts,
)
from leptond.core.training.progress import pace
from leptond.store.planning import snapshot
from leptond.store.queue import lists, order_keys, submit

VISITS = 100_000
"""Most jobs that all plans of one forward run look at together: it bounds the cost, about a tenth of a
second, however deep the queue is."""

QUICK_VISITS = 10_000
QUICK_WINDOW = 100
"""The same for lists, where the first jobs of the queue are enough."""


def with_reports(db: sqlite3.Connection, inputs: planner.PlanInput) -> planner.PlanInput:
    """The input with what the running jobs report of their own progress: how long each has left."""
    attempts = lists.attempts_of(db, [job.id for job in inputs.running])
    running = []
    for job in inputs.running:
        found = attempts.get(job.id)
        left_s = pace(found[-1], inputs.now).left_s if found else None
        running.append(job if left_s is None else msgspec.structs.replace(job, reported_left_s=left_s))
    return msgspec.structs.replace(inputs, running=running)


def starts(inputs: planner.PlanInput) -> Mapping[int, Forecast]:
    """The likely starts, by job id."""
    return forecast_starts(inputs, max_passes=_plans(QUICK_VISITS, inputs))


def estimates(inputs: planner.PlanInput) -> StartEstimates:
    """Starts with their uncertainty, as far as they are asked for."""
    return StartEstimates(inputs, max_passes=_plans(VISITS, inputs))


def etas(
    inputs: planner.PlanInput, more: Sequence[planner.Waiting] = (), until: int | None = None
) -> Mapping[int, Eta]:
    """Starts with their uncertainty, by job id, of the jobs that wait and of `more`. Stops when the job
    `until` has started."""
    inputs = snapshot.with_waiting(inputs, [*inputs.waiting, *more])
    return estimate_starts(inputs, until=until, max_passes=_plans(VISITS, inputs))


def _plans(visits: int, inputs: planner.PlanInput) -> int:
    """Return the number of plans that so many visits of a job allow."""
    return max(10, min(MAX_PASSES, visits // max(1, len(inputs.waiting))))


def would_wait(
    db: sqlite3.Connection, admitted: Admitted, *, user: str, now: float, borrow: bool, most: int
) -> list[planner.Waiting]:
    """The jobs that a submit would make, the first `most` of them, as the planner would see them; nothing is
    stored."""
    spec = admitted.spec
    places = order_keys.Places(db).columns(spec, user=user, now=now, begin_at=admitted.begin_at)
    first = submit.next_id(db)
    return [
        planner.Waiting(
            id=first + number,
            priority=spec.priority,
            gpus=spec.gpus,
            since=max(now, admitted.begin_at or 0.0),
            user=user,
            project=spec.project,
            queue=spec.queue or DEFAULT_QUEUE,
            array_id=first if spec.array is not None else None,
            array_limit=admitted.array_limit,
            gpu_type=spec.gpu_type,
            gpu_memory_bytes=spec.gpu_memory_bytes,
            exclusive=spec.exclusive,
            borrow=borrow,
            preemptible=spec.preemptible,
            urgent=spec.urgent,
            limit_s=spec.time_limit_s,
            predicted_s=places["predicted_s"],
            order_keys=(
                places["order_at"],
                places["lane"],
                places["due_at"],
                places["alone_at"],
                places["short_s"],
            ),
        )
        for number in range(min(admitted.count, most))
    ]
