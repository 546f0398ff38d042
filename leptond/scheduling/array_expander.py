"""Keeps enough members of large arrays unfolded ahead of need, in small transactions of their own: never on
the way of a hand-over, and never so that a submit waits."""

from __future__ import annotations

import asyncio

import structlog

from leptond.base.clock import Clock
from leptond.store import Store, StoreError
from leptond.store.planning.candidates import WINDOW
from leptond.store.queue import compact_arrays

log = structlog.get_logger("leptond.unfolder")

PAUSE_S = 0.25
"""Least time between two looks: within it, fewer jobs start than stand ready beyond what the planner sees."""

BREATH_S = 0.01
"""Pause between two transactions: whoever waits for the writer comes first."""

FAILED_AGAIN_S = 5.0


class ArrayExpander:
    """Looks again after commits while an array is partly folded; else only when it is told of one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._changed = asyncio.Event()
        self._changed.set()
        self._any = True
        store.on_commit(self._committed)

    def wake(self) -> None:
        """A large array was submitted."""
        self._any = True
        self._changed.set()

    def _committed(self) -> None:
        if self._any:
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.refill()
            except StoreError as error:
                log.error("members of arrays could not be unfolded", error=str(error))
                await asyncio.sleep(FAILED_AGAIN_S)
                self._changed.set()
            await asyncio.sleep(PAUSE_S)

    async def refill(self) -> None:
        """Unfolds until enough members of every array stand ready; those with the fewest come first."""
        while True:
            self._any = await self._store.read(compact_arrays.any_array)
            wanted = await self._store.read(compact_arrays.short) if self._any else []
            if not wanted:
                return
            for one in wanted:
                count = min(compact_arrays.SLICE, one.missing)
                # those that a plan looks at stand before them already: then nothing is to be planned anew
                seen = compact_arrays.HIGH - one.missing >= WINDOW
                await self._store.write(
                    compact_arrays.refill,
                    one.array_id,
                    count,
                    self._clock.wall(),
                    wakes_scheduler=not seen,
                )
                await asyncio.sleep(BREATH_S)
