"""Daily sums of the ledger: complete days are added up, and details past their age are deleted."""

from __future__ import annotations

from leptond.base.clock import Clock
from leptond.services.loop import Loop
from leptond.store import Store
from leptond.store.accounting import daily

INTERVAL_S = 3600.0


class LedgerRollup:
    """Adds up once an hour what has become complete; details of the last `detail_days` days are kept."""

    def __init__(self, store: Store, clock: Clock, detail_days: int) -> None:
        self._store = store
        self._clock = clock
        self._detail_days = detail_days
        self._loop = Loop("ledger-rollup", self._step, retry_s=INTERVAL_S)

    async def run(self) -> None:
        """Runs until cancelled."""
        await self._loop.run()

    async def _step(self) -> float:
        await self.roll_up()
        return INTERVAL_S

    async def roll_up(self) -> int:
        """Adds up every day that is complete, and returns how many there were."""
        count = 0
        while (found := await self._store.read(daily.next_day, self._clock.wall())) is not None:
            day, sums = found
            await self._store.write(daily.keep, day, sums, wakes_scheduler=False)
            count += 1
        if count:
            before = int(self._clock.wall() // daily.DAY_S) - self._detail_days
            await self._store.write(daily.forget, before, wakes_scheduler=False)
        return count
