"""Large arrays wait as one compact row each. Here enough members are expanded ahead of need, in small
transactions of their own: never on the way of a hand-over, and never so that a submit waits.

On the way of a submit to a start this comes between the submit (store/queue/submit.py) and the pass that sees
the members (pass_reader.py)."""

from __future__ import annotations

import asyncio

import structlog

from leptond.base.clock import Clock
from leptond.store import Store, StoreError
from leptond.store.planning.candidates import WINDOW
from leptond.store.queue import compact_arrays

log = structlog.get_logger("leptond.array_expander")

PAUSE_S = 0.25
"""Least time between two rounds: within it, fewer jobs start than are ready beyond the planner's window."""

BREATH_S = 0.01
"""Pause between two transactions: other writes come first."""

RETRY_S = 5.0


class ArrayExpander:
    """Expands after commits while an array is partly compact; else only when :meth:`wake` is called."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._changed = asyncio.Event()
        self._changed.set()
        self._any = True
        store.on_commit(self._committed)

    @property
    def at_rest(self) -> bool:
        """True while no array is compact: commits start no round then."""
        return not self._any

    def wake(self) -> None:
        """A large array was submitted."""
        self._any = True
        self._changed.set()

    def _committed(self) -> None:
        if self._any:
            self._changed.set()

    async def run(self) -> None:
        """Expand until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.refill()
            except StoreError as error:
                log.error("arrays.not_expanded", error=str(error), retry_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
                self._changed.set()
            await asyncio.sleep(PAUSE_S)

    async def refill(self) -> None:
        """Expand until every array has enough members in the queue; those with the fewest come first."""
        while True:
            self._any = await self._store.read(compact_arrays.any_array)
            wanted = await self._store.read(compact_arrays.short) if self._any else []
            if not wanted:
                return
            for one in wanted:
                count = min(compact_arrays.SLICE, one.missing)
                # the planner's window is full of members before these: then there is nothing to plan anew
                beyond = compact_arrays.HIGH - one.missing >= WINDOW
                await self._store.write(
                    compact_arrays.refill,
                    one.array_id,
                    count,
                    self._clock.wall(),
                    wakes_scheduler=not beyond,
                )
                await asyncio.sleep(BREATH_S)
