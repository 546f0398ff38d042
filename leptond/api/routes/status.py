"""One screen: what runs, what waits and why, and whether all is well."""

from __future__ import annotations

import os
import shutil
from datetime import datetime

from leptond import __version__, schema
from leptond.api.http.routing import Call, Table
from leptond.api.views import bodies
from leptond.api.views.devices import show_all
from leptond.api.views.explain import Explain
from leptond.core.access.policies import Policy
from leptond.core.jobs.model import LIVE
from leptond.store import Connection
from leptond.store.queue import jobs, lists, never

table = Table("status")

NEXT = 5
RECENT_S = 86400.0
LOW_DISK_BYTES = 1024**3


def midnight(now: float) -> float:
    """The last midnight, by the clock of this machine's users, in UTC seconds."""
    here = datetime.fromtimestamp(now).astimezone()
    return here.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


@table.route("GET", "/v1/status", Policy.LOOK, answer=schema.Status)
async def status(call: Call) -> schema.Status:
    """The state of the queue, the devices and the daemon, from one snapshot."""
    context = call.context
    view = context.gpu_view
    samples, unhealthy = view.samples(), view.unhealthy()
    disk = shutil.disk_usage(context.places.state_dir)

    def fetch(db: Connection) -> schema.Status:
        explain = Explain(db, context, unhealthy, call.rights)
        live, _ = lists.in_queue_order(db, lists.Filter(states=list(LIVE)), limit=100, cursor=None)
        waiting = lists.next_ones(db, NEXT)
        failed = lists.recent_failures(db, explain.now - RECENT_S, NEXT)
        attempts = lists.attempts_of(db, [job.id for job in (*live, *waiting, *failed)])
        shown_next = [explain.show(job, attempts[job.id]) for job in waiting]
        explain.add_members(shown_next)
        oldest = lists.oldest_wait(db)
        devices = show_all(db, samples, unhealthy, call.rights)
        warnings = [
            f"GPU {gpu.index} is out of service: {gpu.why_not}" for gpu in devices if not gpu.schedulable
        ]
        if disk.free < LOW_DISK_BYTES:
            warnings.append(f"the disk of {context.places.state_dir} has {disk.free >> 20} MiB left")
        return schema.Status(
            version=__version__,
            pid=os.getpid(),
            mode=context.places.mode,
            accounts=context.settings.accounts.mode,
            state=context.phase(),
            started_at=bodies.instant(context.started_at),
            counts=jobs.counts(db),
            held=lists.held_count(db),
            never=never.count(db),
            gpus=devices,
            gpu_backend=view.backend,
            gpu_note=view.note,
            cpu_slots=schema.Slots(
                total=context.settings.cpu_slots(), used=sum(1 for job in live if job.gpus == 0)
            ),
            running=[explain.show(job, attempts[job.id]) for job in live],
            next=shown_next,
            failed_today=lists.failure_count(db, midnight(explain.now)),
            failed_recently=[explain.show(job, attempts[job.id]) for job in failed],
            oldest_wait_s=round(explain.now - oldest, 3) if oldest is not None else None,
            warnings=warnings,
            notes=context.notes,
        )

    return await context.store.survey(fetch)
