"""The devices of the machine with the jobs that hold them."""

from __future__ import annotations

from collections.abc import Mapping

from leptond import schema
from leptond.api.views import bodies
from leptond.core.access.rights import Rights
from leptond.gpus.base import Sample
from leptond.store import Connection
from leptond.store.queue import attempts, gpus, ownership


def show_all(
    db: Connection, samples: Mapping[str, Sample], unhealthy: Mapping[str, str], rights: Rights
) -> list[schema.Gpu]:
    """Return every known device that is present or still held by an attempt. The names of processes of jobs
    that are not for the caller are left out."""
    shown = []
    for known in gpus.known(db):
        if not known.present and known.job_id is None:
            continue
        pids = {attempts.pid_of(db, lease.attempt_id): lease.job_id for lease in known.leases}
        known_pids = {pid: job for pid, job in pids.items() if pid is not None}
        one = bodies.gpu(known, samples.get(known.uuid), unhealthy, known_pids)
        if one.processes and not rights.sees_everything:
            owners = ownership.of_jobs(db, {lease.job_id for lease in known.leases})
            for process in one.processes:
                owner = owners.get(process.job_id) if process.job_id is not None else None
                if owner is None or not rights.visible.shows(owner.user, owner.project):
                    process.name = None
        shown.append(one)
    return shown
