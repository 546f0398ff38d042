"""Standby: the next attempts of pending jobs, prepared up to their gates before they are claimed, so that a
GPU which comes free is handed over with one commit and one message. Which jobs are prepared, and when what
was prepared is still right. Pure; the processes are in :mod:`leptond.scheduling.standby`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from leptond.core.jobs.fields import names
from leptond.core.jobs.model import ExitRecord, Identity, Job


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The next attempt of a pending job at its gate, or on its way there (`shim` is None then): `job` as it
    was when that was prepared."""

    job: Job
    attempt_id: str
    shim: Identity | None


def same_launch(one: Job, other: Job) -> bool:
    """Return True if what was prepared for `one` is right for `other`: the same attempt of the same job, and
    nothing changed that its process is given."""
    return _launch_of(one) == _launch_of(other)


_launch_of: Callable[[Job], tuple[Any, ...]] = attrgetter(*names(launch=True))


def ended_well(record: ExitRecord) -> bool:
    """Return True if an end leaves nothing to be judged: the job has succeeded, and its GPUs are free."""
    return (
        record.exit_code == 0
        and record.stop_reason is None
        and record.exec_error is None
        and not record.killed
        and not record.unkillable
        and not record.oom_kills
    )


def standby_changes(
    prepared: Mapping[int, Job], wanted: Sequence[Job], pending: Mapping[int, Job], places: int
) -> tuple[list[Job], list[int]]:
    """Return the jobs to prepare and the ids of those whose prepared attempt is to be discarded.

    `prepared`: the jobs of the prepared attempts, by id, as they were then; `wanted`: the jobs that are
    likely to start next, the likeliest first; `pending`: the prepared ones that still wait, as they are now.

    A prepared attempt is kept while it may still be of use: a guess that turns out right later has cost
    nothing.
    """
    gone = [id for id, job in prepared.items() if id not in pending or not same_launch(job, pending[id])]
    wanted = wanted[:places]
    kept = {id for id in prepared if id not in gone}
    fresh = [job for job in wanted if job.id not in prepared]
    likely = {job.id for job in wanted}
    for id in [id for id in prepared if id in kept and id not in likely]:
        if len(kept) + len(fresh) <= places:
            break
        kept.discard(id)
        gone.append(id)
    return fresh[: max(0, places - len(kept))], gone
