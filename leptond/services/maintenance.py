"""What the daemon does for its own files while nobody asks: backups of the database, and the end of what was
kept long enough."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading

import structlog

from leptond.base.clock import Clock
from leptond.config import Settings
from leptond.services.retention import Retention
from leptond.store import Store
from leptond.store.database import backup

log = structlog.get_logger("leptond.maintenance")

QUIET_START_S = 60.0
"""The first look comes so long after the start: a restart has better things to do."""

FAILED_AGAIN_S = 3600.0
PURGE_EVERY_S = 3600.0


class Maintenance:
    """Sleeps until something is due: a backup, or a look at what has been kept long enough."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, retention: Retention) -> None:
        self._settings = settings.storage
        self._limits = settings.retention.limits()
        self._checkpoints = settings.retention.checkpoints
        self._store = store
        self._clock = clock
        self._retention = retention

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._backups())
            both.create_task(self._purges())

    async def _purges(self) -> None:
        await asyncio.sleep(QUIET_START_S)
        while True:
            try:
                await self._retention.leftovers()
                await self._retention.purge(self._limits, checkpoints=self._checkpoints, by="retention")
            except (OSError, sqlite3.Error) as error:
                log.error("the purge did not end", error=str(error))
            await asyncio.sleep(PURGE_EVERY_S)

    async def _backups(self) -> None:
        every_s = self._settings.backup_every_s
        if not every_s:
            return
        await asyncio.sleep(min(QUIET_START_S, every_s))
        while True:
            await asyncio.sleep(await self._backup(every_s))

    async def _backup(self, every_s: float) -> float:
        """Takes a backup if one is due; seconds until the next look."""
        state_dir = self._store.path.parent
        taken = await asyncio.to_thread(backup.kept, state_dir)
        now = self._clock.wall()
        # an age below zero: the clock was set back, so nothing is known about the age
        if taken and 0 <= now - taken[0].taken_at < every_s:
            return min(every_s - (now - taken[0].taken_at), FAILED_AGAIN_S)
        try:
            one = await keep_backup(self._store, now, self._settings.backup_keep)
        except (OSError, sqlite3.Error) as error:
            log.error("no backup could be taken", error=str(error))
            return min(every_s, FAILED_AGAIN_S)
        log.info("backup taken", name=one.name, bytes=one.bytes)
        return min(every_s, FAILED_AGAIN_S)


async def keep_backup(store: Store, now: float, count: int) -> backup.Backup:
    """A backup in the state directory, of which the newest `count` stay. Raises OSError, sqlite3.Error."""
    state_dir = store.path.parent
    stop = threading.Event()

    def work() -> backup.Backup:
        need = 2 * store.path.stat().st_size
        if shutil.disk_usage(state_dir).free < need:
            raise OSError(28, f"less than {need} bytes are free in {state_dir}")
        one = backup.keep(state_dir, store.path, now=now, stop=stop)
        backup.forget_old(state_dir, count)
        return one

    try:
        return await asyncio.to_thread(work)
    finally:
        stop.set()
