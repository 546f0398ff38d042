"""Adds the ledger up, a day at a time, and forgets details that are old enough."""

from __future__ import annotations

import asyncio
import sqlite3

import structlog

from leptond.base.clock import Clock
from leptond.store import Store
from leptond.store.accounting import daily

log = structlog.get_logger("leptond.ledger")

LOOK_S = 3600.0


class LedgerRollup:
    """Looks once an hour whether a day can be added up; `detail_days` of details are kept."""

    def __init__(self, store: Store, clock: Clock, detail_days: int) -> None:
        self._store = store
        self._clock = clock
        self._detail_days = detail_days

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.roll_up()
            except sqlite3.Error as error:
                log.warning("the ledger cannot be added up now", error=str(error))
            await asyncio.sleep(LOOK_S)

    async def roll_up(self) -> int:
        """Adds up every day that can be; how many."""
        count = 0
        while (found := await self._store.read(daily.next_day, self._clock.wall())) is not None:
            day, sums = found
            await self._store.write(daily.keep, day, sums, wakes_scheduler=False)
            count += 1
        if count:
            before = int(self._clock.wall() // daily.DAY_S) - self._detail_days
            await self._store.write(daily.forget, before, wakes_scheduler=False)
        return count
