"""The record of what operators and administrators do: an event each, with who did it."""

from __future__ import annotations

from functools import partial

import structlog

from leptond.base.clock import Clock
from leptond.core.access.caller import Caller
from leptond.store import Store, StoreError
from leptond.store.database import events

log = structlog.get_logger("leptond.audit")


class Audit:
    """Writes the events."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def acted(
        self, caller: Caller, method: str, path: str, *, submitted_for: str | None = None
    ) -> None:
        """Record a request that was carried out. One that cannot be recorded is logged: it is done."""
        data = {"by": caller.user, "role": str(caller.role), "method": method, "path": path[:256]}
        if submitted_for is not None:
            data["submitted_for"] = submitted_for
        record = partial(events.append, now=self._clock.wall(), kind="access.acted", data=data)
        try:
            await self._store.write(record, wakes_scheduler=False)
        except StoreError as error:
            log.error("access.not_recorded", error=str(error), **data)
