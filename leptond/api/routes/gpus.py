"""The devices over HTTP."""

from __future__ import annotations

from leptond import schema
from leptond.api.http.context import Context
from leptond.api.http.routing import Call, Table
from leptond.api.views import bodies, devices
from leptond.base.errors import NotFound
from leptond.core.access.policies import Policy
from leptond.store.queue import gpus

table = Table("gpus")


@table.route("GET", "/v1/gpus", Policy.LOOK, answer=schema.GpuList)
async def list_gpus(call: Call) -> schema.GpuList:
    """List the devices, their state, and the jobs that hold them."""
    view = call.context.gpu_view
    items = await call.context.store.look(devices.show_all, view.samples(), view.unhealthy(), call.rights)
    return schema.GpuList(items=items, backend=view.backend, note=view.note)


async def _set(call: Call, reason: str | None) -> schema.Gpu:
    text = call.path("index")
    if not (text.isascii() and text.isdecimal()) or len(text) > 6:
        raise NotFound(f"there is no GPU {text[:40]!r}", hint="`leptonctl gpus` lists the devices")
    context: Context = call.context
    known = await context.store.write(
        gpus.set_drained, int(text), reason, call.caller.user, context.clock.wall()
    )
    view = context.gpu_view
    return bodies.gpu(known, view.samples().get(known.uuid), view.unhealthy(), {})


@table.route(
    "POST",
    "/v1/gpus/{index}/drain",
    Policy.OPERATE,
    body=schema.Drain,
    body_optional=True,
    answer=schema.Gpu,
    errors=(404,),
)
async def drain(call: Call) -> schema.Gpu:
    """Take a device out of service. What runs on it goes on; nothing new starts there."""
    return await _set(call, call.body.reason)


@table.route("POST", "/v1/gpus/{index}/undrain", Policy.OPERATE, answer=schema.Gpu, errors=(404,))
async def undrain(call: Call) -> schema.Gpu:
    """Put a device back into service."""
    return await _set(call, None)
