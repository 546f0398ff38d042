"""Who stands on deck: at the gate of an attempt that has not been claimed, so that a GPU which comes free is
handed over with one commit and one word. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leptond.core.jobs.model import ExitRecord, Job


def same_launch(one: Job, other: Job) -> bool:
    """Whether what was prepared for `one` is right for `other`: the same attempt of the same job, and nothing
    changed that its process is told."""
    return _told(one) == _told(other)


def _told(job: Job) -> tuple[Any, ...]:
    return (
        job.id,
        job.attempt,
        job.spec,
        job.name,
        job.time_limit_s,
        job.gpus,
        job.gpu_memory_bytes,
        job.exclusive,
        job.priority,
        job.queue,
        job.labels,
        job.retries,
        job.tuned_version,
    )


def ended_well(record: ExitRecord) -> bool:
    """Whether an end leaves nothing to be judged: the job is over, and so are its GPUs' duties."""
    return (
        record.exit_code == 0
        and record.stop_reason is None
        and record.exec_error is None
        and not record.killed
        and not record.unkillable
        and not record.oom_kills
    )


def moves(
    standing: Mapping[int, Job], wanted: Sequence[Job], pending: Mapping[int, Job], size: int
) -> tuple[list[Job], list[int]]:
    """Whom to bring on deck and whom to send away (ids). `standing`: who is there, by id, as they were
    prepared; `wanted`: who is likely to start next, the likeliest first; `pending`: those who stand there and
    still wait, as they are now; `size`: places.

    Who stands there stays while he may still be of use: a guess that turns out right later has cost nothing.
    """
    gone = [id for id, job in standing.items() if id not in pending or not same_launch(job, pending[id])]
    wanted = wanted[:size]
    stay = {id for id in standing if id not in gone}
    fresh = [job for job in wanted if job.id not in standing]
    likely = {job.id for job in wanted}
    for id in [id for id in standing if id in stay and id not in likely]:
        if len(stay) + len(fresh) <= size:
            break
        stay.discard(id)
        gone.append(id)
    return fresh[: max(0, size - len(stay))], gone
