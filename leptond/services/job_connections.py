"""The job that a local client belongs to, by the kernel's word on its process. A job is a client like others,
with the rights of its owner and never more; in particular it is not the administrator, whose account it may
run under."""

from __future__ import annotations

import os
import re

from leptond.base import procfs
from leptond.store import Store
from leptond.store.access import job_processes
from leptond.store.access.job_processes import JobOwner

DEEPEST = 256
"""Most parents that are followed."""

TRIES = 3
"""Looks at a process whose parents end while they are followed."""

_COOKIE = re.compile(rb"(?:^|\0)LEPTOND_ATTEMPT_ID=([0-9A-Za-z_-]{1,64})(?:\0|\Z)")


class Vanished(Exception):
    """The process ended before it could be looked at."""


def line_of(pid: int) -> list[int]:
    """Return the pids of a process and its parents, the nearest first. Raises Vanished."""
    for _ in range(TRIES):
        found = [pid]
        while len(found) < DEEPEST:
            stat = procfs.read_stat(found[-1])
            if stat is None:
                break  # it ended meanwhile, and its children have another parent now
            if stat.parent <= 1:
                return found
            found.append(stat.parent)
        else:
            return found
        if len(found) == 1:
            break
    raise Vanished


def cookie_of(pid: int) -> str | None:
    """Return the id of the attempt in whose environment a process was started; None where there is none, or
    it may not be read."""
    environ = procfs.read_file(pid, "environ")
    match = _COOKIE.search(environ) if environ else None
    return match[1].decode() if match is not None else None


async def job_of(store: Store, pid: int) -> JobOwner | None:
    """Return the job that the process `pid` belongs to; None for a process of no job of this daemon. Raises
    Vanished."""
    if pid <= 0 or pid == os.getpid():
        return None  # outside of this PID namespace, in which all jobs are; or this very process
    found = await store.look(job_processes.below_shims, line_of(pid))
    if found is not None:
        return found
    attempt_id = cookie_of(pid)
    return await store.look(job_processes.of_attempt, attempt_id) if attempt_id is not None else None
