"""The devices over HTTP."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from leptond.api import types, views
from leptond.api.context import Context
from leptond.api.routing import Call, Table
from leptond.errors import NotFound
from leptond.gpus.base import Sample
from leptond.store import attempts, gpus

table = Table("gpus")


def show_all(
    db: sqlite3.Connection, samples: Mapping[str, Sample], sick: Mapping[str, str]
) -> list[types.Gpu]:
    """Every known device that is present, or that an attempt still holds."""
    shown = []
    for known in gpus.known(db):
        if not known.present and known.job_id is None:
            continue
        pids = {attempts.get(db, lease.attempt_id).pid: lease.job_id for lease in known.leases}
        known_pids = {pid: job for pid, job in pids.items() if pid is not None}
        shown.append(views.gpu(known, samples.get(known.uuid), sick, known_pids))
    return shown


@table.route("GET", "/v1/gpus", answer=types.GpuList)
async def list_gpus(call: Call) -> types.GpuList:
    """The devices, how they are doing, and who has them."""
    view = call.context.gpu_view
    items = await call.context.store.read(show_all, view.samples(), view.sick())
    return types.GpuList(items=items, backend=view.backend, note=view.note)


async def _set(call: Call, reason: str | None) -> types.Gpu:
    call.who.must_be_admin()
    text = call.path("index")
    if not text.isdecimal() or len(text) > 6:
        raise NotFound(f"there is no GPU {text[:40]!r}", hint="`leptonctl gpus` lists the devices")
    context: Context = call.context
    known = await context.store.write(
        gpus.set_drained, int(text), reason, call.who.user, context.clock.wall()
    )
    view = context.gpu_view
    return views.gpu(known, view.samples().get(known.uuid), view.sick(), {})


@table.route(
    "POST",
    "/v1/gpus/{index}/drain",
    body=types.Drain,
    body_optional=True,
    answer=types.Gpu,
    errors=(404,),
)
async def drain(call: Call) -> types.Gpu:
    """Take a device out of service. What runs on it goes on; nothing new starts there."""
    return await _set(call, call.body.reason)


@table.route("POST", "/v1/gpus/{index}/undrain", answer=types.Gpu, errors=(404,))
async def undrain(call: Call) -> types.Gpu:
    """Put a device back into service."""
    return await _set(call, None)
