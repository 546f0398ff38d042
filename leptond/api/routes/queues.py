"""Queues, fair share and caps over HTTP."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from leptond import schema
from leptond.api.http.routing import Call, Reply, Table
from leptond.base.errors import Invalid, NotFound
from leptond.config import Settings
from leptond.core.access.policies import Policy
from leptond.core.access.rights import Rights
from leptond.core.admission.queues import Queue
from leptond.core.scheduling.fair_share import Kind
from leptond.services import access
from leptond.store import Connection
from leptond.store.queue import fair_share, gpus, queues

table = Table("queues")

NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


def _name(call: Call, what: str) -> str:
    name = call.path("name")
    if not NAME.match(name):
        raise NotFound(f"there is no {what} {name[:40]!r}")
    return name


class _Seen:
    """Load of the queues, from one snapshot."""

    def __init__(self, db: Connection, now: float, boot: float) -> None:
        self._db = db
        self._index = {gpu.uuid: gpu.index for gpu in gpus.known(db) if gpu.present}
        self.live = fair_share.live(db, now=now, boot=boot, boot_id=None)
        self.used = fair_share.used(db, now=now, boot=boot)

    def show(self, queue: Queue) -> schema.Queue:
        """Return a queue as HTTP shows it."""
        own = [one for one in self.live if one.owner.queue == queue.name]
        used = sum(gpu_s for owner, gpu_s in self.used.items() if owner.queue == queue.name)
        fields: dict[str, Any] = msgspec.structs.asdict(queue)
        return schema.Queue(
            **{**fields, "users": list(queue.users)}
            | {"gpus": [schema.QueueGpu(uuid=uuid, index=self._index.get(uuid)) for uuid in queue.gpus]},
            pending=queues.pending(self._db, "queue", queue.name),
            running=len(own),
            running_gpus=round(sum(one.gpus for one in own), 3),
            used_gpu_s=round(used, 3),
        )


def _show(call: Call, db: Connection, name: str) -> schema.Queue:
    clock = call.context.clock
    return _Seen(db, clock.wall(), clock.boot()).show(queues.find(db, name))


@table.route("GET", "/v1/queues", Policy.LOOK, answer=schema.QueueList)
async def list_queues(call: Call) -> schema.QueueList:
    """List the queues with their GPUs and their load."""
    now, boot = call.context.clock.wall(), call.context.clock.boot()

    def fetch(db: Connection) -> schema.QueueList:
        seen = _Seen(db, now, boot)
        return schema.QueueList(items=[seen.show(queue) for queue in queues.every(db)])

    return await call.context.store.look(fetch)


@table.route("GET", "/v1/queues/{name}", Policy.LOOK, answer=schema.Queue, errors=(404,))
async def get_queue(call: Call) -> schema.Queue:
    """One queue."""
    name = _name(call, "queue")
    return await call.context.store.look(lambda db: _show(call, db, name))


@table.route(
    "POST",
    "/v1/queues",
    Policy.ADMINISTER,
    body=schema.NewQueue,
    answer=schema.Queue,
    status=201,
    errors=(409,),
)
async def make_queue(call: Call) -> Reply:
    """Make a queue. It counts at once."""
    body, now, by = call.body, call.context.clock.wall(), call.caller.user
    values = {name: getattr(body, name) for name in body.__struct_fields__ if name != "gpus"}

    def change(db: Connection) -> schema.Queue:
        queues.create(db, Queue(**values), body.gpus, by=by, now=now)
        return _show(call, db, body.name)

    made = await call.context.store.write(change)
    return Reply(made, status=201, headers={"Location": f"/v1/queues/{made.name}"})


@table.route(
    "PATCH",
    "/v1/queues/{name}",
    Policy.ADMINISTER,
    body=schema.QueuePatch,
    answer=schema.Queue,
    errors=(404,),
)
async def change_queue(call: Call) -> schema.Queue:
    """Change a queue. It counts at once, for jobs that wait already too; only their own limits stay."""
    name, body, now, by = _name(call, "queue"), call.body, call.context.clock.wall(), call.caller.user
    changes = {
        field: value
        for field in body.__struct_fields__
        if (value := getattr(body, field)) is not msgspec.UNSET
    }
    owned = changes.pop("gpus", None)

    def change(db: Connection) -> schema.Queue:
        queues.change(db, name, changes, owned, by=by, now=now)
        return _show(call, db, name)

    return await call.context.store.write(change)


@table.route("DELETE", "/v1/queues/{name}", Policy.ADMINISTER, status=204, errors=(404, 409))
async def remove_queue(call: Call) -> None:
    """Remove a queue in which no job waits or runs; its GPUs are free to all queues then."""
    name, now = _name(call, "queue"), call.context.clock.wall()
    await call.context.store.write(queues.remove, name, by=call.caller.user, now=now)


# -- shares and caps -------------------------------------------------------------------------------------


@table.route("GET", "/v1/shares", Policy.LOOK, answer=schema.ShareList)
async def list_shares(call: Call) -> schema.ShareList:
    """List limits, current and decayed usage per user and project."""
    now, boot, settings = call.context.clock.wall(), call.context.clock.boot(), call.context.settings
    items = await call.context.store.look(_shares, settings, now, boot, call.rights)
    half_life_s, handicap_s = settings.shares.half_life_s, settings.shares.max_handicap_s
    return schema.ShareList(items=items, half_life_s=half_life_s, max_handicap_s=handicap_s)


def _shares(
    db: Connection, settings: Settings, now: float, boot: float, rights: Rights
) -> list[schema.Share]:
    limits, weights = fair_share.limits(db, settings.shares.limits()), fair_share.weights(db)
    live, used = (
        fair_share.live(db, now=now, boot=boot, boot_id=None),
        fair_share.used(db, now=now, boot=boot),
    )
    waiting = fair_share.waiting(db)
    found = []
    for kind, of in (("user", weights.users), ("project", weights.projects)):
        which: Kind = "user" if kind == "user" else "project"
        names = {getattr(owner, kind) for owner in used} | {name for k, name in waiting if k == kind}
        names |= {name for k, name in limits.own if k == kind}
        if kind == "project":
            names = {name for name in names if name and access.sees_project(rights, used, name)}
        for name in sorted(names - {None}):
            caps = limits.of(which, name)
            found.append(
                schema.Share(
                    kind=which,
                    name=name,
                    own=(which, name) in limits.own,
                    max_gpus=caps.max_gpus,
                    max_pending=caps.max_pending,
                    weight=of.get(name, 1.0),
                    running_gpus=round(sum(one.gpus for one in live if getattr(one.owner, kind) == name), 3),
                    pending=waiting.get((which, name), 0),
                    used_gpu_s=round(sum(s for owner, s in used.items() if getattr(owner, kind) == name), 3),
                )
            )
    return found


def _kind(call: Call) -> Literal["user", "project"]:
    match call.path("kind"):
        case "user":
            return "user"
        case "project":
            return "project"
        case other:
            raise NotFound(f"limits are set for a user or a project, not for {other[:40]!r}")


@table.route(
    "PUT",
    "/v1/limits/{kind}/{name}",
    Policy.ADMINISTER,
    body=schema.LimitBody,
    answer=schema.Share,
    errors=(404,),
)
async def set_limits(call: Call) -> schema.Share:
    """Set the caps and the weight of a user or a project, in place of what was set. They count at once."""
    kind, name = _kind(call), _name(call, "user or project")
    now, boot, settings = call.context.clock.wall(), call.context.clock.boot(), call.context.settings
    body = call.body
    if body.max_gpus is None and body.max_pending is None and body.weight is None:
        raise Invalid("nothing is set", pointer="/max_gpus", hint="DELETE forgets what was set")
    limit = fair_share.Limit(
        kind=kind, name=name, max_gpus=body.max_gpus, max_pending=body.max_pending, weight=body.weight
    )

    def change(db: Connection) -> schema.Share:
        fair_share.set_limit(db, limit, by=call.caller.user, now=now)
        every = _shares(db, settings, now, boot, call.rights)
        return next(one for one in every if (one.kind, one.name) == (kind, name))

    return await call.context.store.write(change)


@table.route("DELETE", "/v1/limits/{kind}/{name}", Policy.ADMINISTER, status=204, errors=(404,))
async def remove_limits(call: Call) -> None:
    """Remove the caps and the weight set for a user or a project: those of the configuration hold again."""
    kind, name, now = _kind(call), _name(call, "user or project"), call.context.clock.wall()
    await call.context.store.write(fair_share.remove_limit, kind, name, by=call.caller.user, now=now)
