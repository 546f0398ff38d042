"""The devices of the machine with the jobs that hold them."""

from __future__ import annotations

from collections.abc import Mapping

from leptond import schema
from leptond.api.views import bodies
from leptond.gpus.base import Sample
from leptond.store import Connection
from leptond.store.queue import attempts, gpus


def show_all(db: Connection, samples: Mapping[str, Sample], unhealthy: Mapping[str, str]) -> list[schema.Gpu]:
    """Return every known device that is present or still held by an attempt."""
    shown = []
    for known in gpus.known(db):
        if not known.present and known.job_id is None:
            continue
        pids = {attempts.pid_of(db, lease.attempt_id): lease.job_id for lease in known.leases}
        known_pids = {pid: job for pid, job in pids.items() if pid is not None}
        shown.append(bodies.gpu(known, samples.get(known.uuid), unhealthy, known_pids))
    return shown
